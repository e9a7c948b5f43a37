"""A store in a bucket, as a `Disk`: shards are uploaded, and committed by a record that only one can put.

A file is replaced only over the version that its writer has seen. So of two writers one wins,
whatever became of the lease that is to keep them apart.
"""

from __future__ import annotations

import errno
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal, get_args

from blake3 import blake3

from pfgdata.errors import StoreError, StoreLockedError
from pfgdata.files.commit_log import Seal
from pfgdata.files.disk import TEMPORARY, Disk
from pfgdata.files.lease import Lease, require_conditions
from pfgdata.files.object_reads import ASIDE, META, SHARDS, ReadingDisk, missing
from pfgdata.files.place_errors import TakenError
from pfgdata.files.sealed import sealed_value
from pfgdata.urls import UrlPath, is_url

__all__ = ["OBJECT_POINTS", "ObjectDisk", "ObjectPoint", "disk_at"]

ObjectPoint = Literal[
    "lease taken",
    "file uploaded",
    "shard.json uploaded",
    "commit recorded",  # now a shard is acknowledged
    "object replaced",
    "removal recorded",
    "object deleted",
    "object set aside",
]
_SHARD = re.compile(r"(\d{8,})-[0-9a-f]{8}")  # what else lies there is not ours
OBJECT_POINTS: tuple[ObjectPoint, ...] = get_args(ObjectPoint)


def disk_at(path: Path) -> Disk:
    """The disk of a store at `path`: this machine's, or the place that a URL names."""
    return ObjectDisk(path) if is_url(path) else Disk()


class ObjectDisk(ReadingDisk):
    """What lies below one URL. Each method that writes returns when the server has it."""

    def passed(self, point: ObjectPoint) -> None:
        """Called behind each step that a crash can fall behind; nothing happens here."""

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
        """By a lease that is renewed; what others commit in spite of it ends this writer at its next one."""
        key = self._key(path)
        with ExitStack() as held:
            if key is None:
                held.enter_context(super().exclusive(path, what=what, wait=wait, say=say, stop=stop))
                yield
                return
            require_conditions(self.place)
            lease = Lease(self.place, key, seconds=self._lease_seconds)
            held.enter_context(lease.held(what=what, wait=wait, say=say, stop=stop))
            self.passed("lease taken")
            shards = path.parent / SHARDS
            below = f"{self._key(path.parent)}/".lstrip("/")  # else of a store that is being written too
            seen = {one: etag for one, etag in self._etags.items() if not one.startswith(below)}
            self._etags = seen  # what was seen before it began is no ground to write
            self.names(path.parent)  # what it finds, it may write over
            log, name = self._log(shards), self._key(shards) or ""
            log.begin()
            held.callback(log.end)
            self._leases[name] = lease
            held.callback(self._leases.pop, name, None)
            yield

    def temporary(self, parent: Path) -> Path:
        """In the cache."""
        if self._key(parent) is None:
            return super().temporary(parent)
        path = self.cache.folder / "making" / f"{TEMPORARY}{uuid.uuid4().hex}"
        path.mkdir(parents=True)
        self.reach("temporary made")
        return path

    def make_folder(self, path: Path) -> None:
        """In a bucket there are none."""
        if self._key(path) is None:  # in a bucket there are none
            super().make_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        """Only of files on this machine."""
        assert self._key(target) is None, "there is no rename in a bucket"
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """Remove one file: what is left is empty, as only so it can be said of which version it is meant."""
        key = self._key(path)
        if key is None:
            super().unlink(path)
            return
        if not self.is_file(path):
            raise missing(path)
        self._replace(path, key, b"")
        self.passed("object deleted")

    def link(self, source: Path, target: Path, *, copy: bool = False) -> None:
        """Of an object by its copy."""
        super().link(self.local(source), target, copy=copy and self._key(source) is None)

    def replace_file(self, path: Path, data: bytes) -> None:
        """Only over the version that this writer has seen. Raises StoreLockedError where it is another."""
        key = self._key(path)
        if key is None:
            super().replace_file(path, data)
            return
        self._replace(path, key, data)
        self.passed("object replaced")

    def commit_folder(self, fresh: Path, final: Path) -> None:
        """Upload the finished folder `fresh` and commit it as `final`; it is taken into the cache.

        Raises StoreLockedError where another has written since the lock was taken, FileExistsError where
        something that has no number is there already.
        """
        key = self._key(final)
        if key is None:
            super().commit_folder(fresh, final)
            return
        files = {path.name: path for path in fresh.iterdir()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
        meta = files.pop(META).read_bytes()
        numbered = self._is_of_shards(final.parent)
        if numbered:
            self._log(final.parent).require_turn(_number(final.name))
            if self._leases[self._key(final.parent) or ""].lost:
                raise StoreLockedError(f"{final.parent.parent}: another process has taken over; run it again")
        with ThreadPoolExecutor(ASIDE) as pool:
            list(pool.map(lambda name: self._upload(f"{key}/{name}", files[name]), sorted(files)))
        try:
            self.place.put(f"{key}/{META}", meta, if_none_match=True)
        except TakenError:
            raise FileExistsError(errno.EEXIST, "is there already", str(final)) from None
        self.passed("shard.json uploaded")
        there = {one.key.rsplit("/", 1)[-1]: one.size for one in self.place.list(key)}
        if there != sizes:
            if numbered:
                self._log(final.parent).require_latest()  # who overtakes also sweeps
            raise StoreError(f"{final}: not what was uploaded; check the bucket, and run the same again")
        if numbered:
            self._log(final.parent).append(adds=(final.name, _seal(meta)))
            self.passed("commit recorded")
        for name, digest in self._copies.learn(key, meta).items():
            self.cache.keep(digest, files[name])
        shutil.rmtree(fresh, ignore_errors=True)

    def remove_folder(self, path: Path) -> None:
        """A shard by a record, after which its objects go; else shard.json goes first.

        Some servers go on listing a folder that is empty; to remove it does nothing.
        """
        key = self._key(path)
        if key is None:
            super().remove_folder(path)
            return
        found = [one.key for one in self.place.list(key)]
        if self._is_of_shards(path.parent):
            self._log(path.parent).append(removes=[path.name])
            self.passed("removal recorded")
        self._drop(found)
        self._copies.forget(key)

    def set_aside(self, path: Path, target: Path) -> None:
        """Copied by the server; then as a shard is removed."""
        key, aside = self._key(path), self._key(target)
        if key is None or aside is None:
            super().set_aside(path, target)
            return
        found = [one.key for one in self.place.list(key)]
        for one in found:
            self.place.copy(one, f"{aside}/{one.removeprefix(f'{key}/')}")
        self.passed("object set aside")
        self._log(path.parent).append(removes=[path.name])
        self.passed("removal recorded")
        self._drop(found)

    def sweep(self, parent: Path) -> None:
        """Delete uploads of shards that can no longer be committed: another has their number, for good."""
        key = self._key(parent)
        if key is None:
            super().sweep(parent)
            return
        if not self._is_of_shards(parent):
            return
        log = self._log(parent)
        if log.problems():
            return
        live = log.shards(anew=False)
        left = [name for name in self.place.children(key)[0] if _number(name) and name not in live]
        if not log.last and len(left) == 1 and (seal := self._whole(f"{key}/{left[0]}")):
            log.append(adds=(left[0], seal))  # else it may be a copy of a store of one shard that is deleted
            return
        if any(_number(name) >= log.next for name in left):
            log.append()  # who was to have this number and is not dead finds it taken
        for name in left:
            if _number(name) < log.next:
                self._drop([one.key for one in self.place.list(f"{key}/{name}")])

    def misfits(self, folder: Path) -> Sequence[tuple[Path, str]]:
        """The records of commits that are missing or damaged."""
        if self._key(folder) is None:
            return super().misfits(folder)
        log = self._log(folder)
        log.look()
        return [(UrlPath(where), what) for where, what in log.problems()]

    def mend(self, folder: Path) -> None:
        """Put missing and damaged records again, of shards that are whole and alone under their number."""
        key = self._key(folder)
        if key is None or not self.misfits(folder):
            return
        whole = dict[int, tuple[str, Seal]]()
        for name in filter(_number, self.place.children(key)[0]):
            if seal := self._whole(f"{key}/{name}"):
                twice = _number(name) in whole
                whole[_number(name)] = ("", Seal(0, "")) if twice else (name, seal)
        self._log(folder).mend({number: one for number, one in whole.items() if one[0]})

    def _whole(self, key: str) -> Seal | None:
        """Of the shard below `key`, where all that its shard.json promises is there, by its size."""
        with suppress(FileNotFoundError, ValueError, RecursionError):
            data = self.place.read(f"{key}/{META}")
            there = {one.key.rsplit("/", 1)[-1]: one.size for one in self.place.list(key)}
            if all(there.get(name) == file["size"] for name, file in sealed_value(data)["files"].items()):
                return _seal(data)
        return None

    def last_number(self, folder: Path) -> int:
        """Records that take shards out have numbers too."""
        return 0 if self._key(folder) is None else self._log(folder).last

    def _upload(self, key: str, file: Path) -> None:
        self.place.put(key, file)
        self.passed("file uploaded")

    def _replace(self, path: Path, key: str, data: bytes) -> None:
        """Put `data` over the version that this writer has seen, or where it has seen none."""
        if key not in self._etags:
            self.is_file(path)
        etag = self._etags.pop(key)
        try:
            self._etags[key] = self.place.put(key, data, if_none_match=etag is None, if_match=etag)
        except TakenError:
            raise StoreLockedError(
                f"{path}: another process has just written it; run the same again"
            ) from None

    def _drop(self, keys: Sequence[str]) -> None:
        for key in sorted(keys, key=lambda one: not one.endswith(f"/{META}")):  # that first
            self.place.delete(key)
            self.passed("object deleted")


def _number(name: str) -> int:
    """Of a shard, by its name; 0 of what is named otherwise."""
    found = _SHARD.fullmatch(name)
    return int(found[1]) if found else 0


def _seal(data: bytes) -> Seal:
    return Seal(len(data), blake3(data).hexdigest())
