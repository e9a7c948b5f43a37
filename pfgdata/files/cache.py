"""Copies of what lies far away, by digest, in one bounded folder that all processes of a user share.

A file is whole or not there. Who is given one holds it by a second name of its own, so that it stays as long
as its process lives, however much others bring in.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pfgdata.errors import ConfigError
from pfgdata.files.lock import runs
from pfgdata.files.os_errors import explained

__all__ = ["FileCache", "cache_folder"]

_MOST = 32 << 30  # bytes by default: the features of 20 million images, or SD1 latents of a million
_KEPT = 0.8  # of the bound, where it was reached: so that the folder is not looked through all the time
_FREE, _ENOUGH = 0.1, 10_000_000_000  # of the disk stays free, at most so many bytes: 0.1 of 4 TB is a corpus
_OLD = 86_400.0  # seconds; what a process that died was writing is younger for as long as it may live
_ELSEWHERE = 30 * 86_400.0  # the same of what one on another machine, whom nobody can ask, holds
_FRESH = 60.0  # seconds within which a second use is not put on record


def cache_folder() -> Path:
    """PFG_CACHE, else pfg/ in the user's cache."""
    if folder := os.environ.get("PFG_CACHE"):
        return Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111 - leaves an unknown ~user as it is
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache") / "pfg"


class _File(NamedTuple):
    """A file that is here, and whether a second name keeps its bytes. Sorted by when it was used."""

    used: float
    size: int
    path: Path
    is_held: bool


class FileCache:
    """Files by digest, at most about `most` bytes of them; those used last stay. Safe for threads."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        most: int | None = None,
        lingers: float = _FRESH,
        usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage,
    ) -> None:
        """By default objects/ of pfg's cache, of PFG_CACHE_GB gigabytes (32).

        `usage` says of the folder's disk how many bytes it has, how many are used and how many free.
        """
        self.folder = folder or cache_folder() / "objects"
        self._lingers, self._usage = lingers, usage
        self._letting_go = threading.Lock()
        self._most = _most_bytes() if most is None else most
        self._held = self.folder / "held" / f"{socket.gethostname()}-{os.getpid()}"
        self._handed: dict[str, float] = {}  # when it was last given out, for those that were opened since
        self._unseen: int | None = None  # bytes brought in since the folder was looked through

    def get(self, digest: str, bring: Callable[[Path], None]) -> Path:
        """The file of `digest`, a hex string; where it is not here, `bring` writes it to the path it gets.

        What `bring` raises is raised, and leaves nothing. Two who want one file bring it once.
        """
        if (held := self._hold(digest)) is not None:
            return held
        with explained(self.folder), self._alone(digest):
            if (held := self._hold(digest)) is not None:  # another has brought it while this one waited
                return held
            with self.scratch() as fresh:
                bring(fresh)
                return self.keep(digest, fresh)

    def has(self, digest: str) -> bool:
        """Whether the file of `digest` is here."""
        return (self._held / digest).exists() or self._place(digest).exists()

    def keep(self, digest: str, file: Path) -> Path:
        """Take the whole `file`, which must lie on this disk, as that of `digest`; the path to open."""
        size, place = file.stat().st_size, self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._make_room(size)
        os.replace(file, place)  # noqa: PTH105 - atomic: whole or not there
        held = self._hold(digest)
        return place if held is None else held

    def release(self, digest: str) -> None:
        """Hold the file of `digest` no longer, for who has it open, or has read it."""
        (self._held / digest).unlink(missing_ok=True)

    def opened(self, digest: str) -> None:
        """Whoever was given the file of `digest` opens it at once: it need not be held for longer.

        Held it would take room that the bound does not count. It goes `lingers` seconds later.
        """
        now = time.monotonic()
        with self._letting_go:
            self._handed.pop(digest, None)
            self._handed[digest] = now  # the last: so the first are the oldest
            while now - self._handed[first := next(iter(self._handed))] > self._lingers:
                del self._handed[first]
                self.release(first)

    def forget(self, digest: str) -> None:
        """Remove the file of `digest`: it is not what it should be. Who has it open goes on with that."""
        for path in (self._place(digest), self._held / digest):
            path.unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A path on this disk for a file or folder to make; in the end it is removed if it is still there."""
        fresh = self.folder / "making" / uuid.uuid4().hex
        fresh.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield fresh
        finally:
            if fresh.is_dir():
                shutil.rmtree(fresh, ignore_errors=True)
            else:
                fresh.unlink(missing_ok=True)

    def _place(self, digest: str) -> Path:
        return self.folder / "files" / digest[:2] / digest

    def _hold(self, digest: str) -> Path | None:
        """The name of its own that this process opens the file by; None where there is no such file."""
        place, held = self._place(digest), self._held / digest
        with contextlib.suppress(OSError):
            if time.time() - place.stat().st_mtime > _FRESH:
                os.utime(place)  # the time of its last use
        if held.exists():
            return held
        try:
            if not self._held.exists():
                self._held.mkdir(parents=True, exist_ok=True)
                atexit.register(shutil.rmtree, self._held, ignore_errors=True)
            os.link(place, held)
        except FileNotFoundError:
            return None
        except FileExistsError:
            return held
        except OSError:  # a file system without links: the file may go while it is in use
            return place if place.exists() else None
        return held

    @contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        """Keep others from bringing the same file meanwhile."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(locks / digest[:3], os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):  # without locks it is brought twice
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make_room(self, size: int) -> None:
        """Before `size` bytes come in, remove what was used longest ago where the bound or the disk asks."""
        first, self._unseen = self._unseen is None, (self._unseen or 0) + size
        disk, _, free = self._usage(self.folder)  # the bytes lie there already
        floor = min(_FREE * disk, _ENOUGH)
        short = free < floor
        if not first and self._unseen < self._most // 20 and not short:
            return
        self._unseen = 0
        self._release_dead()
        files = sorted(self._files())
        total = size + sum(one.size for one in files)
        own = sum(one.size for one in files if not one.is_held)
        floor = min(floor, (free + own) / 2)  # where others fill the disk: half of what they leave
        aim = total if total <= self._most else self._most * _KEPT
        for one in files:
            if total <= aim and (one.is_held or free >= floor):
                continue  # to remove what is held would give the disk nothing
            one.path.unlink(missing_ok=True)
            total -= one.size
            free += 0 if one.is_held else one.size

    def _files(self) -> Iterator[_File]:
        for path in (self.folder / "files").glob("*/*"):
            with contextlib.suppress(OSError):
                state = path.stat()
                yield _File(state.st_mtime, state.st_size, path, state.st_nlink > 1)

    def _release_dead(self) -> None:
        """Remove what processes that ended held or were making; of other machines' what is long untouched."""
        here = socket.gethostname()
        for held in (self.folder / "held").glob("*"):
            host, _, pid = held.name.rpartition("-")
            if host == here:
                is_dead = held != self._held and pid.isdigit() and not runs(int(pid))
            else:
                is_dead = _age(held) > _ELSEWHERE
            if is_dead:
                shutil.rmtree(held, ignore_errors=True)
        for fresh in (self.folder / "making").glob("*"):
            if _age(fresh) > _OLD:
                with contextlib.suppress(OSError):
                    shutil.rmtree(fresh, ignore_errors=True) if fresh.is_dir() else fresh.unlink()


def _age(path: Path) -> float:
    """Seconds since a file, or the list of names of a folder, was changed; 0 where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _most_bytes() -> int:
    text = os.environ.get("PFG_CACHE_GB")
    if not text:
        return _MOST
    try:
        most = int(float(text) * 1e9)
        if most <= 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise ConfigError(
            f"PFG_CACHE_GB={text}: is no number of gigabytes; set it to 50 or the like"
        ) from None
    return most
