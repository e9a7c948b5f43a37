"""What a fit is going to do, and the record of it: all before the first weight is read."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from accelerate import Accelerator

from pfgdata.errors import ConfigError
from pfgdata.paths import user_path
from pfgdata.store import installed_versions
from pfgtrain.base import Base
from pfgtrain.batches import Batches
from pfgtrain.checkpoint import RunRecord
from pfgtrain.config import FitConfig
from pfgtrain.fit.checks import (
    require_one_process,
    require_own_prediction,
    require_same_vae,
    require_whole_model,
)
from pfgtrain.fit.data import FitData, Inputs, Sets, sets_of
from pfgtrain.fit.start import rehearse, with_tokens
from pfgtrain.fit.trainer import make_accelerator, with_precision
from pfgtrain.optim import require_optimizer

__all__ = [
    "FitPlan",
    "checkpoints_made",
    "plan_fit",
    "plan_of",
    "record_of",
    "settled",
]

_PACKAGES = ("pfg", "torch", "diffusers", "transformers", "accelerate", "peft", "numpy", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """What a fit is going to do."""

    selected: int  # rows
    distinct: int  # images among them
    images: int  # of those, with a latent and not held out: what is trained on
    held_out: int  # of those, with a latent: what validation looks at
    missing_captions: int  # of the images trained on
    missing_vectors: dict[str, int]  # label of a feature set -> images trained on without its vector
    buckets: dict[str, int]  # "WxH" in pixels -> images trained on
    processes: int
    effective_batch: int  # images per optimizer step
    batches_per_epoch: int  # global batches
    batches: int  # global batches in all
    steps: int  # optimizer steps in all

    @property
    def without_latent(self) -> int:
        """Selected images that are left out because the latent set lacks them."""
        return self.distinct - self.images - self.held_out

    @property
    def epochs(self) -> float:
        """Times each image is seen."""
        return self.batches / self.batches_per_epoch

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "without_latent": self.without_latent, "epochs": self.epochs}


def plan_fit(data: FitData, base: Base, config: FitConfig, *, processes: int = 1) -> FitPlan:
    """Check that everything fits together and say what a fit would do; nothing is written.

    Raises IdentityError for the latents of another VAE, RunError where there is nothing to train on, and what
    `rehearse` does.
    """
    require_whole_model(os.environ)
    require_one_process(config, processes)
    require_same_vae(data, base)
    require_own_prediction(base)
    _text_layer_of(base, config)
    require_optimizer(config)
    config = with_tokens(config, base)
    rehearse(Inputs.of(data, base, config), config)
    return plan_of(data, sets_of(data, config, processes=processes), config, processes=processes)


def settled(
    data: FitData, base: Base, config: FitConfig, *, resumed: RunRecord | None = None
) -> tuple[Accelerator, Base, FitConfig]:
    """What is left to this machine, to the data and to the run that goes on, decided."""
    init = str(user_path(config.init).absolute()) if config.init else None
    config = replace(with_precision(config), base=base.name, latents=data.latent_set.id, init=init)
    config = with_tokens(config, base, resumed=resumed)
    require_optimizer(config)
    require_whole_model(os.environ)  # before accelerate looks for the package of what it asks
    accelerator = make_accelerator(config)
    require_one_process(config, accelerator.num_processes)
    base = replace(
        base,
        device=accelerator.device,
        prediction_type=config.prediction_type or base.prediction_type,
        text_layer=_text_layer_of(base, config),
    )
    return accelerator, base, config


def plan_of(data: FitData, sets: Sets, config: FitConfig, *, processes: int) -> FitPlan:
    """What a fit over `sets` is going to do."""
    accumulation, batches = config.gradient_accumulation_steps, sets.train
    total = config.num_train_epochs * batches.per_epoch
    if config.max_train_steps is not None:
        total = config.max_train_steps * accumulation
    sizes = np.bincount(batches.rows.bucket, minlength=len(data.latent_set.info.buckets))
    names = [f"{width}x{height}" for width, height in data.latent_set.info.buckets]
    return FitPlan(
        selected=batches.rows.num_selected,
        distinct=batches.rows.num_distinct,
        images=len(batches.rows),
        held_out=len(sets.validation.rows) if sets.validation else 0,
        missing_captions=sets.missing_captions,
        missing_vectors=_missing(data, batches),
        buckets={name: int(size) for name, size in zip(names, sizes, strict=True) if size},
        processes=processes,
        effective_batch=batches.batch_size * accumulation,
        batches_per_epoch=batches.per_epoch,
        batches=total,
        steps=-(-total // accumulation),
    )


def _missing(data: FitData, batches: Batches) -> dict[str, int]:
    """How many images trained on lack a vector of each set, of those that some lack."""
    pairs = zip(data.read, batches.rows.features, strict=True)
    counts = {one.source.label: int((places.row < 0).sum()) for one, places in pairs}
    return {label: count for label, count in counts.items() if count}


def checkpoints_made(config: FitConfig, steps: int) -> int:
    """How many a fit of so many steps makes."""
    return -(-steps // config.checkpointing_steps) + config.checkpoint_at_start


def _text_layer_of(base: Base, config: FitConfig) -> int:
    """The hidden layer of the text encoder that is read. Raises ConfigError for one that is not there."""
    if config.clip_skip is None:
        return base.text_layer
    if config.clip_skip > base.text_layers:
        raise ConfigError(
            f"clip_skip = {config.clip_skip}: the text encoder of {base.name} has {base.text_layers} layers;"
            " 1 reads the last, 2 the one before it"
        )
    if base.family.clip_skip not in (None, config.clip_skip):
        raise ConfigError(
            f"clip_skip = {config.clip_skip}: a base of {base.family.facts.title} is trained on what"
            f" {base.family.clip_skip} reads, and web UIs read nothing else of it; leave it out"
        )
    return base.text_layers + 1 - config.clip_skip


def record_of(
    data: FitData, inputs: Inputs, config: FitConfig, plan: FitPlan, sets: Sets, *, vae_digest: str
) -> RunRecord:
    """The run.json of a fit."""
    assert config.num_tokens is not None, "settled by with_tokens"
    latent_set, selection, identity = data.latent_set, data.selection, data.store.identity
    base = inputs.base
    return RunRecord(
        tagger=identity.tagger,
        feature_dim=identity.feature_dim,
        base_name=base.name,
        base_revision=base.revision,
        base_fingerprint=base.fingerprint,
        base_family=base.family.facts.name,
        latents_id=latent_set.id,
        vae_digest=vae_digest,
        scaling_factor=latent_set.info.scaling_factor,
        shift_factor=latent_set.info.shift_factor,
        resolution=latent_set.identity.resolution,
        prompt=config.prompt,
        caption=config.caption,
        captions_digest=sets.captions_digest,
        text_layer=base.text_layer,
        uncond=config.uncond,
        empty_prompt=config.empty_prompt,
        num_tokens=config.num_tokens,
        adapter_kind=config.adapter_kind,
        cross_attention_dim=base.cross_attention_dim,
        prediction_type=base.prediction_type,
        train=config.train,
        use_ema=config.use_ema,
        store=str(data.path.resolve()),
        selection_digest=selection.digest,
        selection_count=plan.distinct,
        selection_expression=selection.expression,
        thresholds=selection.thresholds,
        selections=selection.named,
        trained_digest=sets.train.rows.images.digest,
        trained_count=plan.images,
        held_out_count=plan.held_out,
        versions={"python": platform.python_version(), **installed_versions(_PACKAGES)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        processes=plan.processes,
        features=inputs.features.as_records(),
        missing_vectors=sets.missing_digest,
    )
