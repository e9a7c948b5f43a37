"""A disk that knows what a power cut would leave: only what was synced is certain.

A file that was never synced may be empty, cut short, garbage or whole. A name that its folder was not synced
with may be there or not; a rename happens whole or not at all, as on every journaling file system.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pfgdata.files import CrashPoint, Disk

__all__ = ["PowerCutDisk", "State", "cut_everywhere", "write_state"]

State = dict[str, bytes | None]  # path below the root -> content; None for a folder
_Names = dict[str, int]  # of a folder -> inode
_Entry = tuple[int, str]  # folder's inode, name

_LOST: tuple[Callable[[bytes], bytes | None], ...] = (
    lambda data: None,  # not there
    lambda data: b"",
    lambda data: data[: len(data) // 2],
    lambda data: random.Random(len(data)).randbytes(len(data)),
    lambda data: data,
)
MIXED = 3  # random mixtures beside the pure ones, at each step


class PowerCutDisk(Disk):
    """The real disk below `root`; `at` is called behind each step and may ask for `states`."""

    def __init__(self, root: Path, *, at: Callable[[CrashPoint], None] = lambda point: None) -> None:
        self.root, self.at = root, at
        self._open: dict[int, int] = {}  # inode -> descriptor: held, so that no number is given out twice
        self._synced: dict[int, bytes] = {}
        self._synced_names: dict[int, _Names] = {}
        self._names: dict[int, _Names] = {}
        self._scan()
        for folder, names in self._names.items():  # what is there at the start is durable
            self._synced_names[folder] = dict(names)
        self._synced.update({inode: self._read(inode) for inode in self._open if inode not in self._names})

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def reach(self, point: CrashPoint) -> None:
        """Let the test look."""
        self.at(point)

    def sync(self, path: Path) -> None:
        """Sync, and remember what is certain now."""
        super().sync(path)
        self._scan()
        inode = path.stat().st_ino
        if inode in self._names:
            self._synced_names[inode] = dict(self._names[inode])
        elif inode in self._open:
            self._synced[inode] = self._read(inode)

    def states(self, chance: random.Random) -> Iterator[State]:
        """What may be found after a power cut now, the extremes first."""
        self._scan()
        groups = self._changes()
        yield self._build({}, lambda inode: _LOST[0])
        for lost in _LOST:
            yield self._build(dict.fromkeys(groups, True), lambda inode, lost=lost: lost)  # type: ignore[misc]
        for _ in range(MIXED if groups else 0):
            picks = {group: chance.random() < 0.5 for group in set(groups.values())}
            fates = {inode: chance.choice(_LOST) for inode in self._open}
            yield self._build({entry: picks[group] for entry, group in groups.items()}, fates.__getitem__)

    def uncertain(self) -> set[str]:
        """The files that a power cut now could lose or change; but locks, which hold nothing."""
        self._scan()
        certain = self._build({}, lambda inode: _LOST[0])
        files = (path for path in self.root.rglob("*") if path.is_file() and path.name != "lock")
        return {
            name
            for path in files
            if certain.get(name := path.relative_to(self.root).as_posix()) != path.read_bytes()
        }

    def _scan(self) -> None:
        """Look at everything below `root`, and hold on to what is new."""
        self._names = {}
        todo = [self.root]
        while todo:
            folder = todo.pop()
            names: _Names = {}
            for entry in os.scandir(folder):
                inode = names[entry.name] = entry.inode()
                if inode not in self._open:
                    self._open[inode] = os.open(entry.path, os.O_RDONLY)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
            self._names[folder.stat().st_ino] = names

    def _read(self, inode: int) -> bytes:
        descriptor = self._open[inode]
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def _changes(self) -> dict[_Entry, int]:
        """The names that are not certain, each with its group: a rename has two names and one fate."""
        before = {
            (folder, name): i for folder, names in self._synced_names.items() for name, i in names.items()
        }
        after = {(folder, name): i for folder, names in self._names.items() for name, i in names.items()}
        groups: dict[_Entry, int] = {}
        of_inode: dict[int, int] = {}
        for number, entry in enumerate(sorted({*before, *after})):
            inodes = {before.get(entry), after.get(entry)} - {None}
            if len(inodes) == 1 and before.get(entry) == after.get(entry):
                continue
            joined = {of_inode[inode] for inode in inodes if inode in of_inode}
            groups = {other: number if group in joined else group for other, group in groups.items()}
            of_inode = {inode: number if group in joined else group for inode, group in of_inode.items()}
            groups[entry] = number
            of_inode.update({inode: number for inode in inodes if inode is not None})
        return groups

    def _build(
        self, happened: dict[_Entry, bool], fate: Callable[[int], Callable[[bytes], bytes | None]]
    ) -> State:
        """The tree in which the changes of `happened` are done, and unsynced files have their fate."""
        state: State = {}
        todo = [(self.root.stat().st_ino, "")]
        while todo:
            folder, prefix = todo.pop()
            old, new = self._synced_names.get(folder, {}), self._names.get(folder, {})
            for name in sorted({*old, *new}):
                inode = (new if happened.get((folder, name)) else old).get(name)
                if inode is None:
                    continue
                if stat.S_ISDIR(os.fstat(self._open[inode]).st_mode):
                    state[prefix + name] = None
                    todo.append((inode, f"{prefix}{name}/"))
                    continue
                data = self._synced.get(inode)
                data = fate(inode)(self._read(inode)) if data is None else data
                if data is not None:
                    state[prefix + name] = data
        return state


def write_state(state: State, folder: Path) -> None:
    """Put a state down in the new folder `folder`."""
    folder.mkdir()
    for name in sorted(state):
        data = state[name]
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


def cut_everywhere(
    root: Path, scratch: Path, work: Callable[[Disk], None], check: Callable[[Path, CrashPoint], None]
) -> int:
    """Do `work` below `root`, and `check` a copy of each distinct state that a power cut may leave.

    `check` gets the folder of the copy, which stands for `root`, and may write to it. Returns how many.
    """
    chance, seen = random.Random(5), set[int]()

    def at(point: CrashPoint) -> None:
        for state in disk.states(chance):
            digest = hash(tuple(sorted(state.items())))
            if digest in seen:
                continue
            seen.add(digest)
            copy = scratch / str(len(seen))
            write_state(state, copy)
            check(copy, point)
            shutil.rmtree(copy)

    scratch.mkdir(exist_ok=True)
    disk = PowerCutDisk(root, at=at)
    try:
        work(disk)
        assert not disk.uncertain(), "the call has returned, and not all is durable"
    finally:
        disk.close()
    return len(seen)
