"""All that makes pictures, loaded once: from a run's newest checkpoint, or from published weights on a base.

Another tagger or preprocessing than the weights were made with is refused: its features mean something else,
though they may be as wide.

Shapes: B pictures, F feature width, V tags.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from PIL import Image
from torch import Tensor

from pfgdata.conventions import Convention
from pfgdata.errors import ConfigError, IdentityError
from pfgdata.images import square
from pfgdata.records import NoProgress, Progress, TaggerIdentity, during, during_one
from pfgdata.store import require_same_tagger
from pfgdata.taggers import DEFAULT_TAGGER, OnnxTagger, Tagger
from pfgdata.vaes import base_geometry, state_digest
from pfgtrain.adapter import PFGAdapter, Uncond, load_adapter
from pfgtrain.base import (
    Base,
    EmptyPrompt,
    empty_row,
    encode_prompts,
    onnx_device,
    placement,
    require_same_base,
)
from pfgtrain.checkpoint import ADAPTER_FILE, RunRecord, find_checkpoint, weights_folder
from pfgtrain.condition import Condition
from pfgtrain.generate.beside import facts_beside
from pfgtrain.generate.job import CheckpointJob
from pfgtrain.generate.memory import room_for
from pfgtrain.generate.options import GenerateOptions
from pfgtrain.generate.pipeline import PFGPipeline, Scene, paint, pipeline_of

__all__ = ["PUBLISHED_PREPROCESS", "PFGModel", "load_adapter_on_base", "load_run"]

PUBLISHED_PREPROCESS = (
    "webui"  # the squares of pfg-webui and pfg-ComfyUI, which published weights are used with
)

_KEPT_TEXTS = 8  # prompts and negative prompts: 0.2 MB each of SD1, 0.6 of SDXL


@dataclass(frozen=True, slots=True, kw_only=True)
class PFGModel:
    """All that makes pictures, loaded once: the pipeline, its tagger, and what the run fixed."""

    pipeline: PFGPipeline
    base: Base
    tagger: Tagger
    prompt: str
    text_layer: int  # hidden layer of the text encoder that is read
    uncond: Uncond
    empty_prompt: EmptyPrompt
    resolution: int  # pixels, a side
    origin: dict[str, Any]  # of the weights, for the pictures' metadata; equal weights, equal origin
    _texts: dict[str, Condition] = field(default_factory=dict)  # text -> its one row

    @property
    def has_tokens(self) -> bool:
        """Whether a guide is told at all: a run with num_tokens = 0 knows texts alone."""
        return self.pipeline.adapter is not None

    @property
    def untrained(self) -> tuple[str, ...]:
        """The parts whose weights are from a fixed seed, in words."""
        named = {f"base {self.base.name}": self.base, f"tagger {self.tagger.identity.name}": self.tagger}
        return tuple(words for words, part in named.items() if getattr(part, "untrained", False))

    def look(self, pixels: Any) -> tuple[npt.NDArray[np.float32], Tensor]:
        """What the tagger sees in one decoded image, uint8 [H, W, 3 or 4].

        Scores [V] of its vocabulary, and the feature [F], float32 on the CPU.
        """
        image = square(pixels, preprocess=self.tagger.identity.preprocess, size=self.tagger.image_size)
        scores, features = self.tagger.predict(image[None])
        return scores[0], torch.from_numpy(features[0]).float()

    def feature(self, pixels: Any) -> Tensor:
        """The feature [F] of one decoded image, as `look` sees it."""
        return self.look(pixels)[1]

    def size(self, options: GenerateOptions) -> tuple[int, int]:
        """(width, height) of the pictures. Raises ConfigError naming the step if the UNet cannot make it."""
        width, height = (
            self.resolution if side is None else side for side in (options.width, options.height)
        )
        step = self.step
        if any(side < step or side % step for side in (width, height)):
            raise ConfigError(
                f"size {width}x{height}: sides of base {self.base.name} are multiples of {step}"
            )
        return width, height

    @property
    def step(self) -> int:
        """Of what the sides of a picture are multiples, in pixels."""
        return math.lcm(base_geometry(self.base.folder).step, 8)  # diffusers asks for a multiple of 8

    def texts(self, *texts: str, progress: Progress) -> tuple[Condition, ...]:
        """The one row of each text, encoded once; the last few are kept, however many a page asks for."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            rows = encode_prompts(self.base, new, text_layer=self.text_layer, progress=progress)
            self._texts.update(zip(new, rows.split(), strict=True))
            others = [text for text in self._texts if text not in texts]
            for text in others[: max(0, len(self._texts) - _KEPT_TEXTS)]:
                del self._texts[text]
        return tuple(self._texts[text] for text in texts)

    def paint(
        self,
        features_BF: Tensor | None,
        *,
        seeds: Sequence[int],
        options: GenerateOptions,
        progress: Progress | None = None,
    ) -> list[Image.Image]:
        """A picture for each of the B seeds; features [B, F], or None for pictures without tokens."""
        progress = progress or NoProgress()
        prompt = self.prompt if options.prompt is None else options.prompt
        asked, negative = self.texts(prompt, options.negative_prompt, progress=progress)
        if not options.negative_prompt:
            negative = empty_row(negative, self.empty_prompt)
        scene = Scene(
            prompt=asked, negative=negative, uncond=options.uncond or self.uncond, size=self.size(options)
        )
        return paint(self.pipeline, features_BF, scene, seeds=seeds, options=options, progress=progress)


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
    weights = weights_folder(chosen, record, ema=not which.no_ema, progress=progress)
    tagger = tagger or _tagger_of(record.tagger, device=device, progress=progress)
    require_same_tagger(record.tagger, tagger.identity, where=f"run {run_dir}")
    base = base or Base.load(record.base_name, revision=record.base_revision, progress=progress)
    require_same_base(base, record, where=f"run {run_dir}")
    return _assemble(
        replace(base, prediction_type=record.prediction_type, device=where, dtype=dtype),
        tagger,
        _Weights(
            folder=weights,
            adapter=weights / ADAPTER_FILE if record.num_tokens else None,
            num_tokens=record.num_tokens,
            vae_digest=record.vae_digest,
            origin={"weights": chosen.name, "ema": weights != chosen},
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
    progress: Progress | None = None,
) -> PFGModel:
    """The model of published two-key weights on a base, trained as the .json that export wrote beside says.

    Without one the tagger is assumed, and an empty prompt and the pad `zeros` where the options of `generate`
    say nothing; `progress` is told. Raises IdentityError or RunError for what contradicts the .json.
    """
    where, dtype = placement(device)
    progress = progress or NoProgress()
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
            origin={"weights": adapter_file.name},
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
        origin={
            "adapter": blake3(weights.adapter.read_bytes()).hexdigest()[:12] if weights.adapter else None,
            "num_tokens": adapter.num_tokens if adapter else 0,
            "unet": replace(base, overlays=overlays).fingerprint,
            "vae": (weights.vae_digest or state_digest(vae.state_dict()))[:12],
            **weights.origin,
        },
        **fixed,
    )


def _adapter(weights: _Weights, base: Base, tagger: Tagger) -> PFGAdapter:
    assert weights.adapter is not None
    adapter = load_adapter(
        weights.adapter, cross_attention_dim=base.cross_attention_dim, num_tokens=weights.num_tokens
    )
    if adapter.feature_dim != tagger.feature_dim:
        raise IdentityError(
            f"{weights.adapter}: made for features {adapter.feature_dim} wide, tagger {tagger.identity.name}"
            f" gives {tagger.feature_dim}; name the tagger it was trained with"
        )
    return adapter.to(base.device).eval()
