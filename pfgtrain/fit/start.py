"""Where a fit starts from: weights of another run or file (`init`), and the spread of the features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pfgdata.errors import ConfigError, IdentityError
from pfgdata.paths import user_path
from pfgdata.records import Progress, TaggerIdentity
from pfgdata.store import require_same_tagger
from pfgtrain.adapter import PFGAdapter, PFGLinear, load_adapter
from pfgtrain.batches import Batches
from pfgtrain.checkpoint import ADAPTER_FILE, RunRecord, find_checkpoint, is_run, weights_folder
from pfgtrain.config import FitConfig
from pfgtrain.lora import read_lora
from pfgtrain.optim import Part

__all__ = ["standardization_of", "take_init"]

_ROWS_AT_ONCE = 8192


def standardization_of(batches: Batches) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the features trained on, float32 [F] each; what never varies is divided by 1."""
    count, total, squares = 0, 0.0, 0.0
    for first in range(0, len(batches.rows), _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, len(batches.rows)))
        part = batches.features(rows).astype(np.float64)
        count, total, squares = count + len(part), total + part.sum(0), squares + np.square(part).sum(0)
    mean = np.asarray(total / count)
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    std[std <= 1e-3 * std.max()] = 1.0
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def take_init(
    config: FitConfig,
    adapter: PFGAdapter | None,
    parts: Sequence[Part],
    *,
    tagger: TaggerIdentity,
    progress: Progress,
) -> None:
    """Put the weights of `config.init` into the parts that it has; the others stay fresh, and are named.

    Raises IdentityError for the adapter of another tagger, ConfigError or RunError for what does not fit.
    """
    assert config.init is not None
    path = user_path(config.init)
    folder = _weights_of(path, config, tagger, progress) if is_run(path) else None
    if folder is None:
        _require_told_tagger(path, tagger)
    source, taken = folder / ADAPTER_FILE if folder else path, list[str]()
    for part in parts:
        if adapter is not None and part.name == "adapter":
            if folder is None or source.exists():
                _take_adapter(source, adapter)
                taken.append(part.name)
        elif folder is not None and (folder / part.file).exists():
            if part.name == "lora":
                _require_scale(folder / part.file, config)
            part.read(folder)
            taken.append(part.name)
    fresh = ", ".join(part.name for part in parts if part.name not in taken)
    if not taken:
        raise ConfigError(f"init = {config.init!r} has nothing of what learns here ({fresh})")
    progress.say(f"starts from {config.init}: {', '.join(taken)}" + (f"; fresh: {fresh}" if fresh else ""))


def _weights_of(run: Path, config: FitConfig, tagger: TaggerIdentity, progress: Progress) -> Path:
    """The weights of a run to start from. Raises where this fit would lose some of them."""
    record, checkpoint = RunRecord.read(run), find_checkpoint(run)
    if record.num_tokens and config.num_tokens:
        require_same_tagger(record.tagger, tagger, where=f"init {run}")
    if record.train not in (config.train, "adapter"):
        raise ConfigError(
            f'init = {config.init!r} trained its {record.train}, which train = "{config.train}" does not go'
            " on with; name the run by --base, and its exported adapter by --init"
        )
    return weights_folder(checkpoint, record, progress=progress)


def _require_scale(path: Path, config: FitConfig) -> None:
    """Raise ConfigError if the LoRA in `path` is of another scale: its weights would mean more or less."""
    lora = read_lora(path)
    if (lora.r, lora.lora_alpha) != (config.r, config.lora_alpha):
        raise ConfigError(
            f"{path}: has r = {lora.r} and lora_alpha = {lora.lora_alpha:g}, this fit r = {config.r} and"
            f" lora_alpha = {config.lora_alpha:g}; set both as they were there"
        )


def _take_adapter(path: Path, adapter: PFGAdapter) -> None:
    """Make `adapter` give the tokens that the one in `path` gives. Raises ConfigError if it cannot."""
    other = load_adapter(path, cross_attention_dim=adapter.cross_attention_dim, num_tokens=adapter.num_tokens)
    if other.kind != adapter.kind or other.feature_dim != adapter.feature_dim:
        raise ConfigError(
            f"{path}: a {other.kind} adapter of features {other.feature_dim} wide, this fit has a"
            f" {adapter.kind} one of {adapter.feature_dim}"
        )
    if isinstance(other, PFGLinear) and isinstance(adapter, PFGLinear):
        adapter.take_folded(other.folded())
        return
    ours, theirs = adapter.state_dict(), other.state_dict()
    if {key: value.shape for key, value in ours.items()} != {key: v.shape for key, v in theirs.items()}:
        raise ConfigError(
            f"{path}: its layers are of other sizes, or only one of both standardizes its features; set"
            " adapter_hidden_dim and standardize_features as they were there"
        )
    adapter.load_state_dict(theirs)


def _require_told_tagger(path: Path, tagger: TaggerIdentity) -> None:
    """Raise IdentityError if the .json beside exported weights tells of another tagger."""
    try:
        told = TaggerIdentity(**json.loads(path.with_suffix(".json").read_bytes())["tagger"])
    except (OSError, ValueError, KeyError, TypeError):  # published weights say nothing
        return
    if told.decisive != tagger.decisive:
        raise IdentityError(
            f"{path}: made with tagger {told.name} ({told.recipe}), the store is of {tagger.name}"
            f" ({tagger.recipe}); its features mean something else"
        )
