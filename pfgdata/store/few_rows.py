"""Rows of an array by ranges of its file, where the file is far and they are few; else by a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.errors import CorruptShardError
from pfgdata.files import Disk
from pfgdata.store.shards import REPAIR, ShardMeta, map_array, unreadable

__all__ = ["take_rows"]

_SPANS = 64  # rows that are asked for one by one, where they are no more than this part of an array:
_FEW = 16


def take_rows(
    disk: Disk, shard: Path, meta: ShardMeta, name: str, rows: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """The `rows` of array `name` of the folder `shard`, in order: few of a large far file by ranges."""
    array = meta.arrays[name]
    path, dtype = shard / array.file, np.dtype(array.dtype)
    width = dtype.itemsize * int(np.prod(array.shape[1:]))
    if len(rows) <= _SPANS and len(rows) * width * _FEW <= array.shape[0] * width:
        starts = [array.offset + int(row) * width for row in rows]
        try:
            found = disk.ranges(path, [(start, start + width) for start in starts])
        except FileNotFoundError as problem:
            raise unreadable(disk, path, problem) from problem
        if found is not None:
            if any(len(part) != width for part in found):
                raise CorruptShardError(f"{path}: is shorter than it was written; {REPAIR}")
            return np.frombuffer(b"".join(found), dtype).reshape(len(rows), *array.shape[1:])
    return np.asarray(map_array(disk, shard, meta, name)[rows])
