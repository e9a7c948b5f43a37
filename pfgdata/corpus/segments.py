"""Which parts of which corpus roots an ingest of one folder covers.

A root is named by its realpath at the first ingest for ever, and may have moved since: a segment carries both
the name and the place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pfgdata.errors import ConfigError
from pfgdata.records import shown

__all__ = ["Segment", "plan_segments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The part of a corpus root to walk: all of it, or what is below `prefix`.

    `exclude` are folders, relative to the root like `prefix`, that are roots of their own.
    """

    root: str
    location: Path  # where the root is now
    prefix: bytes = b""
    exclude: frozenset[bytes] = frozenset()


def plan_segments(folder: Path, roots: Mapping[str, str]) -> list[Segment]:
    """The segments that together hold `folder`, sorted by root; `roots` is known root -> where it is now.

    The longest known root above the folder wins, else the folder is a new one; known roots below it are
    segments of their own. Raises ConfigError where the folder cannot be walked or named.
    """
    start = _walkable(folder)
    places = {os.path.realpath(place): root for root, place in sorted(roots.items())}
    above = [place for place in places if _is_within(start, place)]
    if not above:
        places[start] = _new_root(start, roots)
    segments = [_segment(places, place=max(above, key=len, default=start), start=start)]
    for place in places:
        if (
            place != start and _is_within(place, start) and Path(place).is_dir()
        ):  # one not mounted is left out
            segments.append(_segment(places, place=place, start=place))
    return sorted(segments, key=lambda segment: segment.root.encode())


def _walkable(folder: Path) -> str:
    """The folder's realpath, after the checks a user can act on."""
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except OSError as problem:
        reason = (problem.strerror or "cannot be reached").lower()
        raise ConfigError(f"{folder}: {reason}; check the path, or mount the disk it is on") from None
    if not is_folder:
        raise ConfigError(f"{folder} is a file; name the folder that holds the images")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be listed; give this user permission to read it")
    return os.path.realpath(folder)


def _new_root(start: str, roots: Mapping[str, str]) -> str:
    """The name of a root first seen at `start`: the realpath itself."""
    try:
        start.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{shown(os.fsencode(start))} is not a UTF-8 path; rename the folder to ingest it"
        ) from None
    if start in roots:
        raise ConfigError(
            f"{start} is on record as the old place of a corpus now at {roots[start]};"
            " give this folder another name, or use another store"
        )
    return start


def _segment(places: Mapping[str, str], *, place: str, start: str) -> Segment:
    """The segment of the root at `place` from `start` down, without the roots inside it."""
    inside = (other for other in places if other != place and _is_within(other, place))
    return Segment(
        root=places[place],
        location=Path(place),
        prefix=_relative(start, place),
        exclude=frozenset(_relative(other, place) for other in inside),
    )


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _relative(path: str, folder: str) -> bytes:
    return os.fsencode(path[len(folder.rstrip("/")) :].lstrip("/"))
