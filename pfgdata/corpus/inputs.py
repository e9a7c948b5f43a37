"""From what was named to what is walked: folders, lists, archives and images become segments of roots.

What is named is told apart by its ending; a folder is a folder whatever its name is. Each file and folder
belongs to the longest known root above it. What has none gets new roots, no two of them inside each other.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pfgdata.corpus.lists import LIST_ENDINGS, list_paths
from pfgdata.corpus.names import archive_kind, is_image
from pfgdata.corpus.remote import exists_below, state_of
from pfgdata.corpus.segments import Segment, WalkOptions
from pfgdata.errors import AccessError, ConfigError
from pfgdata.paths import Place, Url, is_text, place_of
from pfgdata.records import shown

__all__ = ["plan_segments"]

_PACKED = " is a compressed tar, in which no image can be reached alone; unpack it to .tar or to a folder"


@dataclass(slots=True)
class _Named:
    """What one input stands for: a folder, or files by the realpath of their folder."""

    home: str  # realpath, or URL, of the folder itself, or of the one that the input lies in
    is_folder: bool = False
    files: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))


def plan_segments(
    inputs: Sequence[Place], roots: Mapping[str, str], *, options: WalkOptions | None = None
) -> list[Segment]:
    """The segments that together hold `inputs`, one a root, sorted; `roots` is known root -> where it is now.

    An input is a folder, a list of images (see pfgdata.corpus.lists; a relative path in it begins at the
    folder it lies in), an archive, a single image, or a URL of any but a list. What several name is walked
    once. Under no known root, a folder is a root itself, a file takes the folder it lies in; what a list
    names outside its own folder takes the common folder of it. Known roots below a folder are segments of
    their own. Raises ConfigError where an input cannot be walked or named.
    """
    named = [_look_at(path) for path in inputs]
    locations = {_real(location): root for root, location in sorted(roots.items())}
    fresh = {home for one in named for home in _homes(one, locations)}
    locations.update({home: _new_root(home, roots) for home in _outermost(fresh)})
    starts: dict[str, set[bytes]] = defaultdict(set)
    for one in named:
        if one.is_folder:
            _add_folder(one.home, locations, starts)
        for folder, names in one.files.items():
            location = _location_of(folder, locations)
            assert location is not None
            below = _relative(folder, location)
            prefix = below + b"/" if below else b""
            starts[location].update(prefix + name for name in names)
    segments = [
        _segment(location, found, locations, options or WalkOptions()) for location, found in starts.items()
    ]
    return sorted(segments, key=lambda segment: segment.root.encode())


def _real(location: str) -> str:
    return location if isinstance(place_of(location), Url) else os.path.realpath(location)


def _look_at(path: Place) -> _Named:
    """What an input stands for, after the checks a user can act on."""
    if isinstance(path, Url):
        return _look_far(path)
    try:
        mode = path.stat().st_mode
    except OSError as problem:
        reason = (problem.strerror or "cannot be reached").lower()
        raise ConfigError(f"{path}: {reason}; check the path, or mount the disk it is on") from None
    if stat.S_ISDIR(mode):
        if not os.access(path, os.R_OK | os.X_OK):
            raise ConfigError(f"{path} cannot be listed; give this user permission to read it")
        return _Named(os.path.realpath(path), is_folder=True)
    name = os.fsencode(path.name)
    kind = archive_kind(name)
    if not stat.S_ISREG(mode) or not (kind or is_image(name) or path.name.lower().endswith(LIST_ENDINGS)):
        raise ConfigError(
            f"{path} is no folder, image, archive (.tar, .zip, .cbz) or list ({', '.join(LIST_ENDINGS)}) by "
            "its name; name one of these"
        )
    if kind == "packed":
        raise ConfigError(f"{path}{_PACKED}")
    one = _Named(os.path.realpath(path.parent))
    if kind or is_image(name):
        one.files[one.home].append(name)
    else:
        _add_listed(one, list_paths(path))
    return one


def _look_far(url: Url) -> _Named:
    """What a URL stands for: a file where there is one and its name is an image's or archive's, or a folder.

    Raises PlaceError or ConfigError where it cannot be asked, or nothing is there.
    """
    folder, _, last = url.text.rpartition("/")
    name, kind = last.encode(), archive_kind(last.encode())
    if kind == "packed":
        raise ConfigError(f"{url}{_PACKED}")
    if last.lower().endswith(LIST_ENDINGS):
        raise ConfigError(f"{url}: a list is read on this machine; fetch it, and name the copy")
    why = ""
    if (kind or is_image(name)) and not folder.endswith("/"):
        try:
            state_of(url)
            one = _Named(folder)
            one.files[folder].append(name)
            return one
        except AccessError as problem:
            why = f": {problem}"
    if url.scheme.startswith("http"):
        named = why or ": a web server has no list of its files; name archives or images on it"
        raise ConfigError(f"{url}{named}")
    if not exists_below(url):
        raise ConfigError(f"{url}{why or ': nothing lies there'}; check the name")
    return _Named(url.text, is_folder=True)


def _add_listed(one: _Named, paths: Iterable[bytes]) -> None:
    """Sort listed paths by the folder they lie in; each folder is looked at once."""
    seen: dict[bytes, list[bytes]] = {}
    home = os.fsencode(one.home)
    for path in paths:
        folder, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            folder, name = os.path.split(os.path.realpath(os.path.join(home, path)))  # noqa: PTH118  (bytes)
        elif path.startswith(b"/"):
            folder = folder or b"/"
        names = seen.get(folder)
        if names is None:
            real = os.path.realpath(os.path.join(home, folder))  # noqa: PTH118
            names = seen[folder] = one.files[os.fsdecode(real)]
        names.append(name)
    if not any(is_image(name) or archive_kind(name) for name in one.files.get("/", ())):
        one.files.pop("/", None)  # a folder named in a list must not make / a root, which would hold all


def _homes(one: _Named, locations: Mapping[str, str]) -> set[str]:
    """The new roots that an input needs: none where a known one is above."""
    folders = [one.home] if one.is_folder else list(one.files)
    rootless = [folder for folder in folders if _location_of(folder, locations) is None]
    homes = {one.home} if any(_is_within(folder, one.home) for folder in rootless) else set()
    apart: dict[str, list[str]] = defaultdict(list)  # by first name: / as a root would hold everything
    for folder in rootless:
        if not _is_within(folder, one.home):
            apart[folder.split("/")[1]].append(folder)
    return homes | {os.path.commonpath(folders) for folders in apart.values()}


def _outermost(folders: Iterable[str]) -> list[str]:
    out: list[str] = []
    for folder in sorted(folders, key=len):
        if not any(_is_within(folder, other) for other in out):
            out.append(folder)
    return out


def _new_root(start: str, roots: Mapping[str, str]) -> str:
    """The name of a root first seen at `start`: the realpath itself."""
    if not is_text(start):
        raise ConfigError(f"{shown(os.fsencode(start))} is not a UTF-8 path; rename the folder to ingest it")
    if start in roots:
        raise ConfigError(
            f"{start} is on record as the old place of a corpus now at {roots[start]};"
            " give this folder another name, or use another store"
        )
    return start


def _add_folder(folder: str, locations: Mapping[str, str], starts: dict[str, set[bytes]]) -> None:
    """The start of a folder in its root, and those of the roots below it; one not mounted is left out."""
    own = _location_of(folder, locations)
    assert own is not None
    below = _relative(folder, own)
    starts[own].add(below + b"/" if below else b"")
    for location in locations:
        inside = location != folder and _is_within(location, folder)
        if inside and (isinstance(place_of(location), Url) or Path(location).is_dir()):
            starts[location].add(b"")


def _segment(
    location: str, starts: Iterable[bytes], locations: Mapping[str, str], options: WalkOptions
) -> Segment:
    """The segment of the root at `location`, without the roots inside it."""
    disjoint: list[bytes] = []
    named = set()
    folder: bytes | None = None  # the latest start that is one
    for start in sorted(starts):
        if folder is not None and start.startswith(folder):
            if archive_kind(start):
                named.add(start)
            continue
        disjoint.append(start)
        folder = start if not start or start.endswith(b"/") else folder
    place = place_of(location)
    if isinstance(place, Url) and place.scheme == "hf":
        options = replace(options, archives=True)  # what a dataset there mostly is
    inside = (other for other in locations if other != location and _is_within(other, location))
    return Segment(
        root=locations[location],
        location=place,
        starts=tuple(disjoint),
        exclude=frozenset(_relative(other, location) for other in inside),
        named=frozenset(named),
        options=options,
    )


def _location_of(folder: str, locations: Mapping[str, str]) -> str | None:
    """The longest location that holds `folder`."""
    return max((location for location in locations if _is_within(folder, location)), key=len, default=None)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _relative(path: str, folder: str) -> bytes:
    return os.fsencode(path[len(folder.rstrip("/")) :].lstrip("/"))
