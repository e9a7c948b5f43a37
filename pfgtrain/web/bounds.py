"""How much one session of the page takes at most, of memory and of the disk."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is over a bound is refused in one line; of what is drawn the oldest goes."""

    upload: int = 64 * 2**20  # bytes of one guide; a 16-bit TIFF of 10 megapixels
    guides: int = 60  # on the page; a thumbnail of each is in memory, 15 kB
    guide_bytes: int = 2 * 2**30  # of all guides in the session's folder, earlier sessions' too
    waiting: int = 60  # drawings in the queue
    drawings: int = 200  # on the page, with those that have ended
    pictures: int = 2_000  # files that this session keeps on disk; 1.2 GB at 768 x 768
    images: int = 64  # of one guide in one drawing
    batch: int = 16  # at once
    side: int = 4096  # pixels
    text: int = 4_000  # letters of a prompt
