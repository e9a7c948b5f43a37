"""A corpus that is not on this machine, walked and read as a folder is: the same rules, keys and order.

No server lists in the stable order for certain (SeaweedFS sorts a folder's name without its slash), so the
files below a start are listed first and sorted: some 100 bytes each, held until they are walked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

from pfgdata.corpus.archives import Index, member_of
from pfgdata.corpus.buckets import Bucket
from pfgdata.corpus.chunks import Chunk, WalkCounts
from pfgdata.corpus.hub_datasets import HubDataset
from pfgdata.corpus.names import CONTROL_ENDINGS, ArchiveKind, archive_kind, is_image, is_passed_over
from pfgdata.corpus.patterns import patterns_of
from pfgdata.corpus.pool import OrderedPool, Timeout
from pfgdata.corpus.remote_archives import RemoteArchives
from pfgdata.corpus.segments import Segment
from pfgdata.corpus.sources import RemoteFile, Source
from pfgdata.corpus.tar_index import index_beside
from pfgdata.errors import AccessError, ConfigError, ImageError, PlaceError
from pfgdata.paths import Url
from pfgdata.records import ImageKey

__all__ = [
    "exists_below",
    "read_remote",
    "remote_chunks",
    "remote_files",
    "remote_index",
    "remote_names",
    "require_reachable",
    "source_of",
    "state_of",
]

_LISTED_AT_ONCE = 8  # archives: each waits for its server
_GROUP = 1024  # files between archives handed over at a time


@functools.lru_cache(maxsize=64)
def source_of(url: Url) -> Source:
    """The files at `url`; nothing is asked of the server. Raises ConfigError where there can be none."""
    return HubDataset(url) if url.scheme == "hf" else Bucket(url)


@functools.lru_cache(maxsize=64)
def _archives_of(url: Url) -> RemoteArchives:
    """The archives below `url`."""
    return RemoteArchives(source_of(url), url.text)


def remote_files(url: Url, folder: bytes = b"") -> list[RemoteFile]:
    """All files below `folder` of `url`, by the bytes of their paths. Raises PlaceError, ConfigError."""
    return sorted(source_of(url).list(folder), key=lambda file: file.path)


def remote_names(url: Url, folder: bytes) -> list[bytes]:
    """The names of the files that lie directly in `folder`. Raises AccessError."""
    try:
        files = source_of(url).list(folder)
        return [name for file in files if b"/" not in (name := file.path[len(folder) :])]
    except (ConfigError, PlaceError) as problem:
        raise AccessError(str(problem)) from None


def read_remote(url: Url, key: ImageKey, *, max_bytes: int) -> tuple[RemoteFile, bytes]:
    """The bytes of the image `key` of the root that is at `url`, and the version of its file.

    Raises as `read` does.
    """
    kind = archive_kind(key.path)
    try:
        if kind is None and key.member is None:
            return source_of(url).read(key.path, max_bytes=max_bytes)
        if kind is None:
            raise AccessError("no archive by its name")
        find = functools.partial(member_of, name=key.member)
        return _archives_of(url).read(key.path, kind, find, max_bytes=max_bytes)
    except (ConfigError, PlaceError) as problem:
        raise AccessError(str(problem)) from None
    except MemoryError:
        raise AccessError("out of memory while reading") from None


def remote_index(url: Url, path: bytes, kind: ArchiveKind) -> Index:
    """What is in the archive at `path`. Raises as `read` does."""
    try:
        return _archives_of(url).open(path, kind).index
    except (ConfigError, PlaceError) as problem:
        raise AccessError(str(problem)) from None


def exists_below(url: Url) -> bool:
    """Whether any file lies below `url`. Raises PlaceError, ConfigError where it cannot be asked."""
    return next(iter(source_of(url).list(b"")), None) is not None


def state_of(url: Url) -> RemoteFile:
    """The single file at `url`. Raises AccessError where there is none to be had."""
    folder, _, name = url.text.rpartition("/")
    return source_of(Url(folder)).state(name.encode())


def require_reachable(url: Url) -> None:
    """Raise a PfgError unless something is there."""
    if not exists_below(url):
        raise ConfigError(f"{url}: nothing lies there; check the name")


def remote_chunks(segment: Segment, *, counts: WalkCounts, rows: int) -> Iterator[Chunk]:
    """What `walk_chunks` yields of a segment whose location is a URL."""
    assert isinstance(segment.location, Url)
    walk = _Walk(segment, segment.location, counts, rows)
    for start in segment.starts:
        yield from walk.at(start)
    if len(walk.chunk):
        yield walk.take()


class _Walk:
    """The walk of one segment: `chunk` is the one being filled."""

    def __init__(self, segment: Segment, url: Url, counts: WalkCounts, rows: int) -> None:
        self.chunk = Chunk()
        self._segment, self._url, self._counts, self._rows = segment, url, counts, rows
        self._source, self._archives = source_of(url), _archives_of(url)
        self._patterns = patterns_of(segment.options.include, segment.options.exclude)
        self._base = url.text.encode() + b"/"
        self._indexes: frozenset[bytes] = frozenset()  # what lies beside a tar where its index would

    def at(self, start: bytes) -> Iterator[Chunk]:
        """Fill in a start: a folder, or a file that was named."""
        if start and not start.endswith(b"/"):
            if self._takes(start):
                yield from self._fill([self._named(start)], named=True)
            else:
                self._counts.ignored += 1
            return
        files = remote_files(self._url, start)
        controls = {file.path.rpartition(b".")[0] for file in files if file.path.endswith(CONTROL_ENDINGS)}
        beside = {index_beside(file.path) for file in files if archive_kind(file.path) == "tar"}
        self._indexes = frozenset(file.path for file in files if file.path in beside)
        wanted = [file for file in files if self._is_wanted(file.path, start, controls)]
        yield from self._fill(wanted, named=False)

    def take(self) -> Chunk:
        """The chunk, and a new one begun."""
        chunk, self.chunk = self.chunk, Chunk()
        self._counts.found += len(chunk)
        return chunk

    def _named(self, path: bytes) -> RemoteFile:
        try:
            return self._source.state(path)
        except ImageError:  # reading it says what is wrong
            return RemoteFile(path, 0, "")

    def _takes(self, path: bytes) -> bool:
        """Whether a file is an image or archive by its name, and not left out by a pattern."""
        kind = archive_kind(path)
        if not (kind or is_image(path)):
            return False
        if not self._patterns:
            return True
        return not self._patterns.skips(path + b"/") if kind else self._patterns.takes(path)

    def _is_wanted(self, path: bytes, start: bytes, controls: set[bytes]) -> bool:
        """Whether the walk takes a file below a folder; what it does not take is counted."""
        if any(path.startswith(folder + b"/") for folder in self._segment.exclude):
            return False
        opened = self._segment.options.archives or path in self._segment.named
        wanted = not is_passed_over(path[len(start) :]) and (opened or archive_kind(path) is None)
        if wanted and path in controls:
            self._counts.passed.add(self._base + path)
            wanted = False
        wanted = wanted and self._takes(path)
        self._counts.ignored += not wanted
        return wanted

    def _fill(self, files: Sequence[RemoteFile], *, named: bool) -> Iterator[Chunk]:
        """Fill in files, and what is in the archives among them, of which several are listed at a time."""
        look = functools.partial(self._look, named=named)
        groups = _groups(files)
        patient = Timeout(seconds=lambda: math.inf, instead=_nothing)  # and an interrupt waits for no archive
        with OrderedPool(
            groups, look, threads=_LISTED_AT_ONCE, ahead=2 * _LISTED_AT_ONCE, timeout=patient
        ) as looked:
            for group, index in looked:
                if archive_kind(group[0].path):
                    yield from self._members(group[0], index)
                else:
                    for file in group:
                        yield from self._add(file)

    def _look(self, group: list[RemoteFile], *, named: bool) -> tuple[list[RemoteFile], Index | None]:
        """A group with what is in the archive that it is; nothing where that cannot be listed."""
        file = group[0]
        kind = archive_kind(file.path)
        if kind is None or file == RemoteFile(file.path, 0, ""):
            return group, None
        indexed = None if named else index_beside(file.path) in self._indexes
        try:
            return group, self._archives.open(file.path, kind, file=file, indexed=indexed).index
        except (ImageError, OSError):  # reading it says what is wrong
            return group, None

    def _members(self, file: RemoteFile, index: Index | None) -> Iterator[Chunk]:
        """Fill in the images of an archive, and itself first if it could not be listed whole."""
        if index is None or index.problem:
            yield from self._add(file)
            self._counts.passed.add(self._base + file.path)
        if index is None:
            return
        self._counts.ignored += index.ignored
        for name in sorted(index.members):
            if self._patterns and not self._patterns.takes(file.path + b"/" + name):
                self._counts.ignored += 1
                continue
            self.chunk.add_member(file.path, name, (index.members[name].size, file.mtime_ns))
            if len(self.chunk) >= self._rows:
                yield self.take()

    def _add(self, file: RemoteFile) -> Iterator[Chunk]:
        self.chunk.add(file.path, (file.size, file.mtime_ns) if file.etag else (0, 0))
        if len(self.chunk) >= self._rows:
            yield self.take()


def _nothing(group: list[RemoteFile]) -> tuple[list[RemoteFile], Index | None]:
    return group, None


def _groups(files: Sequence[RemoteFile]) -> Iterator[list[RemoteFile]]:
    """Archives one by one, and what is between them together."""
    group: list[RemoteFile] = []
    for file in files:
        alone = archive_kind(file.path) is not None
        if group and (alone or len(group) == _GROUP):
            yield group
            group = []
        if alone:
            yield [file]
        else:
            group.append(file)
    if group:
        yield group
