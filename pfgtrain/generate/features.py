"""The feature of a guide as a run's adapters read it: each set by its own extractor, or out of the store.

What an extractor on this machine can see is computed; where it is not here, or sees no finite vector, the
run's store may have one, for a guide is known by its content.

Shapes: F width of all sets side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pfgdata.errors import IdentityError, ModelError, PfgError
from pfgdata.extractors import Extractor, load_extractor
from pfgdata.records import Progress, during
from pfgdata.store import SetFeatures, Store
from pfgtrain.config import FeaturePlan, FeatureSource, values_of
from pfgtrain.generate.job import CheckpointJob

__all__ = ["FeatureReader", "Seen"]

How = Literal["computed", "stored", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The feature of one image [F], float32 on the CPU, and how each further set's part of it came.

    NaN stand in the columns of a set whose vector is missing.
    """

    feature_F: Tensor
    how: Mapping[str, How]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReader:
    """Makes the features that a plan reads. The tagger's own part is handed in: its model looks anyway."""

    plan: FeaturePlan
    extractors: Mapping[str, Extractor]  # label -> what makes its vectors, of those that are here
    reasons: Mapping[str, str]  # label -> why its extractor is not
    store: Path | None  # where the run's lies, if that is known
    sets: dict[str, SetFeatures | None]  # label -> the set in it, of those asked for so far; None: not there
    allow_missing: bool = False

    @classmethod
    def of_tagger(cls, *, feature_dim: int) -> Self:
        """That of published weights: the tagger's feature alone."""
        plan = FeaturePlan.of_tagger(feature_dim=feature_dim, num_tokens=0)
        return cls(plan=plan, extractors={}, reasons={}, store=None, sets={})

    @classmethod
    def load(
        cls, plan: FeaturePlan, job: CheckpointJob, *, store: Path | None, device: str, progress: Progress
    ) -> Self:
        """What `plan` needs, as far as it is here; `store` is where the run's lies, if that is known.

        Raises what `load_extractor` does, and IdentityError, for a model that the job names.
        """
        others = [source for source in plan.sets if source.identity is not None]
        named = (
            values_of(job.extractor, [one.label for one in others], key="extractor") if job.extractor else {}
        )
        extractors: dict[str, Extractor] = {}
        reasons: dict[str, str] = {}
        if others:
            with during(progress, "load", total=len(others), unit="extractors"):
                for source in others:
                    try:
                        extractors[source.label] = _loaded(source, named.get(source.label), device=device)
                    except PfgError as problem:
                        if source.label in named:
                            raise
                        reasons[source.label] = str(problem)
                    progress.advance()
        return cls(
            plan=plan,
            extractors=extractors,
            reasons=reasons,
            store=store,
            sets=_sets_of(store, [one for one in others if one.label in reasons]),
            allow_missing=job.allow_missing,
        )

    def read(self, pixels: Any, own_F: Tensor, *, content_id: bytes | None, name: str) -> Seen:
        """The feature of one decoded image, of which the tagger saw `own_F`.

        Raises ModelError naming the image and the set where a vector cannot be had, and may not be missing.
        """
        parts, how = list[Tensor](), dict[str, How]()
        for source in self.plan.sets:
            if source.identity is None:
                parts.append(own_F)
                continue
            part, came = self._vector(source, pixels, content_id=content_id, name=name)
            parts.append(part)
            how[source.label] = came
        return Seen(feature_F=parts[0] if len(parts) == 1 else torch.cat(parts), how=how)

    def _vector(
        self, source: FeatureSource, pixels: Any, *, content_id: bytes | None, name: str
    ) -> tuple[Tensor, How]:
        if (extractor := self.extractors.get(source.label)) is not None:
            vector = extractor.features(extractor.square(pixels)[None])[0]
            if np.isfinite(vector).all():
                return _tensor(vector), "computed"
            reason = "what it saw is not finite"
        else:
            reason = self.reasons[source.label]
        stored = self._stored(source, content_id)
        if stored is not None:
            return _tensor(stored), "stored"
        if self.allow_missing:
            return torch.full((source.feature_dim,), torch.nan), "missing"
        where = "is not here, or has no such set" if self.sets[source.label] is None else "has none"
        raise ModelError(
            f"{name}: no vector of feature set {source.label} ({reason}), and the run's store {where}; name"
            f" its model by --extractor {source.label}=MODEL, or leave it out by --allow-missing"
        )

    def _stored(self, source: FeatureSource, content_id: bytes | None) -> npt.NDArray[np.float16] | None:
        """The vector of a content in a set of the store; None where there is none."""
        if source.label not in self.sets:  # its extractor is here: till now nobody asked the store
            self.sets.update(_sets_of(self.store, [source]))
        known = self.sets[source.label]
        if content_id is None or known is None:
            return None
        there = self.sets[source.label] = known.fresh()
        return there.vector(content_id)


def _loaded(source: FeatureSource, name: str | None, *, device: str) -> Extractor:
    """The extractor of a set on record, or the one called `name`. Raises IdentityError if it is another."""
    assert source.identity is not None and source.extractor is not None
    loaded = load_extractor(
        name or source.extractor,
        node=source.identity["node"],
        convention=source.identity["preprocess"],
        revision=None if name else source.revision,
        device=device,
    )
    if asdict(loaded.identity) != dict(source.identity):
        other = [key for key, value in asdict(loaded.identity).items() if source.identity.get(key) != value]
        raise IdentityError(
            f"{loaded.name} is not the extractor of feature set {source.label}: another"
            f" {', '.join(other) or 'kind'}; its vectors mean something else"
        )
    return loaded


def _sets_of(store: Path | None, sources: list[FeatureSource]) -> dict[str, SetFeatures | None]:
    """The sets of those `sources` in the store at `store`, by label; None where there is none."""
    found: dict[str, SetFeatures | None] = {source.label: None for source in sources}
    if not sources or store is None:
        return found
    try:
        there = Store.open(store).feature_sets()
    except PfgError:
        return found
    for source in sources:
        for one in there:
            if asdict(one.identity) == dict(source.identity or {}):
                found[source.label] = SetFeatures(one)
    return found


def _tensor(vector: npt.ArrayLike) -> Tensor:
    return torch.from_numpy(np.asarray(vector, np.float32))
