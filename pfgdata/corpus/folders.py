"""The walk of a folder: images by name, in the stable order, one folder's names in memory at a time.

The order is that of the bytes of whole relative paths. Sorting each folder gives it only if a folder's name
counts with its slash: `a-b`, `a.txt` and `a/b` sort by `-`, `.` and `/`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from pfgdata.corpus.segments import Segment
from pfgdata.records import Found, ImageKey

__all__ = ["WalkCounts", "walk"]

# Images by name; what one really is, its content says.
_EXTENSIONS = frozenset(b"jpg jpeg jfif png webp gif bmp tif tiff avif jxl heic heif".split())
_THUMBNAIL_FOLDERS = frozenset([b"@eaDir", b"__MACOSX"])  # of Synology NAS, of zips made on macOS


@dataclass(slots=True, kw_only=True)
class WalkCounts:
    """What a walk saw so far; walks add to it."""

    found: int = 0
    ignored: int = 0  # no image by name, or hidden
    links: int = 0  # to a folder, or out of the root: not followed
    unreadable: list[bytes] = field(default_factory=list)  # folders that could not be listed, whole paths


def walk(segment: Segment, *, counts: WalkCounts) -> Iterator[Found]:
    """Yield every file of the segment that is an image by name, in the stable order.

    Names with a leading dot and thumbnail folders are passed over. A link to a file inside the root is a row
    like any other; a link out of it, or to a folder, is not followed. A file that is gone, broken or no plain
    file is yielded too, with what is known of it, and will fail to be read: nothing is dropped in silence.
    """
    base = os.fsencode(segment.location) + b"/"
    inside = os.path.realpath(base).rstrip(b"/") + b"/"
    start = segment.prefix + b"/" if segment.prefix else b""
    open_folders = [(start, _names(base, start, segment.exclude, counts))]
    while open_folders:
        folder, names = open_folders[-1]
        if not names:
            open_folders.pop()
            continue
        path = folder + names.pop()
        if path.endswith(b"/"):
            open_folders.append((path, _names(base, path, segment.exclude, counts)))
            continue
        state = _state(base + path, inside)
        if state is None:
            counts.links += 1
            continue
        counts.found += 1
        yield Found(key=ImageKey(root=segment.root, path=path), size=state[0], mtime_ns=state[1])


def _names(base: bytes, folder: bytes, exclude: frozenset[bytes], counts: WalkCounts) -> list[bytes]:
    """Names to visit in a folder, last first, folders with a slash; the rest is counted as ignored."""
    names = []
    try:
        with os.scandir(base + folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and folder + entry.name in exclude:
                    continue
                if _is_wanted(entry.name, is_folder=is_folder):
                    names.append(entry.name + b"/" if is_folder else entry.name)
                else:
                    counts.ignored += 1
    except OSError:
        counts.unreadable.append((base + folder).rstrip(b"/"))
    names.sort(reverse=True)
    return names


def _is_wanted(name: bytes, *, is_folder: bool) -> bool:
    if name.startswith(b"."):
        return False
    if is_folder:
        return name not in _THUMBNAIL_FOLDERS
    _, dot, extension = name.rpartition(b".")
    return bool(dot) and extension.lower() in _EXTENSIONS


def _state(path: bytes, inside: bytes) -> tuple[int, int] | None:
    """(size, mtime_ns) of a file or a link's target; (0, 0) if there is none to be had; None to ignore it."""
    try:
        state = os.lstat(path)
        if stat.S_ISLNK(state.st_mode):
            if not os.path.realpath(path).startswith(inside):
                return None
            state = os.stat(path)  # noqa: PTH116  (bytes, which pathlib does not take)
            if stat.S_ISDIR(state.st_mode):
                return None
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns
