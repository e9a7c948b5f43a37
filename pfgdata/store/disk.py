"""Every fsync, rename and unlink of a store, as one object that is passed in.

Tests hand in a Disk that stops or replays at a chosen step; nothing else in the store touches the disk's
order of events. A folder renamed before its files are synced can survive a power cut with empty files.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

__all__ = ["TEMPORARY", "Disk"]

TEMPORARY = ".tmp-"  # names that begin so are invisible to readers and swept by the next writer


class Disk:
    """The real disk. Each method returns when its effect is durable."""

    def temporary(self, parent: Path) -> Path:
        """A new, empty folder in `parent` that readers do not see."""
        path = parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        path.mkdir(parents=True)
        return path

    def make_folder(self, path: Path) -> None:
        """Create `path` and its parents; nothing happens where it exists."""
        missing = [folder for folder in [path, *path.parents] if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            self.sync(folder.parent)

    def sync(self, path: Path) -> None:
        """Wait until the file's bytes, or the folder's list of names, are on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename within one file system: readers see the old or the new name, never half."""
        os.rename(source, target)  # noqa: PTH104 - the seam itself

    def unlink(self, path: Path) -> None:
        """Remove one file."""
        path.unlink()

    def replace_file(self, path: Path, data: bytes) -> None:
        """Put `data` at `path` so that a reader sees the old file or the new one, whole."""
        fresh = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            fresh.write_bytes(data)
            self.sync(fresh)
            self.rename(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        self.sync(path.parent)

    def commit_folder(self, fresh: Path, final: Path) -> None:
        """Make the finished folder `fresh` visible as `final` by one rename, durably.

        Both must be on one file system; `final` must not exist.
        """
        for folder, _, files in os.walk(fresh):
            for name in files:
                self.sync(Path(folder) / name)
            self.sync(Path(folder))
        self.rename(fresh, final)
        self.sync(final.parent)

    def remove_folder(self, path: Path) -> None:
        """Delete a folder: out of the readers' sight by one rename first, then file by file."""
        doomed = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        self.rename(path, doomed)
        self.sync(path.parent)
        shutil.rmtree(doomed)

    def discard(self, fresh: Path) -> None:
        """Remove an uncommitted folder made by `temporary`."""
        shutil.rmtree(fresh, ignore_errors=True)

    def sweep(self, parent: Path) -> None:
        """Remove what dead writers left in `parent`; only for a holder of its lock."""
        for path in parent.glob(f"{TEMPORARY}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                self.unlink(path)
