"""A job's words to an extractor and the label of its set: one that is there is found again."""

from __future__ import annotations

import re
from pathlib import Path

from pfgdata.errors import ConfigError, IdentityError
from pfgdata.extractors import EXTRACTORS, Extractor, load_extractor
from pfgdata.features.job import FeatureJob
from pfgdata.inference import Precision
from pfgdata.store import (
    FeatureIdentity,
    FeatureInfo,
    FeatureSet,
    Store,
    feature_labels,
    feature_set,
    require_label,
)
from pfgdata.taggers import convention_named

__all__ = ["extractor_by", "extractor_for", "extractor_of"]

_FIELDS = {"weights_sha256": "weights", "architecture": "config", "preprocess": "preprocessing"}


def extractor_for(store: Store, job: FeatureJob) -> tuple[Extractor, str]:
    """The extractor that `job` names, or that made the set it names, and what its set is called.

    Raises as `load_extractor` does, ConfigError where the label is that of another set.
    """
    if job.extractor is None:
        if job.node or job.convention:
            raise ConfigError("--node and --convention go with --extractor; a set that is there has its own")
        if job.label is None:
            known = ", ".join(feature_labels(store)[1:])
            there = f"; sets of this store: {known}" if known else ""
            raise ConfigError(f"features of which extractor? name one by --extractor{there}")
        known_set = feature_set(store, job.label)
        if known_set is None:
            raise ConfigError(f"{job.label}: is the tagger's own feature; pfgdata ingest makes that")
        return extractor_of(known_set, device=job.device, precision=job.precision), known_set.label
    if job.label is not None:
        require_label(job.label)
    extractor = load_extractor(
        job.extractor,
        node=job.node,
        convention=None if job.convention is None else convention_named(job.convention, of_feature=True),
        device=job.device,
        precision=job.precision,
    )
    return extractor, _label(store, extractor, job)


def extractor_of(
    feature_set: FeatureSet, *, device: str = "auto", precision: Precision = "float32"
) -> Extractor:
    """The extractor that made a set. Raises IdentityError where what is found under its name is another."""
    return extractor_by(feature_set.info, feature_set.identity, device=device, precision=precision)


def extractor_by(
    info: FeatureInfo, identity: FeatureIdentity, *, device: str, precision: Precision
) -> Extractor:
    """The extractor that the record of a set tells. Raises IdentityError where another is found there."""
    extractor = load_extractor(
        info.extractor,
        node=identity.node,
        convention=identity.preprocess,
        revision=info.revision,
        device=device,
        precision=precision,
    )
    if FeatureIdentity.of(extractor.identity) != identity:
        other = _differing(FeatureIdentity.of(extractor.identity), identity)
        raise IdentityError(
            f"feature set {info.label}: {info.extractor} is another extractor now: its {other}"
            " differ; put the old one back, or make a new set with another --label"
        )
    return extractor


def _label(store: Store, extractor: Extractor, job: FeatureJob) -> str:
    """What the set of `extractor` is called: as it is already, as asked for, or by the extractor's name."""
    identity, sets = FeatureIdentity.of(extractor.identity), store.feature_sets()
    same = next((one for one in sets if one.identity == identity), None)
    if same is not None:
        if job.label not in (None, same.label):
            raise ConfigError(f"--label {job.label}: this set is there already, called {same.label}")
        return same.label
    label = job.label or _named(extractor.name)
    taken = next((one for one in sets if one.label == label), None)
    if taken is not None:
        other = _differing(identity, taken.identity)
        raise ConfigError(
            f"{label} is the label of another set of this store (its {other} differ); give --label"
        )
    require_label(label)
    return label


def _differing(one: FeatureIdentity, other: FeatureIdentity) -> str:
    fields = [
        name for name in FeatureIdentity.__dataclass_fields__ if getattr(one, name) != getattr(other, name)
    ]
    return " and ".join(_FIELDS.get(name, name) for name in fields)


def _named(name: str) -> str:
    """A label out of an extractor's name: of the catalog itself, else the last part of its path."""
    if name in EXTRACTORS:
        return name
    path = Path(name)
    stem = path.parent.name if path.name == "model.onnx" else path.name.removesuffix(".onnx")
    label = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("._-")[:64]
    if not label:
        raise ConfigError(f"{name}: makes no label; give --label")
    return label
