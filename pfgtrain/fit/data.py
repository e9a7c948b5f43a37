"""What is trained on: the selected images that have a latent, less those held out, with their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from torch import Tensor

from pfgdata.captions import TAGS, Captions, column_captions, shuffled, tag_captions
from pfgdata.errors import ConfigError, RunError
from pfgdata.hub import single_file_width
from pfgdata.paths import user_path
from pfgdata.query import Thresholds, select
from pfgdata.records import Progress, Selection, TaggerIdentity
from pfgdata.store import LatentSet, Snapshot, Store
from pfgtrain.adapter import load_adapter
from pfgtrain.base import Base
from pfgtrain.batches import Batches, Rows, Texts, held_out, join
from pfgtrain.checkpoint import RunRecord, is_run
from pfgtrain.config import FeaturePlan, FitConfig
from pfgtrain.fit.features import (
    SetRead,
    feature_plan,
    missing_digest,
    require_vectors,
    sets_read,
    tagger_read,
)

__all__ = ["FitData", "Inputs", "Sets", "base_of", "captions_of", "data_of", "sets_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitData:
    """What is trained on: a selection of a store's images, the latents and the features it is joined with."""

    store: Store
    snapshot: Snapshot
    latent_set: LatentSet
    selection: Selection
    features: Sequence[SetRead] = ()  # in the order of a feature's columns; none: the tagger's own

    @property
    def read(self) -> Sequence[SetRead]:
        """The feature sets, the tagger's own where none was named."""
        return self.features or (tagger_read(self.snapshot, self.selection),)

    @property
    def path(self) -> Path:
        """The store's, as it was given."""
        return self.store.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the models of a fit are built of, and what their rows are: it settles every shape."""

    base: Base  # its text layer and prediction type as the fit has them
    latent_set: LatentSet
    tagger: TaggerIdentity
    features: FeaturePlan
    standardization: tuple[Tensor, Tensor] | None = None  # mean and deviation of the features, [F] each
    captions: tuple[str, ...] = ()  # all that rows will have, where they are to be encoded once

    @classmethod
    def of(cls, data: FitData, base: Base, config: FitConfig) -> Inputs:
        """Those of a fit of `base` on `data`; the number of tokens is settled."""
        return cls(
            base=base,
            latent_set=data.latent_set,
            tagger=data.store.identity.tagger,
            features=feature_plan(data.read, config),
        )

    def wants_spread(self, config: FitConfig) -> bool:
        """Whether features are standardized: `config` asks for it, or sets are mixed."""
        return config.standardize_features or self.features.mixes

    def unmeasured(self, config: FitConfig) -> Inputs:
        """The same with a spread that nobody has measured, if `config` wants one: where shapes are enough."""
        width = self.features.feature_dim
        spread = (torch.zeros(width), torch.ones(width))
        return replace(self, standardization=spread if self.wants_spread(config) else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """The images trained on, and those held out if there are any, each with its own texts."""

    train: Batches
    validation: Batches | None
    missing_captions: int  # images trained on whose caption is empty
    captions_digest: str | None  # of the texts of a column; tags follow from images and tagger
    missing_digest: str | None  # of which images lack a vector of which feature set; None: none does


def data_of(store: Store, config: FitConfig) -> FitData:
    """What `config` asks to train on: its latent set, and the images that its `where` selects.

    Raises QueryError for the expression, RunError where there are no latents, ConfigError where it is not
    clear which set is meant, StoreError for a feature set that is not there.
    """
    snapshot = store.snapshot()
    thresholds = Thresholds(general=config.threshold, character=config.character_threshold)
    selection = select(snapshot, config.where, thresholds)
    return FitData(
        store=store,
        snapshot=snapshot,
        latent_set=_latent_set(store, config),
        selection=selection,
        features=sets_read(store, snapshot, selection, config),
    )


def base_of(
    data: FitData, config: FitConfig, *, run_dir: Path | None = None, progress: Progress | None = None
) -> Base:
    """The base that `config` asks for, by default the one the latents are of, at the revision on record.

    The record is the latent set's and, above it, that of the run to go on with in `run_dir`, if there is one.
    Raises RunError for an adapter to start from that does not fit a single file, before that is unpacked.
    """
    info = data.latent_set.info
    name, revisions = config.base or info.base_name, {info.base_name: info.base_revision}
    goes_on = run_dir is not None and is_run(run_dir)
    if run_dir is not None and goes_on:
        record = RunRecord.read(run_dir)
        revisions[record.base_name] = record.base_revision
    init = user_path(config.init) if config.init and not goes_on else None
    if init is not None and not is_run(init) and (width := single_file_width(name)) is not None:
        load_adapter(init, cross_attention_dim=width)
    absolute = str(user_path(name).absolute())  # as a run or folder is on record
    return Base.load(
        name,
        revision=revisions.get(name, revisions.get(absolute)),
        prediction_type=config.prediction_type,
        config=user_path(config.base_config) if config.base_config else None,
        progress=progress,
    )


def sets_of(data: FitData, config: FitConfig, *, processes: int, with_sizes: bool = False) -> Sets:
    """The batches of a fit by that many processes, with how images were cut where that is read.

    Raises RunError where there is nothing to train on.
    """
    read = data.read
    rows = join(data.selection, data.latent_set.index(), [one.vectors.index() for one in read])
    require_vectors(rows, read, config)
    held = held_out(
        data.snapshot,
        rows.images,
        share=config.validation_split,
        character_threshold=config.character_threshold,
    )
    captions = _captions(data, rows, config)

    def part(numbers: npt.NDArray[np.int64]) -> tuple[Batches, Captions | None]:
        own = captions.take(numbers) if captions else None
        texts = _texts(own, config) if own else None
        batches = _batches(data, rows.take(numbers), texts, config, processes)
        return batches.with_sizes() if with_sizes else batches, own

    train, told = part(np.flatnonzero(~held))
    return Sets(
        train=train,
        validation=part(np.flatnonzero(held))[0] if held.any() else None,
        missing_captions=told.missing if told else 0,
        captions_digest=_digest(told) if told and config.caption != TAGS else None,
        missing_digest=missing_digest(rows),
    )


def captions_of(sets: Sets) -> tuple[str, ...]:
    """Every caption of `sets`, once."""
    both = [sets.train, *([sets.validation] if sets.validation else [])]
    return tuple(dict.fromkeys(text for batches in both for text in batches.texts))


def _digest(captions: Captions) -> str:
    """BLAKE3 of all texts in their order."""
    hasher = blake3()
    for first in range(0, len(captions), 4096):
        for text in captions.of(np.arange(first, min(first + 4096, len(captions)))):
            hasher.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return hasher.hexdigest()


def _batches(data: FitData, rows: Rows, texts: Texts | None, config: FitConfig, processes: int) -> Batches:
    return Batches(
        rows,
        features=[one.vectors for one in data.read],
        latent_set=data.latent_set,
        batch_size=config.train_batch_size * processes,
        seed=config.seed,
        texts=texts,
    )


def _captions(data: FitData, rows: Rows, config: FitConfig) -> Captions | None:
    """The texts of all `rows`, read once; None where they share the prompt."""
    if config.caption is None:
        return None
    if config.caption != TAGS:
        return column_captions(data.store, data.snapshot, rows.images, name=config.caption)
    return tag_captions(
        data.snapshot,
        rows.images,
        threshold=config.threshold,
        character_threshold=config.character_threshold,
    )


def _texts(captions: Captions, config: FitConfig) -> Texts:
    """How batches get the texts of their rows."""
    keep, separator = config.keep_tokens, config.caption_separator

    def texts(numbers: npt.NDArray[np.int64], seeds: list[int] | None) -> list[str]:
        told = captions.of(numbers)
        if not config.shuffle_caption or seeds is None:
            return told
        return [
            shuffled(text, keep_tokens=keep, separator=separator, seed=seed)
            for text, seed in zip(told, seeds, strict=True)
        ]

    return texts


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
        names = (config.base, str(user_path(config.base).absolute()))
        found = [one for one in found if one.info.base_name in names] or found
    if len(found) == 1:
        return found[0]
    listed = "; ".join(
        f"{one.id} of {one.info.base_name} at {one.identity.resolution} px" for one in found or every
    )
    why = "several latent sets fit, name one by --latents" if found else "no latent set fits"
    raise ConfigError(f"{store.path}: {why}: {listed}")
