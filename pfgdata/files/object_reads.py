"""What is read of a store in a bucket: copied once to this machine, by the BLAKE3 that a shard.json promises.

A path that is not below the place is one of this machine, as for any disk.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from pfgdata.files.cache import FileCache
from pfgdata.files.commit_log import CommitLog
from pfgdata.files.copies import SealedCopies
from pfgdata.files.disk import Disk
from pfgdata.files.lease import LEASE_SECONDS, Lease
from pfgdata.files.places import ObjectPlace
from pfgdata.urls import UrlPath

__all__ = ["META", "SHARDS", "ReadingDisk", "missing"]

SHARDS, META = "shards", "shard.json"
ASIDE = 8  # requests side by side: uploads, and copies brought ahead


class ReadingDisk(Disk):
    """What lies below one URL, for reading."""

    def __init__(
        self,
        root: Path,
        *,
        place: ObjectPlace | None = None,
        cache: FileCache | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.root = UrlPath(root)
        self.place = place or ObjectPlace.at(root)
        self.cache = cache or FileCache()
        self._lease_seconds = lease_seconds
        self._trusting = True
        self._copies = SealedCopies(self.place, self.cache)
        self._logs: dict[str, CommitLog] = {}  # by the key of a set's shards
        self._leases: dict[str, Lease] = {}
        self._etags: dict[str, str | None] = {}  # of what a writer has seen under a key; None: nothing

    def names(self, folder: Path) -> list[str]:
        """One request for 1,000; of shards those that are committed."""
        key = self._key(folder)
        if key is None:
            return super().names(folder)
        if self._is_of_shards(folder):
            return list(self._log(folder).shards())
        folders, objects = self.place.children(key)
        for one in objects:
            self._etags.setdefault(one.key, one.etag)
        files = [one.key.rsplit("/", 1)[-1] for one in objects if one.size]
        return [*folders, *files]

    def is_file(self, path: Path) -> bool:
        """An empty object is what was removed."""
        key = self._key(path)
        if key is None:
            return super().is_file(path)
        try:
            info = self.place.info(key)
        except FileNotFoundError:
            self._etags.setdefault(key, None)
            return False
        self._etags.setdefault(key, info.etag)
        return info.size > 0

    def is_folder(self, path: Path) -> bool:
        """Whether anything lies below it."""
        key = self._key(path)
        if key is None:
            return super().is_folder(path)
        return self._is_of_shards(path) or any(one.size for one in self.place.list(key))

    def size(self, path: Path) -> int:
        """Of a copy, where there is one."""
        key = self._key(path)
        if key is None:
            return super().size(path)
        digest = self._copies.promised(key)
        if self._trusting and digest and self.cache.has(digest):
            return self._copies.copy(key, digest).stat().st_size
        if not (size := self.place.info(key).size):
            raise missing(path)
        return size

    def read(self, path: Path) -> bytes:
        """A shard.json from its copy; anything else as it is there now."""
        key = self._key(path)
        if key is None:
            return super().read(path)
        if path.name == META:
            data = self._read_meta(path, key)
            self._copies.learn(key.rpartition("/")[0], data)
            return data
        try:
            data, info = self.place.read_known(key)
        except FileNotFoundError:
            self._etags[key] = None
            raise
        self._etags[key] = info.etag
        if not data:  # what was removed
            raise missing(path)
        return data

    def _read_meta(self, path: Path, key: str) -> bytes:
        shards = path.parent.parent
        if not self._is_of_shards(shards) or not self._trusting:
            return self.place.read(key)
        seal = self._log(shards).shards(anew=False).get(path.parent.name)
        if seal is None:
            raise missing(path)
        return self._copies.copy(key, seal.blake3).read_bytes()

    def local(self, path: Path) -> Path:
        """A copy, compared with its BLAKE3 where one is promised. Raises ValueError where it has others."""
        key = self._key(path)
        if key is None:
            return super().local(path)
        try:
            if digest := self._sealed(path, key):
                return self._copies.copy(key, digest)
            info = self.place.info(key)
            name = blake3(f"{self.place.url}/{key} {info.etag}".encode()).hexdigest()
            return self.cache.get(name, lambda fresh: _ignore(self.place.fetch(key, fresh)))
        except FileNotFoundError:
            return self.cache.folder / "nowhere" / path.name

    def opened(self, path: Path) -> None:
        """Its copy may go, where room is needed: who has it open goes on with it."""
        key = self._key(path)
        if key is not None and (digest := self._copies.promised(key)):
            self.cache.opened(digest)

    def ahead(self, paths: Iterable[Path]) -> None:
        """Copy them, several at once; what fails is told to who opens it."""
        keys = ((path, self._key(path)) for path in paths)
        wanted = [path for path, key in keys if key is not None and not self._copies.is_here(key)]
        if len(wanted) > 1:
            with ThreadPoolExecutor(ASIDE) as pool:
                list(pool.map(self._bring, wanted))

    def _bring(self, path: Path) -> None:
        with suppress(OSError, ValueError):  # who opens it is told
            (self.read if path.name == META else self.local)(path)

    def ranges(self, path: Path, spans: Sequence[tuple[int, int]]) -> Sequence[bytes] | None:
        """None where there is a copy."""
        key = self._key(path)
        if key is None or self._copies.is_here(key):
            return None
        return self.place.read_ranges(key, spans)

    def digest(self, path: Path) -> str:
        """Read from the server, never from a copy."""
        key = self._key(path)
        return super().digest(path) if key is None else self.place.digest(key)

    def afresh(self) -> Disk:
        """The same place, whose shard.json files are read there."""
        other = type(self)(self.root, place=self.place, cache=self.cache)
        other._trusting = False
        return other

    def modified(self, path: Path) -> float:
        """Of a folder, when the last object in it was written."""
        key = self._key(path)
        if key is None:
            return super().modified(path)
        times = [one.modified.timestamp() for one in self.place.list(key)]
        return max(times) if times else self.place.info(key).modified.timestamp()

    def deletable(self, folder: Path) -> Path:
        """Beside the cache, under the name of the place."""
        key = self._key(folder)
        if key is None:
            return super().deletable(folder)
        name = blake3(f"{self.place.url}/{key}".encode()).hexdigest(length=8)
        place = self.cache.folder.parent / "stores" / name / folder.name
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _key(self, path: Path) -> str | None:
        """The key of a path below this place; None for one of this machine."""
        try:
            key = path.relative_to(self.root).as_posix()
        except ValueError:
            return None
        return "" if key == "." else key

    def _is_of_shards(self, folder: Path) -> bool:
        """Whether `folder` holds the shards of a set; the store's own folder may be named so too."""
        return folder.name == SHARDS and folder != self.root

    def _log(self, shards: Path) -> CommitLog:
        key = self._key(shards.parent) or ""
        if key not in self._logs:
            place = self.place.below(key) if key else self.place
            self._logs[key] = CommitLog(place, self.cache)
        return self._logs[key]

    def _sealed(self, path: Path, key: str) -> str | None:
        """The BLAKE3 of a file of a shard; None of what no shard.json speaks of."""
        digest = self._copies.promised(key)
        if digest is None and self._is_of_shards(path.parent.parent) and path.name != META:
            self.read(path.parent / META)
            digest = self._copies.promised(key)
        return digest


def missing(path: Path) -> FileNotFoundError:
    """What to raise where there is no object."""
    return FileNotFoundError(errno.ENOENT, "no such object", str(path))


def _ignore(_: str) -> None:
    """Of what is brought and kept by its etag nobody promised a digest."""
