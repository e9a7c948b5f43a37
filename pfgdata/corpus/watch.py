"""Watch over images while they are read and decoded: room for the large ones, and words for what ran out.

Every pass over images keeps one, so that an image fails with the same words wherever it does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from pfgdata.errors import AccessError
from pfgdata.images import IMAGE_SECONDS, Limits, pixel_count
from pfgdata.paths import Url, place_of

__all__ = ["PixelRoom", "Stage", "Watch", "far_readers", "too_long"]

_ROOM, _SMALL = 400_000_000, 25_000_000  # pixels of large images at once: 4 GB at worst; 25 is a large photo

_FAR_READERS = 32  # threads where bytes come from afar: at 30 ms a request they read 1,000 images a second
_FAR_BYTES, _FEW_BYTES = (
    1 << 29,
    1 << 24,
)  # of large files from afar at once; below 16 MB a file is not counted
_FAR_SECONDS = 1800.0  # a file may take to come from afar: its client gives up before

Stage = Literal["reading", "decoding"]


def far_readers(threads: int, places: Iterable[object], *, most: int = _FAR_READERS) -> int:
    """How many threads to read with where `threads` decode: more, at most `most`, where a place is a URL."""
    far = any(isinstance(place_of(str(place)), Url) for place in places)
    return max(threads, min(_FAR_READERS, most)) if far else threads


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
    """The images of one pass that are under way, each of which may take `seconds`.

    At most `decoders` are decoded at once, where that is given: more threads may wait for bytes from afar.
    """

    def __init__(self, *, seconds: float = IMAGE_SECONDS, decoders: int | None = None) -> None:
        self.seconds = seconds
        self._decoders = threading.Semaphore(decoders) if decoders else None
        self._permitted: dict[int, threading.Semaphore] = {}  # whom it let in, by id of item
        self._bytes = PixelRoom(_FAR_BYTES, small=_FEW_BYTES)
        self._begun: dict[int, float] = {}  # when the work on an item from afar began
        self._before: dict[int, float] = {}  # seconds that it took before it was decoded
        self._room = PixelRoom(_ROOM, small=_SMALL)
        self._decoding: set[int] = set()  # ids of items

    @contextmanager
    def far(self, item: object, size: int) -> Iterator[None]:
        """Around all work on `item`, whose `size` bytes come from afar: waiting for them does not count.

        Waits itself, for large files, until there is room.
        """
        self._begun[id(item)] = time.monotonic()
        try:
            with self._bytes.room_for(size, timeout=_FAR_SECONDS / 2):
                yield
        finally:
            self._begun.pop(id(item), None)
            self._before.pop(id(item), None)

    def more(self, item: object) -> float:
        """How many seconds beyond its own `item` may take, as its bytes come from afar."""
        return self._before.get(id(item), _FAR_SECONDS) if id(item) in self._begun else 0.0

    @contextmanager
    def decoding(self, item: object, data: bytes, *, limits: Limits) -> Iterator[None]:
        """Around the decoding of `data`, the bytes of `item`, and what is made of its pixels.

        Waits for room first. Raises AccessError where the memory does not suffice.
        """
        if self._decoders:
            self._decoders.acquire()
            self._permitted[id(item)] = self._decoders
        try:
            if begun := self._begun.get(id(item)):
                self._before[id(item)] = time.monotonic() - begun
            with self._decoded(item, data, limits=limits):
                yield
        finally:
            self._let_next(item)

    def _let_next(self, item: object) -> None:
        """Let another be decoded in place of `item`, once: whoever has ended `item` first pops it."""
        if permitted := self._permitted.pop(id(item), None):
            permitted.release()

    @contextmanager
    def _decoded(self, item: object, data: bytes, *, limits: Limits) -> Iterator[None]:
        self._decoding.add(id(item))
        try:
            with self._room.room_for(pixel_count(data, limits=limits), timeout=self.seconds / 2):
                yield
        except MemoryError:
            raise AccessError("out of memory while decoding") from None
        finally:
            self._decoding.discard(id(item))

    def left_behind(self, item: object) -> Stage:
        """What `item` was at, whose thread is waited for no longer: if it hangs, others decode meanwhile."""
        self._let_next(item)
        return "decoding" if id(item) in self._decoding else "reading"


def too_long(stage: Stage, seconds: float) -> str:
    """The reason of an image that took over `seconds`."""
    return f"{stage} took over {seconds:g} s"
