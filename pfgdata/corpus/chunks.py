"""What a walk gives: entries by column, some at a time, and the counts of what it saw."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

__all__ = ["Chunk", "WalkCounts"]


@dataclass(slots=True, kw_only=True)
class WalkCounts:
    """What a walk saw so far; walks add to it."""

    found: int = 0
    ignored: int = 0  # no image by name, hidden, or not wanted by a pattern
    links: int = 0  # to a folder, or out of the root: not followed
    unreadable: list[bytes] = field(default_factory=list)  # folders that could not be listed, whole paths
    # Whole paths of what is there and was not looked into: links, unfinished downloads, broken archives.
    passed: set[bytes] = field(default_factory=set)


class Chunk:
    """Some entries of a walk in the stable order, by column: sizes as uint64, times as int64."""

    __slots__ = ("_members", "mtimes_ns", "paths", "sizes")

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.sizes = array("Q")
        self.mtimes_ns = array("q")
        self._members: list[tuple[bytes, ...]] = []  # as far as there are any: most chunks have none

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def has_members(self) -> bool:
        """Whether an entry is a member of an archive."""
        return bool(self._members)

    @property
    def insides(self) -> list[tuple[bytes, ...]]:
        """What stands beside each path, and sorts as the stable order does: no member comes first."""
        return self._members + [()] * (len(self) - len(self._members))

    def add(self, path: bytes, state: tuple[int, int]) -> None:
        """Append a file: (size, mtime_ns)."""
        self.paths.append(path)
        self.sizes.append(state[0])
        self.mtimes_ns.append(state[1])

    def add_member(self, path: bytes, member: bytes, state: tuple[int, int]) -> None:
        """Append a member of the archive at `path`."""
        self._members = self.insides
        self._members.append((member,))
        self.add(path, state)
