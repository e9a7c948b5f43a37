"""Small pictures of a store's images in `cache/thumbnails/`, by content_id: made once, deletable at any time.

A file is written beside its place and renamed, but not synced: what a power cut leaves is no whole JPEG, and
is made anew. Where the store cannot be written to, nothing is kept.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from pathlib import Path

from pfgdata.files import TEMPORARY, Disk
from pfgdata.store.snapshot import Snapshot

__all__ = ["ThumbnailCache"]

_WHOLE = (b"\xff\xd8\xff", b"\xff\xd9")  # how a JPEG begins and ends
_KEPT_SHARE = 0.8  # of the bound, where it was reached: so that the folder is not looked through all the time
_OLD = 3600.0  # seconds; what another process has just begun to write is younger


class ThumbnailCache:
    """JPEGs by content_id, at most about `most` bytes of them; those used last stay. Safe for threads."""

    def __init__(self, snapshot: Snapshot, *, most: int) -> None:
        self._disk: Disk = snapshot.disk
        self._folder = snapshot.disk.deletable(snapshot.path / "cache" / "thumbnails")
        self._most = most
        self._size: int | None = None  # of all files; looked for when the first is written
        self._lock = threading.Lock()
        self._writes = most > 0

    def read(self, content_id: bytes) -> bytes | None:
        """The thumbnail; None where there is no whole one."""
        path = self._path(content_id)
        try:
            data = self._disk.read(path)
        except OSError:
            return None
        if not (data.startswith(_WHOLE[0]) and data.endswith(_WHOLE[1])):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of its last use
        return data

    def write(self, content_id: bytes, data: bytes) -> None:
        """Keep a thumbnail, if the disk lets us."""
        if not self._writes:
            return
        path = self._path(content_id)
        fresh = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            for folder in (self._folder.parent, self._folder, path.parent):
                folder.mkdir(exist_ok=True)  # not the store's own: one that was moved stays away
            fresh.write_bytes(data)
            self._disk.rename(fresh, path)
        except OSError:  # read-only, full: what is shown was made all the same
            with contextlib.suppress(OSError):
                self._disk.unlink(fresh)
            return
        with self._lock:
            self._size = self._measured() if self._size is None else self._size + len(data)
            if self._size > self._most:
                self._size = self._swept()

    def _path(self, content_id: bytes) -> Path:
        name = content_id.hex()
        return self._folder / name[:2] / f"{name}.jpg"

    def _files(self) -> list[tuple[float, int, str]]:
        """Last use, size and path of every file; what a writer who died left behind is removed."""
        found = []
        for folder in self._entries(self._folder):
            for entry in self._entries(folder.path) if folder.is_dir(follow_symlinks=False) else ():
                try:
                    state = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                found.append((state.st_mtime, state.st_size, entry.path))
        latest = max((time for time, _, _ in found), default=0.0)
        for time, _, path in found:
            if Path(path).name.startswith(TEMPORARY) and time < latest - _OLD:
                with contextlib.suppress(OSError):
                    self._disk.unlink(Path(path))
        return [one for one in found if one[2].endswith(".jpg")]

    def _entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except OSError:
            return []

    def _measured(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _swept(self) -> int:
        """Remove those that were used longest ago; the size of what stays."""
        files = sorted(self._files())
        size = sum(one for _, one, _ in files)
        for _, one, path in files:
            if size <= self._most * _KEPT_SHARE:
                break
            with contextlib.suppress(OSError):
                self._disk.unlink(Path(path))
                size -= one
        return size
