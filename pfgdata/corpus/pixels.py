"""The pixels of one image: of a row of a store, or of a file that a user names.

A row's image is read from the first of its files that still has its bytes, links followed, for its content
decides; what its ingest let in is let in again, whatever the usual limits are. What hangs is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pfgdata.corpus.pool import Timeout, ordered_pool
from pfgdata.corpus.reader import MAX_BYTES, read, read_file
from pfgdata.corpus.watch import Watch, far_readers, too_long
from pfgdata.errors import AccessError, ImageError
from pfgdata.images import IMAGE_SECONDS, Limits, decode
from pfgdata.paths import place_of
from pfgdata.records import ImageKey, StoredImage, content_id

__all__ = ["ReadImage", "read_image", "read_images", "stored_bytes"]

R = TypeVar("R")
S = TypeVar("S", bound=StoredImage | Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadImage:
    """An image, decoded: `pixels` are uint8 [H, W, 3], or [H, W, 4] where some are not opaque."""

    content_id: bytes
    file: str  # which one had its bytes
    pixels: npt.NDArray[np.uint8]


def read_image(
    image: StoredImage | Path, *, roots: Mapping[str, str] | None = None, seconds: float = IMAGE_SECONDS
) -> ReadImage:
    """One image, as `read_images` reads it. Raises AccessError or ContentError that names the file."""
    ((_, found),) = read_images(
        [image], lambda read: read, roots=roots or {}, threads=1, ahead=1, seconds=seconds
    )
    if isinstance(found, ImageError):
        what = "cannot be read" if isinstance(found, AccessError) else "no image that can be used"
        raise type(found)(f"{found.file}: {what} ({found})")
    return found


def read_images(
    images: Iterable[S],
    prepare: Callable[[ReadImage], R],
    *,
    roots: Mapping[str, str],
    threads: int,
    ahead: int,
    seconds: float = IMAGE_SECONDS,
) -> Generator[tuple[S, R | ImageError]]:
    """Each of `images`, in their order, with `prepare` of it or why there is none, read ahead in threads.

    `roots` says where the corpus roots of stored images are now. Of one whose files all fail the error is the
    last one's, AccessError. What takes over `seconds` is one too: a stored image was decoded once.
    """
    readers = far_readers(threads, roots.values(), most=ahead)
    watch = Watch(seconds=seconds, decoders=threads if readers > threads else None)

    def work_far(image: S) -> tuple[S, R | ImageError]:
        with watch.far(image, image.size if isinstance(image, StoredImage) else 0):
            return work(image)

    def work(image: S) -> tuple[S, R | ImageError]:
        limits, file = Limits(), str(image)
        try:
            if isinstance(image, StoredImage):
                limits, known = Limits.of_stored(image.width, image.height), image.content_id
                key, data = stored_bytes(image, roots)
                file = str(key)
            else:
                data = read_file(image).data
                known = content_id(data)
            with watch.decoding(image, data, limits=limits):
                pixels = decode(data, limits=limits).array
                return image, prepare(ReadImage(content_id=known, file=file, pixels=pixels))
        except ImageError as problem:
            problem.file = problem.file or file
            return image, problem

    def left_behind(image: S) -> tuple[S, R | ImageError]:
        problem = AccessError(too_long(watch.left_behind(image), seconds))
        problem.file = str(image)
        return image, problem

    timeout = Timeout(seconds=lambda: seconds, instead=left_behind, more=watch.more)
    todo = work_far if readers > threads else work
    return ordered_pool(images, todo, threads=readers, ahead=ahead, timeout=timeout)


def stored_bytes(
    image: StoredImage,
    roots: Mapping[str, str],
    *,
    follow_links: bool = True,
    max_bytes: int | None = None,
) -> tuple[ImageKey, bytes]:
    """The first of its files that has its bytes, and those; of a file at most `max_bytes` are read.

    Without `follow_links` only files inside their roots are opened. Raises AccessError of the last file.
    """
    failure = AccessError("no file")
    most = max(MAX_BYTES, image.size) if max_bytes is None else max_bytes
    for key in image.keys:
        location = place_of(roots.get(key.root, key.root))
        try:
            data = read(location, key, max_bytes=most, follow_links=follow_links).data
            if content_id(data) == image.content_id:
                return key, data
            failure = AccessError("changed since its ingest; ingest it again")
        except ImageError as problem:  # of the file; the content was read at its ingest
            failure = AccessError(str(problem))
        failure.file = str(key)
    raise failure
