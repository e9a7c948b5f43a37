"""Which part of one corpus root an ingest covers, and by what rules it is walked.

A root is named by its realpath at the first ingest for ever, and may have moved since: a segment carries both
the name and the place.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from pfgdata.corpus.names import archive_kind, is_image, is_passed_over
from pfgdata.corpus.patterns import patterns_of
from pfgdata.paths import Place
from pfgdata.records import ImageKey

__all__ = ["Segment", "WalkOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkOptions:
    """How to walk; a pattern that cannot be one raises ConfigError."""

    include: tuple[str, ...] = ()  # patterns of pfgdata.corpus.patterns: only paths that one matches
    exclude: tuple[str, ...] = ()  # and none that one of these matches
    follow_links: bool = False  # to folders, and to files out of the root
    archives: bool = False  # open the archives that lie in folders, not only those named as an input

    def __post_init__(self) -> None:
        patterns_of(self.include, self.exclude)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The part of a corpus root to walk: what is below or at `starts`, which are sorted and disjoint.

    All paths are relative to the root. A start that ends in a slash is a folder, an empty one the root
    itself, any other a file that was named. `exclude` are folders that are roots of their own.
    """

    root: str
    location: Place  # where the root is now
    starts: tuple[bytes, ...] = (b"",)
    exclude: frozenset[bytes] = frozenset()
    named: frozenset[bytes] = frozenset()  # archives below a folder start that are to be opened
    options: WalkOptions = field(default_factory=WalkOptions)

    def covers(self, key: ImageKey) -> bool:
        """Whether the walk would find the image of `key` if it were there, or an archive that is broken."""
        start = self._start_of(key.path) if key.root == self.root else None
        if start is None or is_passed_over(key.path[len(start) :] or b"named"):
            return False
        if self.exclude and any(key.path.startswith(folder + b"/") for folder in self.exclude):
            return False
        path, kind = key.path, archive_kind(key.path)
        opened = self.options.archives or start == path or path in self.named
        if key.member is None:
            wanted = is_image(path) or (opened and kind is not None)
        else:
            wanted = opened and kind in ("tar", "zip")
            wanted = wanted and is_image(key.member) and not is_passed_over(key.member)
            path += b"/" + key.member
        patterns = patterns_of(self.options.include, self.options.exclude)
        return wanted and (not patterns or patterns.takes(path))

    def _start_of(self, path: bytes) -> bytes | None:
        """The start that `path` is at or below: the last one that does not sort after it, or none."""
        at = bisect.bisect_right(self.starts, path) - 1
        if at < 0:
            return None
        start = self.starts[at]
        is_folder = not start or start.endswith(b"/")
        return start if path == start or (is_folder and path.startswith(start)) else None
