"""Archives that lie far away: what is in them, and their members, with as little fetched as will do.

A tar with an index beside it, and a zip, are listed by a few requests; any other tar is fetched whole into
the cache, and what is in it is kept there. Members are read by ranges until there were many: then the whole
archive is fetched beside them.
"""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from blake3 import blake3

from pfgdata.corpus.archives import Index, Member, index_archive, member_bytes, read_at
from pfgdata.corpus.names import ArchiveKind
from pfgdata.corpus.sources import RemoteFile, Source
from pfgdata.corpus.tar_index import MAX_INDEX_BYTES, index_beside, index_from_json
from pfgdata.errors import AccessError, ContentError, ImageError, PfgError
from pfgdata.files import FileCache

__all__ = ["Opened", "RemoteArchives"]

_MEMBERS, _ARCHIVES = 300_000, 256  # held open at most: some 75 MB and the names
_FEW = 16  # members that are read by ranges, however large a part of their archive they are
_PART = 8  # from an eighth of an archive's bytes on the whole is fetched
_ASKED = 4  # members of an archive where each request counts, before the whole is fetched
_LISTING = 1 << 18  # bytes a request asks at least for, while a zip is listed
_WHOLES = 4  # whole archives held open, beyond what the cache's bound lets stay
_AGAIN = 30.0  # seconds before a fetch that failed is tried again
_INDEX_FORMAT = 1


@dataclass(slots=True)
class Opened:
    """One version of an archive, and what is in it."""

    file: RemoteFile
    index: Index
    asked: int = 0  # members read by ranges so far
    bytes_asked: int = 0
    fetching: threading.Thread | None = None
    failed_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


class RemoteArchives:
    """The archives of one source, opened once each for all threads."""

    def __init__(self, source: Source, url: str) -> None:
        self._source = source
        self._url = url
        self._cache = FileCache()
        self._opened: OrderedDict[bytes, Opened] = OrderedDict()
        self._opening: dict[bytes, threading.Lock] = {}
        self._wholes: OrderedDict[str, _Whole] = OrderedDict()
        self._lock = threading.Lock()

    def open(
        self, path: bytes, kind: ArchiveKind, *, file: RemoteFile | None = None, indexed: bool | None = None
    ) -> Opened:
        """The archive at `path`, listed.

        `file` is its version as just seen, `indexed` whether a tar may have an index. Raises as `read`.
        """
        with self._lock:
            alone = self._opening.setdefault(path, threading.Lock())
        with alone:
            with self._lock:
                known = self._opened.get(path)
                if known is not None and (file is None or known.file == file):
                    self._opened.move_to_end(path)
                    return known
            file = file or self._source.state(path)
            opened = Opened(file, self._index(file, kind, indexed=indexed))
            with self._lock:
                self._opened[path] = opened
                self._drop_oldest()
            return opened

    def read(
        self, path: bytes, kind: ArchiveKind, find: Callable[[Index], Member], *, max_bytes: int
    ) -> tuple[RemoteFile, bytes]:
        """The bytes of the member that `find` finds, and of which version of its archive.

        Raises AccessError where it cannot be had this time, ContentError where its archive cannot give it.
        """
        opened = self.open(path, kind)
        try:
            return opened.file, self._member(opened, find(opened.index), max_bytes=max_bytes)
        except AccessError:
            now = self._source.state(path)
            if now == opened.file:
                raise
        opened = self.open(path, kind, file=now)  # another version came meanwhile
        return opened.file, self._member(opened, find(opened.index), max_bytes=max_bytes)

    def _member(self, opened: Opened, member: Member, *, max_bytes: int) -> bytes:
        file, key = opened.file, self._key(opened.file)
        if key in self._wholes or self._cache.has(key):
            whole = self._whole(file)
            return member_bytes(partial(read_at, whole.descriptor), member, max_bytes=max_bytes)
        data = member_bytes(partial(self._ranged, file), member, max_bytes=max_bytes)
        with opened.lock:
            opened.asked += 1
            opened.bytes_asked += member.packed
            if self._is_many(opened):
                opened.fetching = threading.Thread(
                    target=self._fetch_beside, args=(opened,), name="pfg-fetch", daemon=True
                )
                opened.fetching.start()
        return data

    def _is_many(self, opened: Opened) -> bool:
        """Whether it is time to fetch the whole archive: many members were read, and it is not on its way."""
        if opened.fetching is not None or time.monotonic() - opened.failed_at < _AGAIN:
            return False
        if self._source.slow_to_ask:
            return opened.asked >= _ASKED
        return opened.asked > _FEW and opened.bytes_asked * _PART > opened.file.size

    def _fetch_beside(self, opened: Opened) -> None:
        try:
            self._whole(opened.file)
        except (PfgError, OSError):  # members go on coming by ranges, and say what is wrong
            opened.failed_at = time.monotonic()
        opened.fetching = None

    def _whole(self, file: RemoteFile) -> _Whole:
        """The whole archive, open; fetched into the cache where it is not there."""
        key = self._key(file)
        while True:
            with self._lock:
                if key in self._wholes:
                    self._wholes.move_to_end(key)
                    return self._wholes[key]
            place = self._cache.get(key, lambda target: self._source.fetch(file, target))
            try:
                whole = _Whole(place)
            except FileNotFoundError:  # another thread has just released it
                continue
            self._cache.release(key)  # open, it stays as long as it is needed, however full the cache gets
            with self._lock:
                self._wholes[key] = whole
                if len(self._wholes) > _WHOLES:
                    self._wholes.popitem(last=False)
            return whole

    def _ranged(self, file: RemoteFile, size: int, offset: int) -> bytes:
        if offset < 0 or offset + size > file.size:
            raise ContentError("cut off: its archive ends within it")
        return self._source.read_part(file, offset, size)

    def _index(self, file: RemoteFile, kind: ArchiveKind, *, indexed: bool | None) -> Index:
        beside = index_beside(file.path) if indexed is not False else None
        if beside is not None and (found := self._index_beside(beside, file)):
            return found
        if kind != "tar":
            return index_archive(_Ranges(self._source, file).buffered(), kind)
        return self._index_kept(file) or self._index_of_whole(file, kind)

    def _index_kept(self, file: RemoteFile) -> Index | None:
        """What was found in a tar that was fetched before."""
        key = self._key(file, "index")
        if not self._cache.has(key):
            return None
        try:
            return _unpacked(self._cache.get(key, _nothing).read_bytes())
        except (OSError, ValueError, TypeError, KeyError):
            self._cache.forget(key)
            return None
        finally:
            self._cache.release(key)

    def _index_of_whole(self, file: RemoteFile, kind: ArchiveKind) -> Index:
        whole = self._whole(file)
        with os.fdopen(os.dup(whole.descriptor), "rb") as tar:
            index = index_archive(tar, kind)
        key = self._key(file, "index")
        self._cache.get(key, lambda target: _write(target, _packed(index)))
        self._cache.release(key)
        return index

    def _index_beside(self, beside: bytes, tar: RemoteFile) -> Index | None:
        try:
            _, data = self._source.read(beside, max_bytes=MAX_INDEX_BYTES)
        except ImageError:
            return None
        return index_from_json(data, tar_size=tar.size)

    def _drop_oldest(self) -> None:
        held = sum(len(one.index.members) for one in self._opened.values())
        while len(self._opened) > 2 and (held > _MEMBERS or len(self._opened) > _ARCHIVES):
            path, oldest = self._opened.popitem(last=False)
            self._opening.pop(path, None)
            held -= len(oldest.index.members)

    def _key(self, file: RemoteFile, what: str = "archive") -> str:
        """The digest under which the cache has it: an etag says nothing outside its own place."""
        version = _INDEX_FORMAT if what == "index" else 0
        named = [what, version, self._url, os.fsdecode(file.path), file.size, file.etag]
        return blake3(json.dumps(named).encode()).hexdigest()


class _Whole:
    """A whole archive on this disk, open until nobody has it."""

    def __init__(self, place: Path) -> None:
        self.descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def _write(target: Path, data: bytes) -> None:
    target.write_bytes(data)


def _nothing(target: Path) -> None:
    """For a file of the cache that another process has just removed."""
    target.touch()


class _Ranges(io.RawIOBase):
    """A file that lies far away, to be read here and there."""

    def __init__(self, source: Source, file: RemoteFile) -> None:
        self._source, self._file, self._at = source, file, 0

    def buffered(self) -> BinaryIO:
        """With at least 256 KB a request."""
        return io.BufferedReader(self, _LISTING)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readall(self) -> bytes:
        data = self._source.read_part(self._file, self._at, max(0, self._file.size - self._at))
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self._file.size - self._at))
        buffer[:size] = self._source.read_part(self._file, self._at, size)
        self._at += size
        return size


def _packed(index: Index) -> bytes:
    """An index as the cache keeps it."""
    value = {
        "members": _texts(index.members),
        "sidecars": _texts(index.sidecars),
        "ignored": index.ignored,
        "problem": index.problem,
    }
    return json.dumps(value).encode()


def _texts(members: Mapping[bytes, Member]) -> dict[str, list[Any]]:
    return {os.fsdecode(name): list(one) for name, one in members.items()}


def _unpacked(data: bytes) -> Index:
    value = json.loads(data)
    members, sidecars = (
        {os.fsencode(name): Member(*one) for name, one in value[table].items()}
        for table in ("members", "sidecars")
    )
    return Index(members, sidecars, value["ignored"], value["problem"])
