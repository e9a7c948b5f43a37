"""Upkeep of a store's shards: merge small ones, drop hidden rows, and remove what was replaced long ago.

A merged shard inherits every shadow and every replace of its inputs whose target folder still exists: a
replaced shard's shadows go on counting as long as what they hide is there to come back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.errors import StoreLockedError
from pfgdata.files import TEMPORARY, Disk, explained
from pfgdata.records import NoProgress, Progress, during
from pfgdata.store.checks import require_whole
from pfgdata.store.contents import Shadow, ShardContents
from pfgdata.store.kinds import DERIVED_KINDS
from pfgdata.store.parts import orphans
from pfgdata.store.rows import stable_order
from pfgdata.store.shadows import read_shadows
from pfgdata.store.shards import ShardMeta
from pfgdata.store.snapshot import ShardView, Snapshot
from pfgdata.store.store import Store, StoreWriter
from pfgdata.store.tag_index import index_tags, stale_indexes, unindexed

__all__ = ["CompactReport", "GcReport", "compact", "gc", "merge_shards", "rate_of"]

_ROWS = 131_072  # of a compacted shard: 200 MB of features, and 600,000 images in 5 shards
_WORTH = (
    0.2  # a shard is rewritten alone when more than this part of it is hidden: it reads 1.25x what it shows
)
_WEEK = 7 * 86_400.0  # seconds; a training may hold a snapshot for days


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactReport:
    """What a compact did, or would do."""

    shards_before: int  # that readers see
    shards_after: int
    rewritten: int  # shards that went into new ones; gc removes them
    rows: int  # images and failures that were copied
    dropped: int  # hidden ones that were left out
    indexed: int = 0  # shards whose tags were turned round, for questions about single tags


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What a gc did, or would do."""

    removed: tuple[str, ...]  # shards
    freed: int  # bytes of those and of quarantine
    young: int  # replaced shards that readers may still hold, so they stay
    swept: int  # files and folders that writers which died had left
    quarantined: int  # folders removed from quarantine/
    parts: int = 0  # parts and their records, of plans of which nothing has come for as long


def compact(
    store: Store, *, rows: int = _ROWS, dry_run: bool = False, progress: Progress | None = None
) -> CompactReport:
    """Merge shards of less than half of `rows` rows, in commit order, into shards of at most `rows`.

    A shard of which more than a fifth is hidden is rewritten too; none is split. One new shard is in memory
    at a time (200 MB of features at 131,072 rows). What was merged stays on disk for readers that hold it,
    until `gc`. Then the index of tags is made where it is missing or damaged. Raises CorruptShardError where
    a shard is damaged, which a copy would hide; StoreLockedError while another process writes.
    """
    progress = progress or NoProgress()
    if dry_run:
        return _planned(store.snapshot(), rows)
    with store.writer() as writer, explained(store.path):
        snapshot = store.snapshot()
        report = _compacted(snapshot, rows)
        with during(progress, "compact", total=report.rows, unit="rows", brief=False):
            for group in _worth_merging(snapshot, rows):
                for view in group:
                    require_whole(store.disk, store.path / "shards" / view.id)
                meta = _merge(writer, snapshot, [view.id for view in group], what="compact")
                progress.advance(meta.tables.get("images", 0) + meta.tables.get("failures", 0))
        return replace(report, indexed=index_tags(store.snapshot(), deep=True, progress=progress))


def gc(
    store: Store,
    *,
    older_than: float = _WEEK,
    now: float | None = None,
    quarantine: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> GcReport:
    """Remove shards that were replaced at least `older_than` seconds before `now` (Unix time; None: now).

    With them go shards that show no row and hide none that is still there, what writers that died left, parts
    of a plan of which nothing has come since, and with `quarantine` the shards that repair set aside. A
    reader that holds an older snapshot than that will be told to ask again. Raises StoreLockedError while
    another process writes.
    """
    progress = progress or NoProgress()
    now = time.time() if now is None else now
    leftovers = _leftovers(store)
    late = orphans(store.disk, store.parts, before=now - older_than)
    if dry_run:
        report = _collected(store, older_than, now, swept=len(leftovers), quarantine=quarantine)
        return _with_parts(report, store.disk, late)
    with store.writer(), explained(store.path):  # a writer sweeps what dead ones left
        _sweep_derived_sets(store)
        swept = len(leftovers - _leftovers(store))
        report = _collected(store, older_than, now, swept=swept, quarantine=quarantine)
        report = _with_parts(report, store.disk, late)
        doomed = [store.path / "shards" / name for name in report.removed]
        doomed += _quarantined(store) if quarantine else []
        doomed += stale_indexes(store.snapshot(without=report.removed))
        with during(progress, "gc", total=len(doomed), unit="shards", brief=False):
            for folder in doomed:
                store.disk.remove_folder(folder)
                progress.advance()
        for path in late:
            with contextlib.suppress(FileNotFoundError):  # finished by who made it, after all
                (store.disk.remove_folder if store.disk.is_folder(path) else store.disk.unlink)(path)
    return report


def merge_shards(writer: StoreWriter, shard_ids: Sequence[str], *, rows: int) -> list[ShardMeta]:
    """Merge neighbours among `shard_ids` into shards of at most about `rows` visible rows.

    Returns the metas of the new shards; groups of one are left as they are. The merged shards stay on disk,
    hidden, for readers that still hold them.
    """
    snapshot, wanted = writer.store.snapshot(), set(shard_ids)
    groups = _group([view for view in snapshot.shards if view.id in wanted], rows)
    return [
        _merge(writer, snapshot, [view.id for view in group], what="merge")
        for group in groups
        if len(group) > 1
    ]


def _group(views: Sequence[ShardView], rows: int) -> list[list[ShardView]]:
    """The shards in their order, greedily together as long as their visible rows fit into `rows`."""
    groups, size = list[list[ShardView]](), 0
    for view in views:
        count = _visible(view)
        if not groups or size + count > rows:
            groups.append([])
            size = 0
        groups[-1].append(view)
        size += count
    return groups


def _worth_merging(snapshot: Snapshot, rows: int) -> list[list[ShardView]]:
    """The groups that a compact makes one shard of each."""
    wanted = [view for view in snapshot.shards if 2 * _visible(view) < rows or _is_hollow(view)]
    return [group for group in _group(wanted, rows) if len(group) > 1 or _is_hollow(group[0])]


def _visible(view: ShardView) -> int:
    """Images and failures of a shard that readers see."""
    return _stored(view) - _hidden(view)


def _stored(view: ShardView) -> int:
    return view.num_rows + view.meta.tables.get("failures", 0)


def _hidden(view: ShardView) -> int:
    return len(view.hidden) + len(view.hidden_failures)


def _is_hollow(view: ShardView) -> bool:
    return _hidden(view) > _WORTH * _stored(view)


def _compacted(snapshot: Snapshot, rows: int) -> CompactReport:
    groups = _worth_merging(snapshot, rows)
    rewritten = [view for group in groups for view in group]
    return CompactReport(
        shards_before=len(snapshot.shards),
        shards_after=len(snapshot.shards) - len(rewritten) + len(groups),
        rewritten=len(rewritten),
        rows=sum(map(_visible, rewritten)),
        dropped=sum(map(_hidden, rewritten)),
    )


def _planned(snapshot: Snapshot, rows: int) -> CompactReport:
    """What a compact would report: each new shard is indexed, and those that stay and have no sound index."""
    groups = _worth_merging(snapshot, rows)
    rewritten = {view.id for group in groups for view in group}
    staying = [view for view in unindexed(snapshot, deep=True) if view.id not in rewritten]
    full = [group for group in groups if any(view.num_rows > len(view.hidden) for view in group)]
    return replace(_compacted(snapshot, rows), indexed=len(full) + len(staying))


def _merge(writer: StoreWriter, snapshot: Snapshot, group: Sequence[str], *, what: str) -> ShardMeta:
    images = snapshot.images(shards=group)
    images = images.take(stable_order(images))
    failures = snapshot.failures(shards=group)
    failures = failures.take(stable_order(failures))
    features = np.empty((0, snapshot.feature_dim), np.float16)
    if images.num_rows:
        features = snapshot.features(snapshot.selection(images["shard"], images["row"], images["content_id"]))
    inputs = [meta for meta in snapshot.present if meta.id in group]
    contents = ShardContents(
        images=images.drop_columns(["shard", "row"]),
        features=features,
        failures=failures.drop_columns(["shard", "row"]),
        shadows=_inherited_shadows(snapshot, inputs),
        replaces=_inherited_replaces(snapshot, inputs),
        writer={"what": what, "inputs": len(inputs), **rate_of(inputs)},
    )
    return writer.commit(contents)


def rate_of(shards: Sequence[ShardMeta], *, last: int = 0) -> dict[str, Any]:
    """What the records of `shards` say of their making: provider, images, seconds["total"], as a record does.

    Summed over those of the latest provider, of these the `last` (0: all); empty where none says.
    """
    made = [meta.writer for meta in shards if meta.writer.get("images")]
    made = [record for record in made if record.get("provider") == made[-1].get("provider")][-last:]
    if not made:
        return {}
    seconds = sum(record.get("seconds", {}).get("total", 0.0) for record in made)
    images = sum(record["images"] for record in made)
    return {"provider": made[-1].get("provider"), "images": images, "seconds": {"total": round(seconds, 3)}}


def _inherited_shadows(snapshot: Snapshot, inputs: Sequence[ShardMeta]) -> tuple[Shadow, ...]:
    present = {meta.id for meta in snapshot.present}
    hidden = read_shadows(snapshot.disk, snapshot.path / "shards", inputs)
    return tuple(
        Shadow(shard, table, int(row))
        for (shard, table), rows in sorted(hidden.items())
        if shard in present
        for row in rows
    )


def _inherited_replaces(snapshot: Snapshot, inputs: Sequence[ShardMeta]) -> tuple[str, ...]:
    present = {meta.id for meta in snapshot.present}
    inherited = {target for meta in inputs for target in meta.replaces if target in present}
    return tuple(sorted(inherited | {meta.id for meta in inputs}))


def _collected(store: Store, older_than: float, now: float, *, swept: int, quarantine: bool) -> GcReport:
    snapshot = store.snapshot()
    out_of_sight = _out_of_sight(snapshot)
    old = [name for name, since in out_of_sight.items() if older_than <= 0 or now - since >= older_than]
    sizes = {meta.id: sum(file["size"] for file in meta.files.values()) for meta in snapshot.present}
    aside = _quarantined(store) if quarantine else []
    freed = sum(sizes[name] for name in old)
    freed += sum(_bytes_in(store.disk, folder) for folder in aside)
    return GcReport(
        removed=tuple(sorted(old)),
        freed=freed,
        young=len(out_of_sight) - len(old),
        swept=swept,
        quarantined=len(aside),
    )


def _out_of_sight(snapshot: Snapshot) -> dict[str, float]:
    """The shards that no new snapshot needs, and since when (Unix time) none has read their rows.

    They are replaced, or show no row and neither hide nor replace anything that is still there. Whatever of
    them is removed, in any order, nothing hidden comes back: what they hide their replacement hides too.
    """
    made = {meta.id: datetime.fromisoformat(meta.created).timestamp() for meta in snapshot.present}
    since: dict[str, float] = {}
    for meta in snapshot.present:
        for target in meta.replaces:
            if target in made:  # the first to replace it has hidden it from then on
                since[target] = min(since.get(target, made[meta.id]), made[meta.id])
    hides = {meta.id: _hidden_by(snapshot, meta) for meta in snapshot.present}
    for view in snapshot.shards:
        if not _visible(view) and made.keys().isdisjoint({*hides[view.id], *view.meta.replaces}):
            hidden_at = [made[shard] for shard, hidden in hides.items() if view.id in hidden]
            since[view.id] = max([made[view.id], *hidden_at])
    return since


def _hidden_by(snapshot: Snapshot, meta: ShardMeta) -> set[str]:
    """The shards of which `meta` hides rows."""
    return {shard for shard, _ in read_shadows(snapshot.disk, snapshot.path / "shards", [meta])}


def _with_parts(report: GcReport, disk: Disk, late: Sequence[Path]) -> GcReport:
    freed = sum(_bytes_in(disk, path) if disk.is_folder(path) else disk.size(path) for path in late)
    return replace(report, parts=len(late), freed=report.freed + freed)


def _leftovers(store: Store) -> set[Path]:
    folders = [*store.folders]
    for kind in DERIVED_KINDS:
        for made in kind.folders(store.path, disk=store.disk):
            folders += [made, made / "shards"]
    present = [folder for folder in folders if store.disk.is_folder(folder)]
    paths = (folder / name for folder in present for name in store.disk.names(folder))
    return {path for path in paths if path.name.startswith(TEMPORARY)}


def _sweep_derived_sets(store: Store) -> None:
    for kind in DERIVED_KINDS:
        for path in kind.folders(store.path, disk=store.disk):
            lock, what = path / "lock", f"{kind.name} set {path}"
            if store.disk.is_file(lock):
                with contextlib.suppress(StoreLockedError), store.disk.exclusive(lock, what=what):
                    for folder in (path, path / "shards"):  # of a locked set its writer has swept them
                        store.disk.sweep(folder)


def _quarantined(store: Store) -> list[Path]:
    folder = store.path / "quarantine"
    names = store.disk.names(folder) if store.disk.is_folder(folder) else []
    return [folder / name for name in sorted(names) if store.disk.is_folder(folder / name)]


def _bytes_in(disk: Disk, folder: Path) -> int:
    """The bytes of the files in a folder and below it."""
    paths = [folder / name for name in disk.names(folder)]
    return sum(_bytes_in(disk, path) if disk.is_folder(path) else disk.size(path) for path in paths)
