"""Pictures of rows by content_id: thumbnails, made in a few threads and each once, and whole images.

Only a visible row's image is read, from inside its corpus root, and only if its bytes are still those of the
content_id: whatever lies under the name now is never sent.
"""

from __future__ import annotations

import io
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pfgdata.corpus import stored_bytes
from pfgdata.images import THUMBNAIL_SIDE, Limits, decode, one_opencv_thread, thumbnail_jpeg
from pfgdata.store import ThumbnailCache
from pfgdata.web.desk import Shown

__all__ = ["Picture", "Pictures"]

_SHOWN_BY_BROWSERS = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
}
_THREADS = 4
_QUALITY = 92  # of a whole image that is converted


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Bytes that a browser can show, and their media type."""

    data: bytes
    kind: str


@dataclass(slots=True)
class _Making:
    """A thumbnail under way, and how many wait for it."""

    future: Future[bytes | None]
    waiting: int = 1


class Pictures:
    """Thumbnails and images of one store. Safe for threads."""

    def __init__(self, cache: ThumbnailCache, *, follow_links: bool) -> None:
        self._cache = cache
        self._follow = follow_links
        threads = min(_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pfg-thumbnail")
        self._making: dict[bytes, _Making] = {}
        self._lock = threading.Lock()
        self.decoded = 0  # thumbnails that were made, not read from the cache

    def close(self) -> None:
        """Begin no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def thumbnail(self, shown: Shown, content_id: bytes) -> Future[bytes | None]:
        """A JPEG, None for an id of no visible row; ImageError where its file is gone or broken.

        Whoever waits no longer lets go of it: what nobody waits for is not begun.
        """
        with self._lock:
            making = self._making.get(content_id)
            if making is not None:
                making.waiting += 1
                return making.future
            future = self._pool.submit(self._thumbnail, shown, content_id)
            self._making[content_id] = _Making(future)
        future.add_done_callback(lambda _: self._forget(content_id, future))
        return future

    def let_go(self, content_id: bytes) -> None:
        """One that asked for a thumbnail does not wait for it any more."""
        with self._lock:
            making = self._making.get(content_id)
            if making is None:
                return
            making.waiting -= 1
            if making.waiting:
                return
            del self._making[content_id]
        making.future.cancel()

    def picture(self, shown: Shown, content_id: bytes) -> Picture | None:
        """The image: its own bytes where browsers know the format, else PNG or JPEG. Raises ImageError."""
        rows = shown.catalog.find(content_id)
        if not len(rows):
            return None
        image = shown.catalog.image(rows)
        _, data = stored_bytes(image, shown.roots, follow_links=self._follow)
        kind = _SHOWN_BY_BROWSERS.get(shown.catalog.formats(rows[-1:])[0])
        if kind is not None:
            return Picture(data=data, kind=kind)
        return _converted(decode(data, limits=Limits.of_stored(image.width, image.height)).array)

    def _thumbnail(self, shown: Shown, content_id: bytes) -> bytes | None:
        rows = shown.catalog.find(content_id)
        if not len(rows):
            return None
        kept = self._cache.read(content_id)
        if kept is not None:
            return kept
        image = shown.catalog.image(rows)
        _, data = stored_bytes(image, shown.roots, follow_links=self._follow)
        limits = Limits.of_stored(image.width, image.height)
        with one_opencv_thread():
            made = thumbnail_jpeg(decode(data, limits=limits, at_least=THUMBNAIL_SIDE).array)
        self.decoded += 1
        self._cache.write(content_id, made)
        return made

    def _forget(self, content_id: bytes, future: Future[bytes | None]) -> None:
        with self._lock:
            making = self._making.get(content_id)
            if making is not None and making.future is future:
                del self._making[content_id]


def _converted(pixels: npt.NDArray[np.uint8]) -> Picture:
    """A PNG of what has clear parts, a JPEG of all else."""
    from PIL import Image

    clear, file = pixels.shape[2] == 4, io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if clear else "JPEG", quality=_QUALITY)
    return Picture(data=file.getvalue(), kind="image/png" if clear else "image/jpeg")
