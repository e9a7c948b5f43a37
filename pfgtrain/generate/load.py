"""A model out of a run's newest checkpoint, or out of published weights on a base.

Another tagger or preprocessing than the weights were made with is refused: its features mean something else,
though they may be as wide.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from pfgdata.conventions import Convention
from pfgdata.errors import IdentityError
from pfgdata.records import NoProgress, Progress, TaggerIdentity, during, during_one, shown
from pfgdata.store import require_same_tagger
from pfgdata.taggers import DEFAULT_TAGGER, OnnxTagger, Tagger
from pfgdata.vaes import base_geometry, state_digest
from pfgtrain.adapter import PFGAdapter, load_adapter
from pfgtrain.base import Base, onnx_device, placement, require_same_base
from pfgtrain.checkpoint import ADAPTER_FILE, RunRecord, find_checkpoint, weights_folder
from pfgtrain.config import FeaturePlan, numbers_of
from pfgtrain.generate.beside import facts_beside
from pfgtrain.generate.features import FeatureReader
from pfgtrain.generate.job import CheckpointJob
from pfgtrain.generate.memory import room_for
from pfgtrain.generate.model import PFGModel
from pfgtrain.generate.pipeline import pipeline_of

__all__ = ["PUBLISHED_PREPROCESS", "load_adapter_on_base", "load_run"]

PUBLISHED_PREPROCESS = (
    "webui"  # the squares of pfg-webui and pfg-ComfyUI, which published weights are used with
)


def load_run(
    run_dir: Path,
    *,
    base: Base | None = None,
    tagger: Tagger | None = None,
    device: str | None = None,
    which: CheckpointJob | None = None,
    progress: Progress | None = None,
) -> PFGModel:
    """The model of a run's checkpoint, `which` (the latest by default), its moving average if it has one.

    `base` and `tagger` stand in if the recorded ones have moved. Raises RunError if there is no complete
    checkpoint, IdentityError if tagger, base or VAE is another, ConfigError if the device is not here.
    """
    where, dtype = placement(device)
    progress = progress or NoProgress()
    which = which or CheckpointJob()
    record, chosen = RunRecord.read(run_dir), find_checkpoint(run_dir, which.checkpoint)
    plan = record.features_read
    scales = numbers_of(which.feature_scale, plan.names, key="feature_scale", default=1.0)
    weights = weights_folder(chosen, record, ema=not which.no_ema, progress=progress)
    tagger = tagger or _tagger_of(record.tagger, device=device, progress=progress)
    require_same_tagger(record.tagger, tagger.identity, where=f"run {run_dir}")
    base = base or Base.load(record.base_name, revision=record.base_revision, progress=progress)
    require_same_base(base, record, where=f"run {run_dir}")
    reader = FeatureReader.load(
        plan, which, store=record.store_path, device=onnx_device(device), progress=progress
    )
    return _assemble(
        replace(base, prediction_type=record.prediction_type, device=where, dtype=dtype),
        tagger,
        _Weights(
            folder=weights,
            adapter=weights / ADAPTER_FILE if record.num_tokens else None,
            num_tokens=record.num_tokens,
            reader=reader,
            scales=scales,
            vae_digest=record.vae_digest,
            origin={"weights": chosen.name, "ema": weights != chosen, **_told(reader, which)},
        ),
        {
            "prompt": record.prompt,
            "text_layer": record.text_layer,
            "uncond": record.uncond,
            "empty_prompt": record.empty_prompt,
            "resolution": record.resolution,
        },
        progress=progress,
    )


def load_adapter_on_base(
    adapter_file: Path,
    base: Base,
    *,
    tagger: Tagger | None = None,
    device: str | None = None,
    which: CheckpointJob | None = None,
    progress: Progress | None = None,
) -> PFGModel:
    """The model of published two-key weights on a base, trained as the .json that export wrote beside says.

    Without one the tagger is assumed, and an empty prompt and the pad `zeros` where the options of `generate`
    say nothing; `progress` is told. Raises IdentityError or RunError for what contradicts the .json.
    """
    where, dtype = placement(device)
    progress = progress or NoProgress()
    which = which or CheckpointJob()
    assumed = "" if tagger else " (assumed)"
    facts = facts_beside(adapter_file)
    tagger = tagger or _tagger_of(facts["tagger"] if facts else None, device=device, progress=progress)
    if facts:
        _require_as_trained(facts, base, tagger.identity, where=f"adapter {adapter_file}")
        progress.say(f"{adapter_file.name} is used as its .json says; the prompt was: {facts['prompt']}")
    else:
        identity = tagger.identity
        progress.say(
            f"{adapter_file.name} does not record its training: tagger {identity.name}{assumed},"
            f" preprocessing {identity.preprocess}; where no option says otherwise, assumed: an empty prompt,"
            " the pad zeros (the article's weights: --uncond eos)"
        )
    plan = FeaturePlan.of_tagger(feature_dim=tagger.feature_dim, num_tokens=0)
    plan = (facts["features"] if facts else None) or plan
    reader = FeatureReader.load(plan, which, store=None, device=onnx_device(device), progress=progress)
    fixed = {
        "prompt": "",
        "text_layer": base.text_layer,
        "uncond": "zeros",
        "empty_prompt": "encoded",
        "resolution": base_geometry(base.folder).resolution,
    }
    return _assemble(
        replace(base, device=where, dtype=dtype),
        tagger,
        _Weights(
            adapter=adapter_file,
            num_tokens=facts["num_tokens"] if facts else None,
            reader=reader,
            scales=numbers_of(which.feature_scale, plan.names, key="feature_scale", default=1.0),
            origin={"weights": shown(os.fsencode(adapter_file.name)), **_told(reader, which)},
        ),
        {name: facts[name] for name in fixed} if facts else fixed,
        progress=progress,
    )


def _tagger_of(known: TaggerIdentity | None, *, device: str | None, progress: Progress) -> Tagger:
    """The tagger on record, else the one that published weights are used with."""
    name, preprocess, revision = DEFAULT_TAGGER, PUBLISHED_PREPROCESS, None
    if known is not None:
        name, preprocess, revision = known.name, known.preprocess, known.revision
    how = Convention.of(preprocess)  # not as files beside the model say since
    with during_one(progress, "load", unit="taggers"):
        return OnnxTagger.load(name, preprocess=how, revision=revision, device=onnx_device(device))


def _require_as_trained(facts: dict[str, Any], base: Base, tagger: TaggerIdentity, *, where: str) -> None:
    """Raise IdentityError unless tagger and base are of the kinds that an adapter was trained with."""
    require_same_tagger(facts["tagger"], tagger, where=where)
    if facts["prediction_type"] != base.prediction_type:
        raise IdentityError(
            f"{where} learned with a base that predicts {facts['prediction_type']}, {base.name} predicts"
            f" {base.prediction_type}; use the base it was trained on, or say --prediction-type"
        )
    if facts["text_layer"] > base.text_layers:
        raise IdentityError(
            f"{where} read layer {facts['text_layer']} of its texts, base {base.name} has {base.text_layers};"
            " use the base it was trained on"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """The files laid over a base."""

    adapter: Path | None
    reader: FeatureReader
    scales: tuple[float, ...]  # of each adapter's tokens
    origin: dict[str, Any]  # what the pictures' metadata call them
    folder: Path | None = None  # of a run's checkpoint
    num_tokens: int | None = None  # that the adapter must make; None: any number
    vae_digest: str | None = None  # that the base's VAE must have; None: any


def _assemble(
    base: Base, tagger: Tagger, weights: _Weights, fixed: dict[str, Any], *, progress: Progress
) -> PFGModel:
    """Load all but the text models; `fixed` are the model's fields that a run fixes.

    Raises IdentityError if adapter and tagger differ in width.
    """
    adapter = _adapter(weights, base, tagger) if weights.adapter else None
    with during(progress, "load", total=2, unit="models"), room_for(0):
        vae = base.load_vae(digest=weights.vae_digest)
        progress.advance()
        unet = base.load_unet(weights=weights.folder)
        progress.advance()
    vae.enable_slicing()  # decode pictures one by one: less memory, and the same bytes in any batch
    overlays = (*base.overlays, *([weights.folder] if weights.folder else []))
    return PFGModel(
        pipeline=pipeline_of(base, unet=unet, vae=vae, adapter=adapter),
        base=base,
        tagger=tagger,
        reader=weights.reader,
        origin={
            "adapter": blake3(weights.adapter.read_bytes()).hexdigest()[:12] if weights.adapter else None,
            "num_tokens": adapter.num_tokens if adapter else 0,
            "unet": replace(base, overlays=overlays).fingerprint,
            "vae": (weights.vae_digest or state_digest(vae.state_dict()))[:12],
            **weights.origin,
        },
        **fixed,
    )


def _told(reader: FeatureReader, which: CheckpointJob) -> dict[str, Any]:
    """What pictures' metadata say of what several adapters read; nothing of the tagger's alone."""
    told = {} if reader.plan.is_tagger_alone else {"features": reader.plan.text}
    return {**told, **({"feature_scale": which.feature_scale} if which.feature_scale else {})}


def _adapter(weights: _Weights, base: Base, tagger: Tagger) -> PFGAdapter:
    """The adapter on the device. Raises IdentityError if it is for features of another width."""
    assert weights.adapter is not None
    adapter = load_adapter(
        weights.adapter, cross_attention_dim=base.cross_attention_dim, num_tokens=weights.num_tokens
    )
    plan = weights.reader.plan
    if plan.is_tagger_alone and adapter.feature_dim != tagger.feature_dim:
        raise IdentityError(
            f"{weights.adapter}: made for features {adapter.feature_dim} wide, tagger {tagger.identity.name}"
            f" gives {tagger.feature_dim}; name the tagger it was trained with"
        )
    if not plan.is_tagger_alone and adapter.groups != tuple(one.num_tokens for one in plan.adapters):
        raise IdentityError(f"{weights.adapter}: is not of the adapters {plan.text} on record; copy it back")
    adapter.scales = weights.scales
    if weights.reader.allow_missing:
        adapter.let_lack()
    return adapter.to(base.device).eval()
