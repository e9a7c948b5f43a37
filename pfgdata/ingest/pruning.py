"""Rows whose file is gone are dropped: one commit of a shard that only hides them.

An unmounted disk looks like a corpus without files, so a root that is missing or empty, or that would lose
over a fifth of its rows, is refused until a person has said yes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from pfgdata.corpus import Segment, WalkCounts, WalkOptions, file_time, remote_files, walk
from pfgdata.errors import PfgError, StoreError
from pfgdata.paths import Place, Url, place_of
from pfgdata.records import NoProgress, Progress, during, shown
from pfgdata.store import KEY_COLUMNS, Shadow, ShardContents, Snapshot, Store, keys_of

__all__ = ["PruneReport", "prune"]

_COLUMNS = (*KEY_COLUMNS, "mtime_ns")
_MUCH = 0.2  # of a root's rows: more are gone at once when a disk is than when a person tidies up


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What a prune did, or would do."""

    checked: int  # images and failures looked at
    images: int  # of those, gone
    failures: int
    files: tuple[str, ...]  # that are gone, by shard and there in the stable order; each once
    refused: tuple[str, ...] = ()  # why this needs a person's yes; of a dry run only
    unseen: tuple[str, ...] = ()  # roots in trouble of which nothing is known to be gone, so all of it stays


@dataclass(slots=True)
class _Root:
    """One corpus root as this prune finds it."""

    location: bytes
    place: Place
    identity: tuple[int, int] | None  # device and inode of the location, None where there is none
    trouble: str | None  # why its rows may only seem to be gone
    far: Mapping[bytes, int] | None = None  # what lies at a URL, with what stands for its time
    rows: int = 0
    gone: int = 0

    @property
    def unseen(self) -> bool:
        """Whether nothing can be told of it, or all of it seems to be there."""
        return self.trouble is not None and not self.gone


@dataclass(slots=True)
class _Findings:
    """What was looked at, and what of it is gone."""

    roots: dict[str, _Root] = field(default_factory=dict)
    shadows: list[Shadow] = field(default_factory=list)
    files: dict[str, None] = field(default_factory=dict)  # ordered, each once


def prune(
    store: Store,
    *,
    yes: bool = False,
    dry_run: bool = False,
    roots: Collection[str] | None = None,
    progress: Progress | None = None,
) -> PruneReport:
    """Drop the images and failures whose file is gone; only those of `roots` (names on record), if given.

    A file is gone where the system says that there is none; one that cannot be looked at stays. Members go
    with their archive, and where it has changed since and lists whole without them. Raises StoreError, unless
    `yes`, where rows would go of a root whose folder is missing, no folder, not to be listed or empty, or
    over a fifth of a root's rows; StoreLockedError while another process writes.
    """
    progress = progress or NoProgress()
    if dry_run:
        findings = _look(store, store.snapshot(), roots, progress)
        return _report(findings, refused=_refusals(findings))
    with store.writer() as writer:
        findings = _look(store, store.snapshot(), roots, progress)
        refused = _refusals(findings)
        if refused and not yes:
            raise StoreError(f"{'; '.join(refused)}; mount the disk, or say that they are gone: prune --yes")
        if findings.shadows:
            width = store.identity.feature_dim
            writer.commit(ShardContents.hiding(findings.shadows, feature_dim=width, what="prune"))
    return _report(findings)


def _report(findings: _Findings, refused: tuple[str, ...] = ()) -> PruneReport:
    images = sum(shadow.table == "images" for shadow in findings.shadows)
    return PruneReport(
        checked=sum(root.rows for root in findings.roots.values() if not root.unseen),
        images=images,
        failures=len(findings.shadows) - images,
        files=tuple(findings.files),
        refused=refused,
        unseen=tuple(
            f"{root.trouble}; all {root.rows:,} rows of root {name} stay"
            for name, root in sorted(findings.roots.items())
            if root.unseen
        ),
    )


def _look(store: Store, snapshot: Snapshot, roots: Collection[str] | None, progress: Progress) -> _Findings:
    """Ask the system for each file of the store's rows, one shard of them in memory at a time."""
    locations, findings = store.roots(), _Findings()
    unknown = sorted(set(roots or ()) - set(locations))
    if unknown:
        raise StoreError(
            f"{unknown[0]} is no corpus root of this store; its roots: {', '.join(locations) or 'none'}"
        )
    with during(progress, "prune", total=snapshot.num_images, unit="images", brief=False):
        for view in snapshot.shards:
            images = snapshot.images(_COLUMNS, shards=[view.id])
            _look_at("images", images, locations, roots, findings)
            _look_at("failures", snapshot.failures(_COLUMNS, shards=[view.id]), locations, roots, findings)
            progress.advance(len(images))
    for name, root in findings.roots.items():
        if _identity(root.location) != root.identity:
            raise StoreError(f"{name}: its disk came or went meanwhile; run the same again")
    return findings


def _look_at(
    name: str, table: pa.Table, locations: dict[str, str], roots: Collection[str] | None, findings: _Findings
) -> None:
    places_of_rows = (table[column].to_pylist() for column in ("shard", "row", "mtime_ns"))
    file: _File | None = None
    for shard, row, mtime_ns, key in zip(*places_of_rows, keys_of(table), strict=True):
        if roots is not None and key.root not in roots:
            continue
        root = findings.roots.get(key.root)
        if root is None:  # a root that roots.json lacks is where its name says
            root = findings.roots[key.root] = _root(locations.get(key.root, key.root))
        if file is None or (file.root, file.path) != (root, key.path):
            file = _File(root, key.path)  # the members of an archive stand together
        root.rows += 1
        if file.lacks(key.member, mtime_ns):
            root.gone += 1
            findings.shadows.append(Shadow(shard, name, row))
            inside = f"!{shown(key.member)}" if key.member is not None else ""
            findings.files[shown(root.location + b"/" + key.path) + inside] = None


class _File:
    """What the system says of one file of a root: asked once, and an archive listed once if at all."""

    def __init__(self, root: _Root, path: bytes) -> None:
        self.root = root
        self.path = path
        self._mtime_ns: int | None = None
        self._gone = False
        if isinstance(root.place, Url):
            self._gone = root.far is not None and path not in root.far
            self._mtime_ns = root.far.get(path) if root.far else None
            return
        try:
            self._mtime_ns = file_time(os.lstat(root.location + b"/" + path))
        except (FileNotFoundError, NotADirectoryError):
            self._gone = True
        except OSError:  # which says nothing of whether it is there
            pass

    def lacks(self, member: bytes | None, mtime_ns: int) -> bool:
        """Whether it, or the `member` that it had at `mtime_ns`, is gone."""
        if member is None or self._gone or self._mtime_ns in (None, mtime_ns):
            return self._gone
        return self._members is not None and member not in self._members

    @cached_property
    def _members(self) -> set[bytes] | None:
        """The images of the archive, None where they cannot all be told."""
        counts, options = WalkCounts(), WalkOptions(follow_links=True)
        archive = Segment(root="", location=self.root.place, starts=(self.path,), options=options)
        members = {found.key.member for found in walk(archive, counts=counts)}
        if None in members or counts.links:
            return None
        return {member for member in members if member is not None}


def _root(location: str) -> _Root:
    path, place = os.fsencode(location), place_of(location)
    if isinstance(place, Url):
        return _far_root(path, place)
    identity, trouble = _identity(path), None
    try:
        with os.scandir(path) as entries:
            if next(entries, None) is None:
                trouble = f"{location} is empty"
    except OSError as problem:
        trouble = f"{location}: {(problem.strerror or 'cannot be listed').lower()}"
    return _Root(path, place, identity, trouble)


def _far_root(path: bytes, url: Url) -> _Root:
    """A root at a URL, listed once; of one that cannot be, nothing is known to be gone."""
    try:
        far = {file.path: file.mtime_ns for file in remote_files(url)}
    except PfgError as problem:
        return _Root(path, url, None, str(problem))
    return _Root(path, url, None, None if far else f"{url} is empty", far)


def _identity(location: bytes) -> tuple[int, int] | None:
    if isinstance(place_of(os.fsdecode(location)), Url):
        return None
    try:
        state = os.stat(location)  # noqa: PTH116  (bytes, which pathlib does not take)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _refusals(findings: _Findings) -> tuple[str, ...]:
    """Why a person must say yes first: a line for each root of which rows would go, and too many."""
    reasons = []
    for name, root in sorted(findings.roots.items()):
        rows = f"{root.gone:,} of {root.rows:,} rows of root {name} would go"
        if root.trouble and root.gone:
            reasons.append(f"{root.trouble}, and {rows}")
        elif root.gone > _MUCH * root.rows:
            reasons.append(f"{rows}, over a fifth")
    return tuple(reasons)
