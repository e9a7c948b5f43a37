"""Watch over images while they are read and decoded: room for the large ones, and words for what ran out.

Every pass over images keeps one, so that an image fails with the same words wherever it does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pfgdata.errors import AccessError
from pfgdata.images import IMAGE_SECONDS, Limits, pixel_count

__all__ = ["PixelRoom", "Stage", "Watch", "too_long"]

_ROOM, _SMALL = 400_000_000, 25_000_000  # pixels of large images at once: 4 GB at worst; 25 is a large photo

Stage = Literal["reading", "decoding"]


class PixelRoom:
    """Lets large images be decoded at once only as far as they fit in `pixels` together; one always may.

    An image of 196 megapixels takes 1 to 2 GB while it is decoded and shrunk (measured), so that 16 threads
    on a folder of such scans would need more memory than most machines have. Small ones pass uncounted.
    """

    def __init__(self, pixels: int, *, small: int) -> None:
        self._pixels = pixels
        self._small = small
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def room_for(self, pixels: int, *, timeout: float) -> Iterator[None]:
        """Wait for room, at most `timeout` seconds: one that never leaves must not stop the others."""
        if pixels <= self._small:
            yield
            return
        with self._changed:
            self._changed.wait_for(
                lambda: not self._taken or self._taken + pixels <= self._pixels, timeout=timeout
            )
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


class Watch:
    """The images of one pass that are under way, each of which may take `seconds`."""

    def __init__(self, *, seconds: float = IMAGE_SECONDS) -> None:
        self.seconds = seconds
        self._room = PixelRoom(_ROOM, small=_SMALL)
        self._decoding: set[int] = set()  # ids of items

    @contextmanager
    def decoding(self, item: object, data: bytes, *, limits: Limits) -> Iterator[None]:
        """Around the decoding of `data`, the bytes of `item`, and what is made of its pixels.

        Waits for room first. Raises AccessError where the memory does not suffice.
        """
        self._decoding.add(id(item))
        try:
            with self._room.room_for(pixel_count(data, limits=limits), timeout=self.seconds / 2):
                yield
        except MemoryError:
            raise AccessError("out of memory while decoding") from None
        finally:
            self._decoding.discard(id(item))

    def stage(self, item: object) -> Stage:
        """What `item`, which is under way, is at."""
        return "decoding" if id(item) in self._decoding else "reading"


def too_long(stage: Stage, seconds: float) -> str:
    """The reason of an image that took over `seconds`."""
    return f"{stage} took over {seconds:g} s"
