"""Where a fit starts from: weights of another run or file (`init`), and the spread of the features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pfgdata.errors import ConfigError, IdentityError
from pfgdata.paths import user_path
from pfgdata.records import Progress, TaggerIdentity
from pfgdata.store import require_same_tagger
from pfgtrain.adapter import PFGAdapter, PFGLinear, load_adapter
from pfgtrain.base import Base
from pfgtrain.batches import Batches
from pfgtrain.checkpoint import (
    CheckpointState,
    RunRecord,
    checkpoints,
    find_checkpoint,
    is_run,
    read_state,
    require_undamaged,
    weights_folder,
)
from pfgtrain.config import FitConfig, toml_value
from pfgtrain.fit.data import Inputs
from pfgtrain.fit.training_model import what_learns
from pfgtrain.lora import read_lora
from pfgtrain.optim import Part

__all__ = ["Standing", "rehearse", "standardization_of", "standing_of", "take_init", "with_tokens"]

_ROWS_AT_ONCE = 8192
_TOKENS = 5  # the article's, and those of most adapters that are published


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a run that goes on stands: the checkpoint with its weights, and the step they are of."""

    weights: Path
    state: CheckpointState


def standing_of(run_dir: Path, *, progress: Progress) -> Standing | None:
    """The newest checkpoint of a run, all of it read and as it was saved; None where it has none yet."""
    found = checkpoints(run_dir)
    if not found:
        return None
    standing = Standing(weights=found[-1], state=read_state(found[-1]))
    require_undamaged(standing.weights, progress=progress)
    return standing


def standardization_of(batches: Batches) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the features trained on, float32 [F] each; what never varies is divided by 1."""
    count = 0
    total = squares = np.zeros(())
    for first in range(0, len(batches.rows), _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, len(batches.rows)))
        part = batches.features(rows).astype(np.float64)
        count += len(part)
        total = total + part.sum(0)
        squares = squares + np.square(part).sum(0)
    mean = np.asarray(total / count)
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    std[std <= 1e-3 * std.max()] = 1.0
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def with_tokens(config: FitConfig, base: Base, *, resumed: RunRecord | None = None) -> FitConfig:
    """`config` with the number of tokens decided: that of the run that goes on, of `init`, or 5.

    Raises RunError for an `init` that is no adapter for the base's width.
    """
    if config.num_tokens is not None:
        return config
    if resumed is not None:
        return replace(config, num_tokens=resumed.num_tokens)
    path = user_path(config.init or "")
    count = 0
    if config.init and is_run(path):
        count = RunRecord.read(path).num_tokens
    elif config.init:
        count = load_adapter(path, cross_attention_dim=base.cross_attention_dim).num_tokens
    return replace(config, num_tokens=count or _TOKENS)


def rehearse(inputs: Inputs, config: FitConfig) -> None:
    """Raise what building the models and starting them from `config.init` would, before any is loaded.

    Configs, the headers of files and the adapter's own file say enough: 1 s where loading takes a minute.
    """
    # the precision may still be auto, and no dtype matters here
    config = replace(config, mixed_precision="no", full_bf16=False)
    adapter, parts = what_learns(inputs.base.unet_outline(), inputs.unmeasured(config), config)
    if config.init:
        for part, source in _sources(config, parts, tagger=inputs.tagger):
            if part.name == "adapter" and adapter is not None:
                _take_adapter(source, adapter)
            else:
                part.require_fit(source.parent)


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
    taken = list[str]()
    for part, source in _sources(config, parts, tagger=tagger, progress=progress):
        if part.name == "adapter" and adapter is not None:
            _take_adapter(source, adapter)
        else:
            part.read(source.parent)
        taken.append(part.name)
    fresh = ", ".join(part.name for part in parts if part.name not in taken)
    progress.say(f"starts from {config.init}: {', '.join(taken)}" + (f"; fresh: {fresh}" if fresh else ""))


def _sources(
    config: FitConfig, parts: Sequence[Part], *, tagger: TaggerIdentity, progress: Progress | None = None
) -> list[tuple[Part, Path]]:
    """The parts that `config.init` has weights for, and their files. Raises where there are none.

    A run's are compared with their digests, which reads all of them, where `progress` is there to tell.
    """
    assert config.init is not None
    path = user_path(config.init)
    if not is_run(path):
        _require_told_tagger(path, tagger)
        found = [(part, path) for part in parts if part.name == "adapter"]
    else:
        folder = _weights_of(path, config, tagger, progress)
        found = [(part, folder / part.file) for part in parts if (folder / part.file).exists()]
    if not found:
        learns = ", ".join(part.name for part in parts)
        raise ConfigError(f"init = {toml_value(config.init)} has nothing of what learns here ({learns})")
    for part, source in found:
        if part.name == "lora":
            _require_scale(source, config)
    return found


def _weights_of(run: Path, config: FitConfig, tagger: TaggerIdentity, progress: Progress | None) -> Path:
    """The weights of a run to start from. Raises where this fit would lose some of them."""
    record, checkpoint = RunRecord.read(run), find_checkpoint(run)
    if record.num_tokens and config.num_tokens:
        require_same_tagger(record.tagger, tagger, where=f"init {run}")
    if record.train not in (config.train, "adapter"):
        raise ConfigError(
            f"init = {toml_value(config.init)} trained its {record.train}, which train ="
            f" {toml_value(config.train)} does not go on with; name the run by --base, and"
            " its exported adapter by --init"
        )
    return weights_folder(checkpoint, record, compare=progress is not None, progress=progress)


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
    other = load_adapter(path, cross_attention_dim=adapter.cross_attention_dim)
    if other.num_tokens != adapter.num_tokens:
        raise ConfigError(
            f"{path}: makes {other.num_tokens} tokens, this fit has {adapter.num_tokens}; pass --tokens"
            f" {other.num_tokens} (num_tokens = {other.num_tokens}), or leave it out"
        )
    if other.kind != adapter.kind:
        raise ConfigError(
            f"{path}: is of kind {other.kind}, the adapter of this fit {adapter.kind}; pass --adapter-kind"
            f" {other.kind}"
        )
    if other.feature_dim != adapter.feature_dim:
        raise ConfigError(
            f"{path}: reads features {other.feature_dim} wide, the store's are {adapter.feature_dim}; its"
            " tagger was another"
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
    """Raise IdentityError if the .json of exported weights, there or one folder up, tells of another."""
    document = path.with_suffix(".json")
    if not document.exists():
        document = path.parent.parent / document.name
    try:
        told = TaggerIdentity.of(json.loads(document.read_bytes())["tagger"])
    except (OSError, ValueError, KeyError, TypeError):  # published weights say nothing
        return
    if told.decisive != tagger.decisive:
        raise IdentityError(
            f"{path}: made with tagger {told.name} ({told.preprocess}), the store is of {tagger.name}"
            f" ({tagger.preprocess}); its features mean something else"
        )
