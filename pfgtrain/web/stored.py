"""Guides out of a store: a question by tags or by a condition, small pictures of what it finds, its bytes.

Only what a question of this page found is ever given, by content id, and its file is read as every image of a
store is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from pfgdata.corpus import MAX_BYTES, read_image, stored_bytes
from pfgdata.errors import ImageError, QueryError
from pfgdata.images import thumbnail_jpeg
from pfgdata.query import QueryJob
from pfgdata.records import Selection, StoredImage
from pfgdata.store import IMAGE_COLUMNS, Store, stored_image

__all__ = ["StoredGuides"]

_FOUND = 5_000  # images of a question that can be scrolled through
_PAGE = 60
_KNOWN = 4_000  # images that were shown
_SMALL = 600  # thumbnails in memory, 10 kB each
_SECONDS = 20.0


class StoredGuides:
    """A store to pick guides from. Threads may ask at once."""

    def __init__(self, path: Path) -> None:
        """Raises NoStoreError and its kin where there is no store at `path`."""
        self._store = Store.open(path)
        self.name = path.name or str(path)
        self._session = QueryJob(seconds=_SECONDS).session(self._store)
        self._known: OrderedDict[str, StoredImage] = OrderedDict()
        self._small: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._decoding = threading.Semaphore(2)

    def search(self, *, tags: str, where: str, start: int = 0) -> dict[str, Any]:
        """A page of the images that `tags` or `where` ask for: their number, and id, file and size of each.

        Raises QueryError for a question that cannot be answered.
        """
        if tags and where:
            raise QueryError("tags and a condition: give one of them")
        job = QueryJob(tags=tags or None, expression=where or None, limit=_FOUND)
        question = job.question(self._session.snapshot)
        count = self._session.count(question)
        selection = self._session.select(question, limit=_FOUND)
        index = np.arange(len(selection))[max(0, start) : max(0, start) + _PAGE]
        images = self._images(selection.take(index))
        return {
            "count": count,
            "reach": len(selection),
            "start": start,
            "notes": list(question.notes),
            "images": [
                {
                    "id": str(UUID(bytes=one.content_id)),
                    "file": one.keys[0].name,
                    "width": one.width,
                    "height": one.height,
                }
                for one in images
            ],
        }

    def thumbnail(self, image: str) -> bytes | None:
        """A small JPEG of an image that was found; None for any other. Raises ImageError."""
        with self._lock:
            if image in self._small:
                self._small.move_to_end(image)
                return self._small[image]
        found = self._known.get(image)
        if found is None:
            return None
        with self._decoding:
            data = thumbnail_jpeg(read_image(found, roots=self._store.roots()).pixels)
        with self._lock:
            self._small[image] = data
            while len(self._small) > _SMALL:
                self._small.popitem(last=False)
        return data

    def take(self, image: str) -> tuple[str, bytes] | None:
        """The name and the bytes of an image that was found; None for any other. Raises ImageError."""
        found = self._known.get(image)
        if found is None:
            return None
        try:
            key, data = stored_bytes(found, self._store.roots(), max_bytes=min(MAX_BYTES, found.size))
        except ImageError as problem:
            raise type(problem)(f"{found.keys[0].name}: {problem}") from problem
        return key.name.replace("!", "/"), data

    def _images(self, page: Selection) -> list[StoredImage]:
        """The images of a few rows, in their order, from now on known."""
        found: dict[int, StoredImage] = {}
        for shard in np.unique(page.shard_index):
            places = np.flatnonzero(page.shard_index == shard)
            table = self._session.snapshot.rows(page.shards[shard], page.rows[places])
            rows = table.select(list(IMAGE_COLUMNS)).to_pylist()
            found.update(zip(places.tolist(), map(stored_image, rows), strict=True))
        images = [found[place] for place in range(len(page))]
        with self._lock:
            self._known.update((str(UUID(bytes=one.content_id)), one) for one in images)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return images
