"""Every fsync, rename and unlink of a store, run or cache, and a store's reading, as one object passed in.

Each step that a crash can fall behind has a name and calls `Disk.reach`: tests hand in a Disk that kills,
counts or replays there, and docs/crash-safety.md tells what is found on disk after each. A folder renamed
before its files are synced can survive a power cut with empty files.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from blake3 import blake3

from pfgdata.files.lock import acquire, marked
from pfgdata.files.os_errors import explained

__all__ = ["CRASH_POINTS", "TEMPORARY", "CrashPoint", "Disk"]

TEMPORARY = ".tmp-"  # names that begin so are invisible to readers and swept by the next writer

CrashPoint = Literal[
    "folder made",
    "folder durable",
    "temporary made",  # a commit, from here ...
    "table written",
    "array written",
    "file linked",
    "shard.json written",
    "file synced",
    "folder synced",
    "shard renamed",
    "shard durable",  # ... to here: now it is acknowledged
    "replacement written",
    "replacement synced",
    "replaced",
    "replacement durable",
    "removal renamed",
    "removal durable",
    "file deleted",
    "folder deleted",
    "swept",
    "set aside",
    "set aside durable",
]
CRASH_POINTS: tuple[CrashPoint, ...] = get_args(CrashPoint)


class Disk:
    """The real disk. Each method that writes returns when its effect is durable."""

    def names(self, folder: Path) -> list[str]:
        """The names of what is in `folder`, in any order. Raises FileNotFoundError where there is none."""
        return os.listdir(folder)  # noqa: PTH208 - names are wanted

    def is_file(self, path: Path) -> bool:
        """Whether there is a file."""
        return path.is_file()

    def is_folder(self, path: Path) -> bool:
        """Whether there is a folder."""
        return path.is_dir()

    def size(self, path: Path) -> int:
        """Bytes of a file. Raises FileNotFoundError where there is none."""
        return path.stat().st_size

    def read(self, path: Path) -> bytes:
        """The bytes of a small file. Raises FileNotFoundError where there is none."""
        return path.read_bytes()

    def local(self, path: Path) -> Path:
        """A path whose bytes are those of the file `path`, to be opened or mapped: here the same.

        Where there is no such file, opening it says so.
        """
        return path

    def ahead(self, paths: Iterable[Path]) -> None:
        """Bring what `local` and `read` will be asked for, side by side; here it is here already."""

    def ranges(self, path: Path, spans: Sequence[tuple[int, int]]) -> Sequence[bytes] | None:
        """The bytes (start, stop) of a file where that is cheaper than to have all of it here; else None."""
        return None

    def digest(self, path: Path) -> str:
        """The BLAKE3 of a file's bytes as they are in its place now, whatever was copied from it before."""
        return blake3().update_mmap(path).hexdigest()

    def afresh(self) -> Disk:
        """A disk that trusts no copy made earlier, to see whether what lies there is whole."""
        return self

    def misfits(self, folder: Path) -> Sequence[tuple[Path, str]]:
        """What says which shards `folder` has and is damaged: where, and what is wrong; here nothing."""
        return ()

    def mend(self, folder: Path) -> None:
        """Make good what `misfits` finds, for a holder of the lock."""

    def last_number(self, folder: Path) -> int:
        """The number of the last commit to `folder`, where more were given than its names tell."""
        return 0

    def deletable(self, folder: Path) -> Path:
        """A folder on this machine in place of `folder`, whose files may go at any time: here itself."""
        return folder

    @contextmanager
    def exclusive(
        self,
        path: Path,
        *,
        what: str,
        wait: bool = False,
        say: Callable[[str], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Hold the lock file `path` for the duration; `what` names the thing in the message.

        Raises StoreLockedError when another process holds it, unless `wait`: then `say` is told once for
        whom, and once `stop` is true KeyboardInterrupt is raised, as nothing has begun that could be ended
        well. Raises StoreError where the file system has no locks.
        """
        with explained(path.parent):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            acquire(descriptor, what=what, wait=wait, say=say, stop=stop)
            with marked(descriptor):
                yield
        finally:
            os.close(descriptor)

    def reach(self, point: CrashPoint) -> None:
        """Called behind each step, named by what has just happened; nothing happens on the real disk."""

    def temporary(self, parent: Path) -> Path:
        """A new, empty folder on this machine to fill for `parent`, which readers do not see."""
        path = parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        path.mkdir(parents=True)
        self.reach("temporary made")
        return path

    def make_folder(self, path: Path) -> None:
        """Create `path` and its parents, the outermost first.

        The innermost that is there may be what a killed writer made and did not sync: its name is synced too.
        """
        missing = [folder for folder in [path, *path.parents] if not folder.exists()]
        present = missing[-1].parent if missing else path
        if os.access(present.parent, os.R_OK):  # /home can often not be opened, nor need be
            self.sync(present.parent)
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self.reach("folder made")
            self.sync(folder.parent)
            self.reach("folder durable")

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
        self.reach("file deleted")

    def link(self, source: Path, target: Path, *, copy: bool = False) -> None:
        """Let `target` be the file `source` too: by a second name, else, or where asked, by a copy.

        `target` lies in a folder made by `temporary`.
        """
        copy = copy or source.is_symlink()  # whose second name would be a link too
        if not copy:
            try:
                os.link(source, target)
            except FileNotFoundError:
                raise
            except OSError:  # another file system, one without links, or a file of another user
                copy = True
        if copy:
            shutil.copyfile(source, target)
        self.reach("file linked")

    def modified(self, path: Path) -> float:
        """When a file, or the list of names of a folder, was last changed, in Unix time."""
        return path.stat().st_mtime

    def replace_file(self, path: Path, data: bytes) -> None:
        """Put `data` at `path` so that a reader sees the old file or the new one, whole."""
        fresh = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            fresh.write_bytes(data)
            self.reach("replacement written")
            self.sync(fresh)
            self.reach("replacement synced")
            self.rename(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        self.reach("replaced")
        self.sync(path.parent)
        self.reach("replacement durable")

    def commit_folder(self, fresh: Path, final: Path) -> None:
        """Make the finished folder `fresh` visible as `final` by one rename, durably.

        Both must be on one file system; `final` must not exist.
        """
        for folder, _, files in os.walk(fresh):
            for name in files:
                self.sync(Path(folder) / name)
                self.reach("file synced")
            self.sync(Path(folder))
            self.reach("folder synced")
        self.rename(fresh, final)
        self.reach("shard renamed")
        self.sync(final.parent)
        self.reach("shard durable")

    def remove_folder(self, path: Path) -> None:
        """Delete a folder: out of the readers' sight by one durable rename first, then file by file."""
        doomed = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        self.rename(path, doomed)
        self.reach("removal renamed")
        self.sync(path.parent)
        self.reach("removal durable")
        self._delete(doomed)

    def set_aside(self, path: Path, target: Path) -> None:
        """Move a folder to `target`, whose parent is made if need be; on one file system."""
        self.make_folder(target.parent)
        self.rename(path, target)
        self.reach("set aside")
        self.sync(target.parent)
        self.sync(path.parent)
        self.reach("set aside durable")

    def discard(self, fresh: Path) -> None:
        """Remove a folder that no reader sees, as one made by `temporary` and not committed."""
        try:
            fresh.rmdir()  # an empty one: looking into it would take a descriptor, and there may be none
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)

    def sweep(self, parent: Path) -> None:
        """Remove what dead writers left in `parent`, and make durable what they finished but did not sync.

        Only for a holder of its lock; nothing happens where `parent` does not exist.
        """
        if not parent.is_dir():
            return
        for path in parent.glob(f"{TEMPORARY}*"):
            self._delete(path)
        self.sync(parent)
        self.reach("swept")

    def _delete(self, doomed: Path) -> None:
        """Remove a file or folder that no reader sees; a link only itself."""
        if doomed.is_symlink() or not doomed.is_dir():
            self.unlink(doomed)
            return
        for path in doomed.iterdir():
            self._delete(path)
        doomed.rmdir()
        self.reach("folder deleted")
