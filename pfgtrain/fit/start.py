"""Where a fit starts from: the checkpoint of a run that goes on, or other weights (`init`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pfgdata.errors import ConfigError, IdentityError
from pfgdata.paths import user_path
from pfgdata.records import Progress, TaggerIdentity
from pfgdata.store import require_same_tagger
from pfgtrain.adapter import PFGAdapter, PFGLinear, load_adapter
from pfgtrain.base import Base
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
from pfgtrain.config import TOKENS, FeaturePlan, FitConfig, adapters_asked, toml_value
from pfgtrain.fit.data import Inputs
from pfgtrain.fit.training_model import what_learns
from pfgtrain.generate import document_of
from pfgtrain.lora import read_lora
from pfgtrain.optim import Part

__all__ = ["Standing", "rehearse", "standing_of", "take_init", "with_tokens"]


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


def with_tokens(config: FitConfig, base: Base, *, resumed: RunRecord | None = None) -> FitConfig:
    """`config` with the number of tokens decided: that of the run that goes on, of `init`, or 5.

    Where it names features, each adapter has those that are told there, or 5. Raises RunError for an `init`
    that is no adapter for the base's width.
    """
    if config.features:
        asked = adapters_asked(config.features)
        counts = [one.num_tokens or TOKENS for one in asked]
        text = ",".join(f"{one.name}:{count}" for one, count in zip(asked, counts, strict=True))
        return replace(config, features=text, num_tokens=sum(counts))
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
    return replace(config, num_tokens=count or TOKENS)


def rehearse(inputs: Inputs, config: FitConfig) -> None:
    """Raise what building the models and starting them from `config.init` would, before any is loaded.

    Configs, the headers of files and the adapter's own file say enough: 1 s where loading takes a minute.
    """
    # the precision may still be auto, and no dtype matters here
    config = replace(config, mixed_precision="no", full_bf16=False)
    adapter, parts = what_learns(inputs.base.unet_outline(), inputs.unmeasured(config), config)
    if config.init:
        for part, source in _sources(config, parts, inputs):
            if part.name == "adapter" and adapter is not None:
                _take_adapter(source, adapter)
            else:
                part.require_fit(source.parent)


def take_init(
    config: FitConfig,
    adapter: PFGAdapter | None,
    parts: Sequence[Part],
    *,
    inputs: Inputs,
    progress: Progress,
) -> None:
    """Put the weights of `config.init` into the parts that it has; the others stay fresh, and are named.

    Raises IdentityError for an adapter of other features, ConfigError or RunError for what does not fit.
    """
    taken = list[str]()
    for part, source in _sources(config, parts, inputs, progress=progress):
        if part.name == "adapter" and adapter is not None:
            _take_adapter(source, adapter)
        else:
            part.read(source.parent)
        taken.append(part.name)
    fresh = ", ".join(part.name for part in parts if part.name not in taken)
    progress.say(f"starts from {config.init}: {', '.join(taken)}" + (f"; fresh: {fresh}" if fresh else ""))


def _sources(
    config: FitConfig, parts: Sequence[Part], inputs: Inputs, *, progress: Progress | None = None
) -> list[tuple[Part, Path]]:
    """The parts that `config.init` has weights for, and their files. Raises where there are none.

    A run's are compared with their digests, which reads all of them, where `progress` is there to tell.
    """
    assert config.init is not None
    path = user_path(config.init)
    if not is_run(path):
        _require_told_features(path, inputs)
        found = [(part, path) for part in parts if part.name == "adapter"]
    else:
        folder = _weights_of(path, config, inputs, progress)
        found = [(part, folder / part.file) for part in parts if (folder / part.file).exists()]
    if not found:
        learns = ", ".join(part.name for part in parts)
        raise ConfigError(f"init = {toml_value(config.init)} has nothing of what learns here ({learns})")
    for part, source in found:
        if part.name == "lora":
            _require_scale(source, config)
    return found


def _weights_of(run: Path, config: FitConfig, inputs: Inputs, progress: Progress | None) -> Path:
    """The weights of a run to start from. Raises where this fit would lose some of them."""
    record, checkpoint = RunRecord.read(run), find_checkpoint(run)
    if record.num_tokens and config.num_tokens:
        require_same_tagger(record.tagger, inputs.tagger, where=f"init {run}")
        _require_same_features(record.features_read, inputs.features, where=f"init {run}")
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


def _require_same_features(theirs: FeaturePlan, ours: FeaturePlan, *, where: str) -> None:
    """Raise IdentityError unless both read the same sets, adapter by adapter."""
    told = [[[source.decisive for source in one.sets] for one in plan.adapters] for plan in (theirs, ours)]
    if told[0] != told[1]:
        raise IdentityError(
            f"{where} reads {theirs.text}, this fit {ours.text}, and these are other vectors; start from one"
            " of the same sets, or take a run's UNet alone by --base"
        )


def _require_told_features(path: Path, inputs: Inputs) -> None:
    """Raise IdentityError if the .json of exported weights, there or one folder up, tells of others."""
    try:
        facts = json.loads(document_of(path).read_bytes())
        told, tagger = TaggerIdentity.of(facts["tagger"]), inputs.tagger
        plan = FeaturePlan.of(facts["features"]) if "features" in facts else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):  # published weights say nothing
        return
    if plan is not None or not inputs.features.is_tagger_alone:
        plan = plan or FeaturePlan.of_tagger(feature_dim=facts["feature_dim"], num_tokens=0)
        _require_same_features(plan, inputs.features, where=f"init {path}")
    if told.decisive != tagger.decisive:
        raise IdentityError(
            f"{path}: made with tagger {told.name} ({told.preprocess}), the store is of {tagger.name}"
            f" ({tagger.preprocess}); its features mean something else"
        )
