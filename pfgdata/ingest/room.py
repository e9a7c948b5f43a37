"""Room for large images: how many pixels the threads of an ingest may decode at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["PixelRoom"]


class PixelRoom:
    """Lets large images be decoded at once only as far as they fit in `pixels` together; one always may.

    An image of 196 megapixels takes 1 to 2 GB while it is decoded and shrunk (measured), so that 16 threads
    on a folder of such scans would need more memory than most machines have. Small ones pass uncounted.
    """

    def __init__(self, pixels: int, *, small: int) -> None:
        self._pixels, self._small, self._taken = pixels, small, 0
        self._changed = threading.Condition()

    @contextmanager
    def room_for(self, pixels: int, *, patience: float) -> Iterator[None]:
        """Wait for room, at most `patience` seconds: one that never leaves must not stop the others."""
        if pixels <= self._small:
            yield
            return
        with self._changed:
            self._changed.wait_for(
                lambda: not self._taken or self._taken + pixels <= self._pixels, timeout=patience
            )
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()
