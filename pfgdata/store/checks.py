"""Does a store hold what it promises, and what to do where it does not.

Quick: names, sizes and every JSON file. Deep: every byte against its BLAKE3. A broken shard is
set aside, never deleted, and an empty one takes over what it hides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.errors import CorruptShardError, StoreError, StoreFormatError
from pfgdata.files import Disk, disk_at, explained, read_json
from pfgdata.records import NoProgress, Progress, during
from pfgdata.store.columns import column_file, stems
from pfgdata.store.contents import Shadow, ShardContents
from pfgdata.store.derived_sets import DerivedSet
from pfgdata.store.identity import read_identity, read_roots, usable
from pfgdata.store.kinds import DERIVED_KINDS
from pfgdata.store.recorded import DamagedFileError
from pfgdata.store.rows import KEY_COLUMNS
from pfgdata.store.selections import check_selection, list_selections
from pfgdata.store.shadows import read_shadows
from pfgdata.store.shards import ShardMeta, read_meta, shard_names
from pfgdata.store.snapshot import Snapshot
from pfgdata.store.store import Store
from pfgdata.store.verdicts import verdicts_file

__all__ = ["Problem", "RepairReport", "repair", "require_whole", "verify"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as promised: `shard` is its folder, None where the store as a whole is meant."""

    path: Path
    what: str
    shard: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair did."""

    set_aside: tuple[Path, ...]  # where the broken shards are now
    rows_hidden: int  # older rows of keys that were visible twice
    old_versions_possible: bool  # what a lost shadow hid may be back until the next ingest
    mended: tuple[Path, ...] = ()  # folders of which it is said again which shards they have


def verify(
    path: Path, *, deep: bool = False, progress: Progress | None = None, disk: Disk | None = None
) -> list[Problem]:
    """Every problem of the store at `path`; none means that it holds all it promises.

    `disk` is by default this machine's. `deep` reads every byte. Raises NoStoreError when there is no store.
    Needs no lock: what an ingest commits meanwhile is looked at or not.
    """
    path = usable(path)
    progress = progress or NoProgress()
    disk = (disk or disk_at(path)).afresh()
    problems = [*_of_store(disk, path, deep=deep), *_of_columns(disk, path / "columns", deep=deep)]
    problems += _of_selections(disk, path / "selections", deep=deep)
    problems += _of_verdicts(disk, path)
    shards = _listed(disk, path / "shards", problems)
    for kind in DERIVED_KINDS:
        for folder in kind.folders(path, disk=disk):
            found, begun = _of_derived(disk, kind, folder)
            problems += found
            shards += begun
    with during(progress, "verify", total=len(shards), unit="shards", brief=False):
        for shard in shards:
            found = list(_of_shard(disk, shard, deep=deep))
            if found and shard in _listed(disk, shard.parent, []):  # else gc has removed it meanwhile
                problems += found
            progress.advance()
    return problems


def repair(store: Store, problems: Sequence[Problem]) -> RepairReport:
    """Set the broken shards of `problems` aside into quarantine/; who made them redoes them at the next run.

    An empty shard takes over what they hid. Where that cannot be read, of several visible rows of one key
    all but the one in the latest shard are hidden. Records of commits are put right, and only the next
    `verify` looks at the shards that they name. Raises StoreLockedError while another process writes.
    """
    broken = sorted({problem.shard for problem in problems if problem.shard is not None})
    ours = [shard for shard in broken if shard.parent == store.path / "shards"]
    aside: list[Path] = []
    mended = [*_mend_derived(store)]
    for shard in broken:
        if shard not in ours:
            lock = shard.parent.parent / "lock"
            kind = lock.parent.parent.name.removesuffix("s")  # as the folders of kinds are called
            with store.disk.exclusive(lock, what=f"{kind} set {lock.parent}"), explained(store.path):
                aside.append(_set_aside(store, shard))
    with store.writer() as writer, explained(store.path):
        if store.disk.misfits(store.path / "shards"):
            store.disk.mend(store.path / "shards")
            mended.append(store.path / "shards")
        ours = [
            shard for shard in ours if store.disk.is_folder(shard)
        ]  # gone since it was looked at: no longer ours
        readable = [meta for shard in ours if (meta := _meta_or_none(store.disk, shard)) is not None]
        unreadable = len(readable) < len(ours)
        snapshot = store.snapshot(without=[shard.name for shard in ours])
        doubles = _older_doubles(snapshot) if unreadable else ()
        present = {meta.id for meta in snapshot.present}
        replaces = {target for meta in readable for target in meta.replaces if target in present}
        shadows = {*_shadows_of(store, readable, present), *doubles}
        if shadows or replaces:
            hiding = ShardContents.hiding(
                sorted(shadows),
                feature_dim=store.identity.feature_dim,
                what="repair",
                replaces=sorted(replaces),
            )
            writer.commit(hiding)
        aside += [_set_aside(store, shard) for shard in ours]
    return RepairReport(
        set_aside=tuple(aside),
        rows_hidden=len(doubles),
        old_versions_possible=unreadable,
        mended=tuple(mended),
    )


def _mend_derived(store: Store) -> Iterator[Path]:
    """Make good what says which shards each derived set has, and name the folders where it was wrong."""
    for kind in DERIVED_KINDS:
        for folder in kind.folders(store.path, disk=store.disk):
            if store.disk.misfits(folder / "shards"):
                what = f"{kind.name} set {folder}"
                with store.disk.exclusive(folder / "lock", what=what), explained(store.path):
                    store.disk.mend(folder / "shards")
                yield folder / "shards"


def require_whole(disk: Disk, shard: Path) -> None:
    """Raise CorruptShardError unless every byte of a shard is as written: a copy of it would hide damage."""
    for problem in _of_shard(disk, shard, deep=True):
        raise CorruptShardError(
            f"{problem.path}: {problem.what}; pfgdata verify --deep --repair sets the shard aside"
        )


def _listed(disk: Disk, folder: Path, problems: list[Problem]) -> list[Path]:
    """The shards that `folder` has; where what says so is damaged, that is added to `problems`."""
    if wrong := disk.misfits(folder):
        problems += [Problem(path, f"{what}; --repair puts it right", None) for path, what in wrong]
        return []
    return [folder / name for name in shard_names(disk, folder)]


def _of_store(disk: Disk, path: Path, *, deep: bool) -> Iterator[Problem]:
    read_identity(disk, path)
    files = read_json(path / "store.json", error=StoreError, advice="", disk=disk)["files"]
    yield from _of_files(disk, path, files, deep=deep, shard=None)
    try:
        read_roots(disk, path)
    except (StoreError, OSError) as problem:
        yield Problem(path / "roots.json", _reason(problem), None)


def _of_derived(
    disk: Disk, kind: type[DerivedSet[Any, Any]], folder: Path
) -> tuple[list[Problem], list[Path]]:
    """What is wrong with a derived set's own JSON, and the shards to look at."""
    described = folder / f"{kind.name}s.json"
    begun, problems = list[Path](), list[Problem]()
    try:
        if disk.is_folder(folder / "shards"):
            begun = _listed(disk, folder / "shards", problems)
        if begun or disk.is_file(described):  # else a creation that the next completes
            kind.open(folder, disk=disk)
    except StoreError as problem:
        problems.append(Problem(described, _reason(problem), None))
    except FileNotFoundError:
        problems.append(Problem(described, "is missing; delete the set and encode it again", None))
    except OSError as problem:
        problems.append(Problem(described, _unread(problem), None))
    return problems, begun


def _of_columns(disk: Disk, folder: Path, *, deep: bool) -> Iterator[Problem]:
    for name in stems(disk, folder):
        file = column_file(disk, folder, name)
        yield from _of_record(file.record, partial(file.check, deep=deep))


def _of_selections(disk: Disk, folder: Path, *, deep: bool) -> Iterator[Problem]:
    for name in list_selections(disk, folder):
        check = partial(check_selection, disk, folder, name, deep=deep)
        yield from _of_record(folder / f"{name}.json", check)


def _of_verdicts(disk: Disk, path: Path) -> Iterator[Problem]:
    file = verdicts_file(disk, path)
    yield from _of_record(file.record, partial(file.check, deep=True))  # a small file: read whole either way


def _of_record(record: Path, check: Callable[[], object]) -> Iterator[Problem]:
    """What `check` finds wrong with the file `record`, or with the one that it describes."""
    try:
        check()
    except DamagedFileError as problem:
        yield Problem(problem.path, problem.what, None)
    except StoreError as problem:
        yield Problem(record, _reason(problem).removeprefix(f"{record}: "), None)
    except OSError as problem:
        yield Problem(Path(problem.filename or record), _unread(problem), None)


def _of_shard(disk: Disk, shard: Path, *, deep: bool) -> Iterator[Problem]:
    try:
        meta = read_meta(disk, shard)
        names = set(disk.names(shard))
    except (FileNotFoundError, NotADirectoryError):  # the rename that commits a shard brings it along
        yield Problem(shard / "shard.json", "is missing, so no reader sees the shard", shard)
        return
    except StoreFormatError as problem:  # it is whole, as far as we know
        yield Problem(shard / "shard.json", _reason(problem), None)
        return
    except StoreError as problem:
        yield Problem(shard / "shard.json", _reason(problem), shard)
        return
    except OSError as problem:
        yield Problem(shard / "shard.json", _unread(problem), None)
        return
    yield from _of_files(disk, shard, meta.files, deep=deep, shard=shard)
    for extra in sorted(names - {"shard.json", *meta.files}):
        yield Problem(shard / extra, "is not part of the shard; delete it", None)


def _of_files(
    disk: Disk, folder: Path, files: Mapping[str, Mapping[str, Any]], *, deep: bool, shard: Path | None
) -> Iterator[Problem]:
    for name, promised in files.items():
        file = folder / name
        try:
            size = disk.size(file)
            if size != promised["size"]:
                yield Problem(file, f"has {size:,} bytes, should have {promised['size']:,}", shard)
            elif deep and disk.digest(file) != promised["blake3"]:
                yield Problem(file, "its bytes are not those that were written", shard)
        except FileNotFoundError:
            yield Problem(file, "is missing", shard)
        except OSError as problem:
            yield Problem(file, _unread(problem), None)


def _unread(problem: OSError) -> str:
    """A file that could not be read this time may well be good: never a reason to set its shard aside."""
    return f"could not be read ({_reason(problem)}); check its permissions and the disk, then verify again"


def _meta_or_none(disk: Disk, shard: Path) -> ShardMeta | None:
    """The meta of a broken shard, if that and what it hides can still be read."""
    try:
        meta = read_meta(disk, shard)
        read_shadows(disk, shard.parent, [meta])
    except (StoreError, OSError, pa.ArrowException):
        return None
    return meta


def _shadows_of(store: Store, metas: Sequence[ShardMeta], present: set[str]) -> Iterator[Shadow]:
    for (shard, table), rows in read_shadows(store.disk, store.path / "shards", metas).items():
        if shard in present:
            yield from (Shadow(shard, table, int(row)) for row in rows)


def _older_doubles(snapshot: Snapshot) -> tuple[Shadow, ...]:
    """Of several visible rows of one key, all but the one in the latest shard; and so for failures."""
    doubles: list[Shadow] = []
    for name, table in (
        ("images", snapshot.images(KEY_COLUMNS)),
        ("failures", snapshot.failures(KEY_COLUMNS)),
    ):
        keys = [
            pc.cast(table[column], pa.string()) if column == "root" else table[column]
            for column in KEY_COLUMNS
        ]
        rows = list(zip(*(column.to_pylist() for column in keys), strict=True))
        positions = list(zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True))
        latest: dict[tuple[object, ...], tuple[str, int]] = {}
        for key, position in zip(rows, positions, strict=True):
            older = min(latest[key], position) if key in latest else None
            latest[key] = max(latest[key], position) if key in latest else position
            if older:
                doubles.append(Shadow(older[0], name, older[1]))
    return tuple(doubles)


def _set_aside(store: Store, shard: Path) -> Path:
    name = "-".join(shard.relative_to(store.path).parts)
    target = store.path / "quarantine" / name
    number = 1
    while store.disk.is_folder(target):  # a copy that was put back, and is set aside again
        number += 1
        target = target.with_name(f"{name}-{number}")
    store.disk.set_aside(shard, target)
    return target


def _reason(problem: Exception) -> str:
    return " ".join(str(problem).split()).removeprefix("[Errno 2] ")
