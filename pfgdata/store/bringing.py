"""Files of many shards brought to this machine side by side, before one after the other is opened."""

from __future__ import annotations

from collections.abc import Sequence

from pfgdata.store.snapshot import ShardView

__all__ = ["bring_files"]


def bring_files(shards: Sequence[ShardView], file: str) -> None:
    """Bring `file` of those of `shards` that have it: nothing happens for a store on this machine."""
    if shards:
        shards[0].disk.ahead(shard.path / file for shard in shards if file in shard.meta.files)
