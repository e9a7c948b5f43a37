"""What shards hide of each other: their shadows.parquet, compared with its hash before it is believed."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from pfgdata.errors import CorruptShardError
from pfgdata.files import Disk
from pfgdata.store.layout import table_in
from pfgdata.store.shards import REPAIR, ShardMeta

__all__ = ["read_shadows"]


def read_shadows(
    disk: Disk, folder: Path, shards: Sequence[ShardMeta]
) -> dict[tuple[str, str], npt.NDArray[np.int64]]:
    """What the given shards of `folder` hide: (shard id, table) -> sorted row numbers.

    Raises CorruptShardError where a shadows.parquet is not what was written: a wrong shadow hides a good row
    or brings a hidden one back, so this small file is compared with its hash.
    """
    hidden: dict[tuple[str, str], list[npt.NDArray[np.int64]]] = defaultdict(list)
    for meta in shards:
        if "shadows" in meta.tables:
            path = folder / meta.id / "shadows.parquet"
            try:
                local = disk.local(path)
                found = _shadows(path, local, meta.files[path.name]["blake3"], local.stat().st_mtime_ns)
            except FileNotFoundError as problem:  # or gc has removed it since it was listed
                raise CorruptShardError(f"{path}: is missing; {REPAIR}") from problem
            except ValueError as problem:  # of what came from afar
                raise CorruptShardError(f"{path}: {problem}; {REPAIR}") from problem
            for key, rows in found.items():
                hidden[key].append(rows)
    return {key: np.unique(np.concatenate(parts)) for key, parts in hidden.items()}


@functools.lru_cache(maxsize=16_384)  # shards are immutable: read once a process, not once a snapshot
def _shadows(
    path: Path, local: Path, digest: str, written: int
) -> dict[tuple[str, str], npt.NDArray[np.int64]]:
    data = local.read_bytes()
    if blake3(data).hexdigest() != digest:
        raise CorruptShardError(f"{path}: its bytes are not those that were written; {REPAIR}")
    table = table_in(data)
    shard = pc.cast(table["shard"], pa.string()).to_numpy(zero_copy_only=False)
    name = pc.cast(table["table"], pa.string()).to_numpy(zero_copy_only=False)
    rows = table["row"].to_numpy()
    pairs = set(zip(shard.tolist(), name.tolist(), strict=True))
    return {(a, b): rows[(shard == a) & (name == b)] for a, b in pairs}
