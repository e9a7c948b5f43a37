"""A run on disk: its record (run.json), its metrics.jsonl, its checkpoints.

A checkpoint is a folder that appears by one rename, so the newest is always complete; a disk that fills up
while saving costs the checkpoint being written and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgtrain.checkpoint.folders import (
        ADAPTER_FILE,
        EMA_FOLDER,
        LORA_FILE,
        UNET_FILE,
        CheckpointState,
        Stateful,
        checkpoint_of,
        checkpoints,
        find_checkpoint,
        keep_for,
        load_training_state,
        newest_is,
        read_state,
        require_undamaged,
        save_checkpoint,
        save_training_state,
        saved_digests,
        weights_folder,
    )
    from pfgtrain.checkpoint.metrics import append_metrics, read_metrics, trim_metrics
    from pfgtrain.checkpoint.record import RunRecord, is_run
    from pfgtrain.checkpoint.sampling import SAMPLING_FILE, Sampling

__all__ = [
    "ADAPTER_FILE",
    "EMA_FOLDER",
    "LORA_FILE",
    "SAMPLING_FILE",
    "UNET_FILE",
    "CheckpointState",
    "RunRecord",
    "Sampling",
    "Stateful",
    "append_metrics",
    "checkpoint_of",
    "checkpoints",
    "find_checkpoint",
    "is_run",
    "keep_for",
    "load_training_state",
    "newest_is",
    "read_metrics",
    "read_state",
    "require_undamaged",
    "save_checkpoint",
    "save_training_state",
    "saved_digests",
    "trim_metrics",
    "weights_folder",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
