"""Files of a corpus that is not on this machine, behind one seam: buckets, web servers, the hub's datasets.

A file's etag, whatever its server calls so, stands where the time of a local file does: as 63 bits of a hash,
so that every row is as wide as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blake3 import blake3

__all__ = ["RemoteFile", "Source", "plain_etag", "stamp"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One version of one file: its path below the source, its bytes, its server's mark of the version."""

    path: bytes
    size: int
    etag: str  # without its quotes

    @property
    def mtime_ns(self) -> int:
        """What a row keeps of the etag."""
        return stamp(self.etag)


def plain_etag(etag: str) -> str:
    """An etag without its quotes, which a list may lack, and without the mark of a weak one."""
    return etag.removeprefix("W/").strip('"')


def stamp(etag: str) -> int:
    """63 bits of BLAKE3 of a plain etag."""
    return int.from_bytes(blake3(etag.encode()).digest(length=8), "little") >> 1


class Source(Protocol):
    """Files below one URL; safe for threads.

    Of a single file every method raises AccessError where it cannot be had this time. PlaceError, or
    ConfigError, says that the place as a whole cannot be asked.
    """

    slow_to_ask: bool  # whether each request counts, so that a whole archive is better than a few members

    def list(self, folder: bytes) -> Iterator[RemoteFile]:
        """All files below `folder` ("" or ending in a slash), in any order."""

    def state(self, path: bytes) -> RemoteFile:
        """The file at `path` as it is now."""

    def read(self, path: bytes, *, max_bytes: int) -> tuple[RemoteFile, bytes]:
        """The whole file, and of which version it is. Raises ContentError where it has over `max_bytes`."""

    def read_part(self, file: RemoteFile, start: int, size: int) -> bytes:
        """`size` bytes of that version from `start` on; AccessError where it is another one now."""

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Write all of that version to the new file `target`; AccessError where it is another one now."""
