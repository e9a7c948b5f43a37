"""One folder on disk and its promise: the only place that opens, lists, renames or deletes a store's files.

What is committed stays, whole; what is not committed is not seen. Files are written, renamed and removed
through a `pfgdata.files.Disk`, which is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.store.bringing import bring_files
    from pfgdata.store.checks import Problem, RepairReport, repair, verify
    from pfgdata.store.columns import joined_columns
    from pfgdata.store.contents import Shadow, ShardContents
    from pfgdata.store.derived_sets import (
        DerivedIdentity,
        DerivedIndex,
        DerivedInfo,
        DerivedSet,
        DerivedSetWriter,
    )
    from pfgdata.store.feature_sets import FeatureIdentity, FeatureInfo, FeatureSet, SetFeatures
    from pfgdata.store.identity import (
        SCORE_FLOOR,
        StoreIdentity,
        identity_of,
        identity_record,
        moved_roots,
        require_same_identity,
        require_same_tagger,
    )
    from pfgdata.store.labels import OWN_FEATURE, feature_labels, feature_set, require_label
    from pfgdata.store.latent_sets import LatentIdentity, LatentIndex, LatentInfo, LatentSet
    from pfgdata.store.layout import (
        DERIVED_FAILURES_SCHEMA,
        FAILURES_SCHEMA,
        FEATURES_SCHEMA,
        IMAGES_SCHEMA,
        LATENTS_SCHEMA,
        PLANNED_SCHEMA,
    )
    from pfgdata.store.matching import column_values, normal_table, rows_by_shard, unmatched_rows
    from pfgdata.store.parts import (
        Part,
        PartWriter,
        Span,
        adopted_spans,
        announce_plan,
        is_announced,
        list_parts,
        whole_spans,
        withdraw_plan,
    )
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
    from pfgdata.store.selections import FrozenIds, SavedSelection, frozen_rows, saved_selection
    from pfgdata.store.shards import ShardMeta, installed_versions, raise_file_limit
    from pfgdata.store.snapshot import Joined, ShardView, Snapshot, content_ids_of
    from pfgdata.store.store import Store, StoreWriter
    from pfgdata.store.tag_index import Postings, TagIndex, index_tags
    from pfgdata.store.thumbnails import ThumbnailCache
    from pfgdata.store.upkeep import CompactReport, GcReport, compact, gc, merge_shards, rate_of
    from pfgdata.store.verdicts import VERDICTS, Verdict, pair_of

__all__ = [
    "DERIVED_FAILURES_SCHEMA",
    "FAILURES_SCHEMA",
    "FEATURES_SCHEMA",
    "IMAGES_SCHEMA",
    "IMAGE_COLUMNS",
    "KEY_COLUMNS",
    "LATENTS_SCHEMA",
    "OWN_FEATURE",
    "PLANNED_SCHEMA",
    "SCORE_FLOOR",
    "VERDICTS",
    "CompactReport",
    "DerivedIdentity",
    "DerivedIndex",
    "DerivedInfo",
    "DerivedSet",
    "DerivedSetWriter",
    "FeatureIdentity",
    "FeatureInfo",
    "FeatureSet",
    "FrozenIds",
    "GcReport",
    "Joined",
    "LatentIdentity",
    "LatentIndex",
    "LatentInfo",
    "LatentSet",
    "Part",
    "PartWriter",
    "Postings",
    "Problem",
    "RepairReport",
    "SavedSelection",
    "SetFeatures",
    "Shadow",
    "ShardContents",
    "ShardMeta",
    "ShardView",
    "Snapshot",
    "Span",
    "Store",
    "StoreIdentity",
    "StoreWriter",
    "TagIndex",
    "ThumbnailCache",
    "Verdict",
    "adopted_spans",
    "announce_plan",
    "bring_files",
    "column_values",
    "compact",
    "content_ids_of",
    "failures_table",
    "feature_labels",
    "feature_set",
    "frozen_rows",
    "gc",
    "identity_of",
    "identity_record",
    "images_table",
    "index_tags",
    "installed_versions",
    "is_announced",
    "joined_columns",
    "key_bytes",
    "key_columns",
    "key_of",
    "keys_of",
    "list_parts",
    "merge_shards",
    "moved_roots",
    "normal_table",
    "pair_of",
    "raise_file_limit",
    "rate_of",
    "repair",
    "require_label",
    "require_same_identity",
    "require_same_tagger",
    "rows_by_shard",
    "saved_selection",
    "stable_order",
    "stored_image",
    "unmatched_rows",
    "verify",
    "whole_spans",
    "withdraw_plan",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
