"""Upkeep of a store's shards: merge many small ones into few, without losing what they hide.

A merged shard inherits every shadow and every replace of its inputs whose target folder still exists: a
replaced shard's shadows go on counting as long as what they hide is there to come back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pfgdata.store.rows import stable_order
from pfgdata.store.shards import ShardMeta
from pfgdata.store.snapshot import Snapshot, read_shadows
from pfgdata.store.store import Shadow, ShardContents, StoreWriter

__all__ = ["merge_shards"]


def merge_shards(writer: StoreWriter, shard_ids: Sequence[str], *, rows: int) -> list[ShardMeta]:
    """Merge neighbours among `shard_ids` into shards of at most about `rows` visible rows.

    Returns the metas of the new shards; groups of one are left as they are. The merged shards stay on disk,
    hidden, for readers that still hold them.
    """
    snapshot = writer.store.snapshot()
    groups = _group(snapshot, shard_ids, rows)
    return [_merge(writer, snapshot, group) for group in groups if len(group) > 1]


def _group(snapshot: Snapshot, shard_ids: Sequence[str], rows: int) -> list[list[str]]:
    """Neighbours in commit order, greedily, as long as their visible rows fit into `rows`."""
    wanted, groups, size = set(shard_ids), list[list[str]](), 0
    for view in snapshot.shards:
        if view.id not in wanted:
            continue
        failures = view.meta.tables.get("failures", 0) - len(view.hidden_failures)
        count = view.num_rows - len(view.hidden) + failures
        if not groups or size + count > rows:
            groups.append([])
            size = 0
        groups[-1].append(view.id)
        size += count
    return groups


def _merge(writer: StoreWriter, snapshot: Snapshot, group: Sequence[str]) -> ShardMeta:
    images = snapshot.images(shards=group)
    images = images.take(stable_order(images))
    failures = snapshot.failures(shards=group)
    failures = failures.take(stable_order(failures))
    features = np.empty((0, snapshot.feature_dim), np.float16)
    if images.num_rows:
        features = snapshot.features(snapshot.selection(images["shard"], images["row"], images["content_id"]))
    inputs = [meta for meta in snapshot.present if meta.id in set(group)]
    contents = ShardContents(
        images=images.drop_columns(["shard", "row"]),
        features=features,
        failures=failures.drop_columns(["shard", "row"]),
        shadows=_inherited_shadows(snapshot, inputs),
        replaces=_inherited_replaces(snapshot, inputs),
        writer={"what": "merge", "inputs": len(inputs)},
    )
    return writer.commit(contents)


def _inherited_shadows(snapshot: Snapshot, inputs: Sequence[ShardMeta]) -> tuple[Shadow, ...]:
    present = {meta.id for meta in snapshot.present}
    hidden = read_shadows(snapshot.path / "shards", inputs)
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
