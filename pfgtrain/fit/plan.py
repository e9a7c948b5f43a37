"""What a fit is going to do, whether it may, and the record of it: all before the first weight is read.

A run goes on only with what it was begun with; this is where another tagger, VAE or selection is found out.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.errors import ConfigError, IdentityError, RunError
from pfgdata.query import Thresholds, select
from pfgdata.records import Selection
from pfgdata.store import LatentSet, Snapshot, Store, StoreIdentity, installed_versions, require_same_tagger
from pfgdata.vaes import Vae, base_geometry
from pfgtrain.base import Base
from pfgtrain.batches import Batches, Rows, join
from pfgtrain.checkpoint import CheckpointState, RunRecord
from pfgtrain.config import CONFIG_FILE, FitConfig, load_config

__all__ = [
    "FitData",
    "FitPlan",
    "base_of",
    "batches_of",
    "data_of",
    "plan_fit",
    "plan_of",
    "record_of",
    "require_run",
    "require_same_vae",
    "require_whole_steps",
]

_PACKAGES = ("pfg", "torch", "diffusers", "transformers", "accelerate", "numpy", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitData:
    """What is trained on: a selection of a store's images, and the latent set it is joined with."""

    path: Path  # of the store, as it was given
    store: StoreIdentity
    snapshot: Snapshot
    latent_set: LatentSet
    selection: Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """What a fit is going to do."""

    selected: int  # rows
    distinct: int  # images among them
    images: int  # of those, with a latent: what is trained on
    buckets: dict[str, int]  # "WxH" in pixels -> images
    processes: int
    effective_batch: int  # images per optimizer step
    batches_per_epoch: int  # global batches
    batches: int  # global batches in all
    steps: int  # optimizer steps in all

    @property
    def without_latent(self) -> int:
        """Selected images that are left out because the latent set lacks them."""
        return self.distinct - self.images

    @property
    def epochs(self) -> float:
        """Times each image is seen."""
        return self.batches / self.batches_per_epoch

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "without_latent": self.without_latent, "epochs": self.epochs}


def data_of(store: Store, config: FitConfig) -> FitData:
    """What `config` asks to train on: its latent set, and the images that its `where` selects.

    Raises QueryError for the expression, RunError where there are no latents, ConfigError where it is not
    clear which set is meant.
    """
    if config.where and config.where.startswith("@"):
        raise ConfigError(f"where = {config.where!r}: selections have no names yet; write the expression")
    snapshot = store.snapshot()
    thresholds = Thresholds(
        general=config.threshold, character=config.character_threshold, floor=store.identity.score_floor
    )
    return FitData(
        path=store.path,
        store=store.identity,
        snapshot=snapshot,
        latent_set=_latent_set(store, config),
        selection=select(snapshot, store.vocabulary, config.where, thresholds),
    )


def _latent_set(store: Store, config: FitConfig) -> LatentSet:
    every = store.latent_sets()
    if not every:
        command = f"pfgdata latents {store.path} --base {config.base or 'BASE'}"
        raise RunError(f"{store.path}: has no latents; make them with: {command}")
    found = [
        one
        for one in every
        if one.id.startswith(config.latents or "") and config.resolution in (None, one.identity.resolution)
    ]
    if config.base and len(found) > 1:  # one VAE serves many bases, so a name only tells which is nearer
        names = (config.base, str(Path(config.base).expanduser().absolute()))
        found = [one for one in found if one.info.base_name in names] or found
    if len(found) == 1:
        return found[0]
    listed = "; ".join(
        f"{one.id} of {one.info.base_name} at {one.identity.resolution} px" for one in found or every
    )
    why = "several latent sets fit, name one by --latents" if found else "no latent set fits"
    raise ConfigError(f"{store.path}: {why}: {listed}")


def base_of(data: FitData, config: FitConfig, *, run_dir: Path | None = None) -> Base:
    """The base that `config` asks for, by default the one the latents are of, at the revision on record.

    The record is the latent set's and, above it, that of the run to go on with in `run_dir`, if there is one.
    """
    info = data.latent_set.info
    name, revisions = config.base or info.base_name, {info.base_name: info.base_revision}
    if run_dir is not None and (run_dir / "run.json").exists():
        record = RunRecord.read(run_dir)
        revisions[record.base_name] = record.base_revision
    return Base.load(name, revision=revisions.get(name), prediction_type=config.prediction_type)


def plan_fit(data: FitData, base: Base, config: FitConfig, *, processes: int = 1) -> FitPlan:
    """Check that everything fits together and say what a fit would do; nothing is written.

    Raises IdentityError for the latents of another VAE, RunError where there is nothing to train on.
    """
    require_same_vae(data, base)
    return plan_of(data, batches_of(data, config, processes=processes), config, processes=processes)


def batches_of(data: FitData, config: FitConfig, *, processes: int) -> Batches:
    """The batches of a fit by that many processes. Raises RunError where there is nothing to train on."""
    return Batches(
        join(data.selection, data.latent_set.index()),
        snapshot=data.snapshot,
        latent_set=data.latent_set,
        batch_size=config.train_batch_size * processes,
        seed=config.seed,
    )


def plan_of(data: FitData, batches: Batches, config: FitConfig, *, processes: int) -> FitPlan:
    """What a fit over `batches` is going to do."""
    accumulation, rows = config.gradient_accumulation_steps, batches.rows
    total = config.num_train_epochs * batches.per_epoch
    if config.max_train_steps is not None:
        total = config.max_train_steps * accumulation
    sizes = np.bincount(rows.bucket, minlength=len(data.latent_set.info.buckets))
    names = [f"{width}x{height}" for width, height in data.latent_set.info.buckets]
    return FitPlan(
        selected=rows.num_selected,
        distinct=rows.num_distinct,
        images=len(rows),
        buckets={name: int(size) for name, size in zip(names, sizes, strict=True) if size},
        processes=processes,
        effective_batch=batches.batch_size * accumulation,
        batches_per_epoch=batches.per_epoch,
        batches=total,
        steps=-(-total // accumulation),
    )


def require_same_vae(data: FitData, base: Base) -> None:
    """Raise IdentityError unless the latents are of the base's VAE and scale, of sides its UNet can halve."""
    made_by, vae = data.latent_set.info.base_name, Vae.load(str(base.folder), device="cpu")
    if vae.digest != data.latent_set.identity.vae_digest:
        raise IdentityError(
            f"latent set {data.latent_set.id} was made by the VAE of {made_by}, base {base.name} has another;"
            f" use --base {made_by}, or make latents: pfgdata latents {data.path} --base {base.name}"
        )
    if vae.scaling_factor != data.latent_set.info.scaling_factor:  # fit scales by the set's, generate by this
        raise IdentityError(
            f"latent set {data.latent_set.id} is of {made_by}, whose scaling_factor is"
            f" {data.latent_set.info.scaling_factor:g}, base {base.name} has {vae.scaling_factor:g}; use"
            f" --base {made_by}, or set it right in {base.folder / 'vae' / 'config.json'}"
        )
    step = base_geometry(base.folder).step
    if data.latent_set.identity.step % step:
        raise IdentityError(
            f"latent set {data.latent_set.id} has sides in steps of {data.latent_set.identity.step} pixels,"
            f" base {base.name} needs {step}; make latents: pfgdata latents {data.path} --base {base.name}"
        )


def require_run(run_dir: Path, record: RunRecord, config: FitConfig, *, resume: bool) -> None:
    """Raise unless `run_dir` is free, or, to `resume`, holds the run that `record` and `config` go on."""
    if not resume:
        if (run_dir / "run.json").exists():
            raise RunError(
                f"{run_dir}: holds a run; go on with it by --resume, or name another folder by --out"
            )
        return
    saved = RunRecord.read(run_dir)
    require_same_tagger(saved.tagger, record.tagger, where=f"run {run_dir}")
    differs = record.differs_from(saved) or config.changed_from(load_config(run_dir / CONFIG_FILE, {}))
    if differs:
        raise RunError(
            f"{run_dir}: cannot go on with another {', '.join(differs)}; resume as it was begun"
            f" ({run_dir / CONFIG_FILE}), or start a new run by --out"
        )


def require_whole_steps(run_dir: Path, state: CheckpointState, plan: FitPlan, *, accumulation: int) -> None:
    """Raise RunError if the last step of a run that has ended was short and `plan` goes on behind it."""
    done = state.epoch * plan.batches_per_epoch + state.position
    if done < state.step * accumulation and plan.batches > done:
        taken = done - (state.step - 1) * accumulation
        raise RunError(
            f"{run_dir}: ended by a step of {taken} instead of {accumulation} batches, and a longer run would"
            " have filled it; start a new run by --out"
        )


def record_of(data: FitData, base: Base, config: FitConfig, rows: Rows, *, processes: int) -> RunRecord:
    """The run.json of a fit."""
    latent_set, selection = data.latent_set, data.selection
    return RunRecord(
        tagger=data.store.tagger,
        feature_dim=data.store.feature_dim,
        base_name=base.name,
        base_revision=base.revision,
        base_family=base.family,
        latents_id=latent_set.id,
        vae_digest=latent_set.identity.vae_digest,
        scaling_factor=latent_set.info.scaling_factor,
        resolution=latent_set.identity.resolution,
        prompt=config.prompt,
        uncond=config.uncond,
        num_tokens=config.num_tokens,
        cross_attention_dim=base.cross_attention_dim,
        prediction_type=base.prediction_type,
        train=config.train,
        store=str(data.path.resolve()),
        selection_digest=selection.digest,
        selection_count=rows.num_distinct,
        selection_expression=selection.expression,
        thresholds=selection.thresholds,
        trained_digest=rows.images.digest,
        trained_count=len(rows),
        versions={"python": platform.python_version(), **installed_versions(_PACKAGES)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        processes=processes,
    )
