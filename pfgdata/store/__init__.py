"""One folder on disk and its promise: the only place that opens, lists, renames or deletes a store's files.

What is committed stays, whole; what is not committed is not seen. Files are written, renamed and removed
through a `pfgdata.files.Disk`, which is passed in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.store.checks import Problem, RepairReport, repair, verify
    from pfgdata.store.columns import joined_columns
    from pfgdata.store.derived_sets import (
        DerivedIdentity,
        DerivedIndex,
        DerivedInfo,
        DerivedSet,
        DerivedSetWriter,
    )
    from pfgdata.store.identity import SCORE_FLOOR, StoreIdentity, moved_roots, require_same_tagger
    from pfgdata.store.latent_sets import LatentIdentity, LatentIndex, LatentInfo, LatentSet
    from pfgdata.store.layout import (
        DERIVED_FAILURES_SCHEMA,
        FAILURES_SCHEMA,
        IMAGES_SCHEMA,
        LATENTS_SCHEMA,
    )
    from pfgdata.store.matching import rows_by_shard
    from pfgdata.store.rows import (
        IMAGE_COLUMNS,
        KEY_COLUMNS,
        failures_table,
        images_table,
        key_bytes,
        key_columns,
        key_of,
        keys_of,
        stable_order,
        stored_image,
    )
    from pfgdata.store.shards import ShardMeta, installed_versions, raise_file_limit
    from pfgdata.store.snapshot import Joined, ShardView, Snapshot, content_ids_of
    from pfgdata.store.store import Shadow, ShardContents, Store, StoreWriter
    from pfgdata.store.upkeep import CompactReport, GcReport, compact, gc, merge_shards, rate_of
    from pfgdata.store.verdicts import VERDICTS, Verdict, pair_of

__all__ = [
    "DERIVED_FAILURES_SCHEMA",
    "FAILURES_SCHEMA",
    "IMAGES_SCHEMA",
    "IMAGE_COLUMNS",
    "KEY_COLUMNS",
    "LATENTS_SCHEMA",
    "SCORE_FLOOR",
    "VERDICTS",
    "CompactReport",
    "DerivedIdentity",
    "DerivedIndex",
    "DerivedInfo",
    "DerivedSet",
    "DerivedSetWriter",
    "GcReport",
    "Joined",
    "LatentIdentity",
    "LatentIndex",
    "LatentInfo",
    "LatentSet",
    "Problem",
    "RepairReport",
    "Shadow",
    "ShardContents",
    "ShardMeta",
    "ShardView",
    "Snapshot",
    "Store",
    "StoreIdentity",
    "StoreWriter",
    "Verdict",
    "compact",
    "content_ids_of",
    "failures_table",
    "gc",
    "images_table",
    "installed_versions",
    "joined_columns",
    "key_bytes",
    "key_columns",
    "key_of",
    "keys_of",
    "merge_shards",
    "moved_roots",
    "pair_of",
    "raise_file_limit",
    "rate_of",
    "repair",
    "require_same_tagger",
    "rows_by_shard",
    "stable_order",
    "stored_image",
    "verify",
]

_LAZY = {
    "FAILURES_SCHEMA": "pfgdata.store.layout",
    "IMAGES_SCHEMA": "pfgdata.store.layout",
    "IMAGE_COLUMNS": "pfgdata.store.rows",
    "KEY_COLUMNS": "pfgdata.store.rows",
    "LATENTS_SCHEMA": "pfgdata.store.layout",
    "DERIVED_FAILURES_SCHEMA": "pfgdata.store.layout",
    "SCORE_FLOOR": "pfgdata.store.identity",
    "CompactReport": "pfgdata.store.upkeep",
    "DerivedIdentity": "pfgdata.store.derived_sets",
    "DerivedIndex": "pfgdata.store.derived_sets",
    "DerivedInfo": "pfgdata.store.derived_sets",
    "DerivedSet": "pfgdata.store.derived_sets",
    "DerivedSetWriter": "pfgdata.store.derived_sets",
    "GcReport": "pfgdata.store.upkeep",
    "Joined": "pfgdata.store.snapshot",
    "LatentIdentity": "pfgdata.store.latent_sets",
    "LatentIndex": "pfgdata.store.latent_sets",
    "LatentInfo": "pfgdata.store.latent_sets",
    "LatentSet": "pfgdata.store.latent_sets",
    "Problem": "pfgdata.store.checks",
    "RepairReport": "pfgdata.store.checks",
    "Shadow": "pfgdata.store.store",
    "ShardContents": "pfgdata.store.store",
    "ShardMeta": "pfgdata.store.shards",
    "ShardView": "pfgdata.store.snapshot",
    "Snapshot": "pfgdata.store.snapshot",
    "Store": "pfgdata.store.store",
    "StoreIdentity": "pfgdata.store.identity",
    "StoreWriter": "pfgdata.store.store",
    "VERDICTS": "pfgdata.store.verdicts",
    "Verdict": "pfgdata.store.verdicts",
    "pair_of": "pfgdata.store.verdicts",
    "compact": "pfgdata.store.upkeep",
    "content_ids_of": "pfgdata.store.snapshot",
    "failures_table": "pfgdata.store.rows",
    "gc": "pfgdata.store.upkeep",
    "images_table": "pfgdata.store.rows",
    "installed_versions": "pfgdata.store.shards",
    "key_bytes": "pfgdata.store.rows",
    "key_columns": "pfgdata.store.rows",
    "key_of": "pfgdata.store.rows",
    "joined_columns": "pfgdata.store.columns",
    "keys_of": "pfgdata.store.rows",
    "merge_shards": "pfgdata.store.upkeep",
    "raise_file_limit": "pfgdata.store.shards",
    "moved_roots": "pfgdata.store.identity",
    "rate_of": "pfgdata.store.upkeep",
    "repair": "pfgdata.store.checks",
    "require_same_tagger": "pfgdata.store.identity",
    "rows_by_shard": "pfgdata.store.matching",
    "stable_order": "pfgdata.store.rows",
    "stored_image": "pfgdata.store.rows",
    "verify": "pfgdata.store.checks",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
