"""The walk of a segment: images by name, in the stable order, one folder's names in memory at a time.

The order is that of the bytes of whole relative paths. Sorting each folder gives it only if a folder's name
counts with its slash: `a-b`, `a.txt` and `a/b` sort by `-`, `.` and `/`.
"""

from __future__ import annotations

import itertools
import os
import stat
from array import array
from collections.abc import Iterator

from pfgdata.corpus.chunks import Chunk, WalkCounts
from pfgdata.corpus.names import COMMON_ENDINGS, CONTROL_ENDINGS, archive_kind, is_image, is_wanted_folder
from pfgdata.corpus.patterns import patterns_of
from pfgdata.corpus.reader import Archive, file_time, index_of, open_plain
from pfgdata.corpus.remote import remote_chunks
from pfgdata.corpus.segments import Segment
from pfgdata.errors import ImageError
from pfgdata.paths import Url
from pfgdata.records import Found, ImageKey

__all__ = ["walk", "walk_chunks"]

_Names = list[bytes]  # to visit in one folder, last first, folders with a slash
_Id = tuple[int, int]  # device and inode of a folder
_DOT = ord(".")
_NOTHING = (0, 0)  # size and mtime_ns of what is not there
_KERNEL = (b"/proc/", b"/sys/")  # plain files by their mode, and no disk's


def walk(segment: Segment, *, counts: WalkCounts) -> Iterator[Found]:
    """Yield every file of the segment that is an image by name, and the images of archives, in stable order.

    What is passed over says `pfgdata.corpus.names`; it holds below folders, not for named files.
    A link to a file inside the root is a row like any other; a link out of it, or to a folder, is not
    followed unless the options say so, and then not into a folder that it lies in. A file that is gone,
    broken or no plain file is yielded too, with what is known of it, and will fail to be read, as does an
    archive that cannot be listed whole: nothing is dropped in silence.
    """
    for chunk in walk_chunks(segment, counts=counts, rows=1):
        for path, inside, size, mtime_ns in zip(
            chunk.paths, chunk.insides, chunk.sizes, chunk.mtimes_ns, strict=True
        ):
            key = ImageKey(root=segment.root, path=path, member=inside[0] if inside else None)
            yield Found(key=key, size=size, mtime_ns=mtime_ns)


def walk_chunks(segment: Segment, *, counts: WalkCounts, rows: int) -> Iterator[Chunk]:
    """What `walk` yields, by column, which costs a third: chunks of `rows`, the last one of less.

    Of a location that is a URL, raises PlaceError or ConfigError where it cannot be listed.
    """
    if isinstance(segment.location, Url):
        yield from remote_chunks(segment, counts=counts, rows=rows)
        return
    walker = _Walker(segment, counts, rows)
    for start in segment.starts:
        if not start or start.endswith(b"/"):
            yield from walker.below(start)
        elif walker.wants(start):
            yield from walker.at(start, opened=True)
    if len(walker.chunk):
        yield walker.take()


class _Walker:
    """The walk of one segment: `chunk` is the one being filled, yielded when it has `rows`."""

    def __init__(self, segment: Segment, counts: WalkCounts, rows: int) -> None:
        options = segment.options
        self.chunk = Chunk()
        self._segment = segment
        self._counts = counts
        self._rows = rows
        self._base = os.fsencode(str(segment.location)).rstrip(b"/") + b"/"
        self._inside = os.path.realpath(self._base).rstrip(b"/") + b"/"
        self._follow, self._archives = options.follow_links, options.archives
        self._archives_here = options.archives or bool(segment.named)
        self._patterns = patterns_of(options.include, options.exclude)
        self._quick: set[bytes] = set()  # open folders listed without the types of what they hold

    def wants(self, path: bytes) -> bool:
        """Whether a named file is taken; one that is not counts as ignored."""
        kind = archive_kind(path)
        wanted = kind is not None or is_image(path)
        if wanted and self._patterns:
            wanted = not self._patterns.skips(path + b"/") if kind else self._patterns.takes(path)
        self._counts.ignored += not wanted
        return wanted

    def below(self, start: bytes) -> Iterator[Chunk]:
        """Fill in all files below a folder."""
        folders = [self._open(start, [])]
        while folders:
            folder, names, _ = folders[-1]
            if not names:
                folders.pop()
                self._quick.discard(folder)
            elif names[-1].endswith(b"/"):
                above = [identity for _, _, identity in folders]
                folders.append(self._open(folder + names.pop(), above))
            else:
                files = self._next_files(names)
                states = [] if self._archives_here else self._stats(folder, files)
                if states:
                    yield from self._add(folder, files, states)
                elif folder in self._quick:  # perhaps a folder with an image's name: list again, by type
                    self._quick.discard(folder)
                    names[:] = [name for name in self._names(folder, quick=False) if name >= files[0]]
                else:
                    for name in files:
                        yield from self.at(folder + name, opened=self._archives_here)

    def _next_files(self, names: _Names) -> _Names:
        """Take the files that come next, before any folder, as many as the chunk has room for."""
        room = self._rows - len(self.chunk)
        files = names[-room:][::-1]
        if b"/" in b"".join(files):
            files = list(itertools.takewhile(lambda name: not name.endswith(b"/"), files))
        del names[-len(files) :]
        return files

    def _add(self, folder: bytes, names: _Names, states: list[os.stat_result]) -> Iterator[Chunk]:
        """Fill in plain files of a folder, all at once, which halves what is not the stat."""
        chunk = self.chunk
        chunk.paths += [folder + name for name in names]
        chunk.sizes += array("Q", [state.st_size for state in states])
        try:
            chunk.mtimes_ns += array("q", [state.st_mtime_ns for state in states])
        except OverflowError:
            chunk.mtimes_ns += array("q", map(file_time, states))
        if len(chunk) >= self._rows:
            yield self.take()

    def _stats(self, folder: bytes, names: _Names) -> list[os.stat_result]:
        """The state of each file, or none at all unless all are plain."""
        at = None
        try:
            at = os.open(self._base + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            states = [os.stat(name, dir_fd=at, follow_symlinks=False) for name in names]
        except OSError:
            return []
        finally:
            if at is not None:
                os.close(at)
        modes = {state.st_mode for state in states}
        return states if all(stat.S_ISREG(mode) for mode in modes) else []

    def at(self, path: bytes, *, opened: bool) -> Iterator[Chunk]:
        """Fill in a file of any kind, or what is in the archive it is, where it is to be `opened`."""
        state = self._state(path)
        if state is None:
            self._counts.links += 1
            self._counts.passed.add(self._base + path)
        elif opened and archive_kind(path):
            yield from self._members(path, state)
        else:
            self.chunk.add(path, state)
        if len(self.chunk) >= self._rows:
            yield self.take()

    def take(self) -> Chunk:
        """The chunk, and a new one begun."""
        chunk = self.chunk
        self.chunk = Chunk()
        self._counts.found += len(chunk)
        return chunk

    def _members(self, path: bytes, state: tuple[int, int]) -> Iterator[Chunk]:
        """Fill in the images of an archive, and the archive itself first if it could not be listed whole."""
        kind = archive_kind(path)
        assert kind is not None
        index = None
        try:
            with open_plain(self._base, path, follow_links=self._follow) as (file, opened):
                archive = Archive(self._base, path, kind, self._follow)
                index, modified = index_of(archive, file, opened), file_time(opened)
        except (ImageError, OSError):
            pass  # reading it says what is wrong
        if index is None or index.problem:
            self.chunk.add(path, state)
            if state != _NOTHING:
                self._counts.passed.add(self._base + path)
        if index is None:
            return
        self._counts.ignored += index.ignored
        for name in sorted(index.members):
            if self._patterns and not self._patterns.takes(path + b"/" + name):
                self._counts.ignored += 1
                continue
            self.chunk.add_member(path, name, (index.members[name].size, modified))
            if len(self.chunk) >= self._rows:
                yield self.take()

    def _open(self, folder: bytes, above: list[_Id | None]) -> tuple[bytes, _Names, _Id | None]:
        """A folder, its names, its identity where links are followed; one that lies in itself is empty."""
        if not self._follow:
            return folder, self._names(folder), None
        try:
            state = os.stat(self._base + folder)  # noqa: PTH116  (bytes, which pathlib does not take)
        except OSError:
            return folder, self._names(folder), None
        identity = (state.st_dev, state.st_ino)
        if identity in above:
            self._counts.links += 1
            return folder, [], identity
        return folder, self._names(folder), identity

    def _quick_names(self, folder: bytes) -> _Names:
        """Names of a folder that holds nothing but images by name; of any other none."""
        if self._follow or self._patterns or self._archives_here:
            return []
        try:
            listed = os.listdir(self._base + folder)  # noqa: PTH208  (bytes; half the cost of scandir)
        except OSError:
            return []
        names = [name for name in listed if name.endswith(COMMON_ENDINGS) and name[0] != _DOT]
        if len(names) < len(listed):
            return []
        self._quick.add(folder)
        names.sort(reverse=True)
        return names

    def _names(self, folder: bytes, *, quick: bool = True) -> _Names:
        """Names to visit in a folder; the rest is counted."""
        if quick and (names := self._quick_names(folder)):
            return names
        names = []
        controls: list[bytes] = []
        follow = self._follow
        try:
            with os.scandir(self._base + folder) as entries:
                for entry in entries:
                    name = entry.name
                    if entry.is_dir(follow_symlinks=follow):
                        self._add_folder(folder, name, names)
                    elif name[0] != _DOT and (name.endswith(COMMON_ENDINGS) or is_image(name)):
                        names.append(name)
                    else:
                        self._add_other(folder, entry, names)
                        if name.endswith(CONTROL_ENDINGS):
                            controls.append(name.rpartition(b".")[0])
        except OSError:
            self._counts.unreadable.append((self._base + folder).rstrip(b"/"))
        if controls:
            self._drop_unfinished(folder, names, controls)
        if self._patterns:
            names = [name for name in names if self._is_wanted(folder, name)]
        names.sort(reverse=True)
        return names

    def _add_folder(self, folder: bytes, name: bytes, names: _Names) -> None:
        if not is_wanted_folder(name):
            self._counts.ignored += 1
        elif folder + name not in self._segment.exclude:
            names.append(name + b"/")

    def _add_other(self, folder: bytes, entry: os.DirEntry[bytes], names: _Names) -> None:
        """A file that is no image: an archive to open, a link to a folder, or nothing."""
        name = entry.name
        hidden = name.startswith(b".")
        if folder + name in self._segment.named or (self._archives and not hidden and archive_kind(name)):
            names.append(name)
        elif not hidden and entry.is_symlink() and entry.is_dir():
            self._counts.links += 1
            self._counts.passed.add(self._base + folder + name)
        else:
            self._counts.ignored += 1

    def _drop_unfinished(self, folder: bytes, names: _Names, controls: list[bytes]) -> None:
        for name in set(controls).intersection(names):
            names.remove(name)
            self._counts.ignored += 1
            self._counts.passed.add(self._base + folder + name)

    def _is_wanted(self, folder: bytes, name: bytes) -> bool:
        if name.endswith(b"/"):
            wanted = not self._patterns.skips(folder + name)
            self._counts.ignored += not wanted
            return wanted
        return self.wants(folder + name)

    def _state(self, path: bytes) -> tuple[int, int] | None:
        """(size, mtime_ns) of a file or a link's target, zeros if there is none; None if not followed."""
        whole = self._base + path
        try:
            state = os.lstat(whole)
            if stat.S_ISLNK(state.st_mode):
                target = os.path.realpath(whole)
                if not self._follow and not target.startswith(self._inside):
                    return _NOTHING if _is_no_file(target) else None
                state = os.stat(whole)  # noqa: PTH116  (bytes, which pathlib does not take)
                if stat.S_ISDIR(state.st_mode):
                    return None
        except OSError:
            return _NOTHING
        return state.st_size, file_time(state)


def _is_no_file(target: bytes) -> bool:
    """Whether there is a device, a pipe, a socket or a file of the kernel's: it fails, never opened."""
    try:
        mode = os.stat(target).st_mode  # noqa: PTH116
    except OSError:
        return False
    return target.startswith(_KERNEL) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
