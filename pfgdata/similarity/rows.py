"""What is known of chosen rows: columns in a selection's order, files to open, the tags that count."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.records import Selection, shown
from pfgdata.store import KEY_COLUMNS, Snapshot, keys_of, rows_by_shard

__all__ = ["file_names", "named_file", "table_of", "tags_over"]


def table_of(snapshot: Snapshot, selection: Selection, columns: Sequence[str]) -> pa.Table:
    """The `columns` of the rows of `selection`, in its order; one shard is in memory at a time."""
    parts = list(rows_by_shard(snapshot, selection, columns))
    if not parts:
        return snapshot.images(columns, shards=[]).select(list(columns))
    order = np.argsort(np.concatenate([mine for mine, _ in parts]), kind="stable")
    return pa.concat_tables([table for _, table in parts]).combine_chunks().take(pa.array(order))


def tags_over(
    snapshot: Snapshot, selection: Selection, least: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.uint32]]:
    """The numbers of the tags of each row of `selection` whose scores reach `least` [V]."""
    out: list[npt.NDArray[np.uint32]] = [np.empty(0, np.uint32)] * len(selection)
    for mine, table in rows_by_shard(snapshot, selection, ["tag_ids", "tag_scores"]):
        ids, scores = (table[name].combine_chunks() for name in ("tag_ids", "tag_scores"))
        starts = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(ids), 0).to_numpy())])
        numbers = ids.flatten().to_numpy()
        over = scores.flatten().to_numpy().astype(np.float32) >= least[numbers]
        for place, start, stop in zip(mine, starts, starts[1:], strict=False):
            out[place] = numbers[start:stop][over[start:stop]]
    return out


def file_names(
    snapshot: Snapshot, selection: Selection, places: Mapping[str, str]
) -> list[dict[str, str | None]]:
    """Of each row `file`, a path that opens by `places` (root -> folder), and its key as stored."""
    found = []
    for key in keys_of(table_of(snapshot, selection, KEY_COLUMNS)):
        member = None if key.member is None else shown(key.member)
        path = shown(key.path)
        file = os.path.join(places.get(key.root, key.root), path)  # noqa: PTH118 - text, as query shows it
        found.append({"file": file, "root": key.root, "path": path, "member": member})
    return found


def named_file(row: Mapping[str, Any]) -> str:
    """What `file_names` says of a row, as one word: FILE, of a member FILE!MEMBER."""
    return str(row["file"]) if row["member"] is None else f"{row['file']}!{row['member']}"
