"""Whole models: one checkpoint in LDM keys, the UNet of it alone, a diffusers folder.

`dtype` is of the UNet, and of all of a checkpoint. In a diffusers folder VAE and text encoder stay float32:
the digest that ties latents to a VAE is of float32, and diffusers 0.42 loads a float16 text encoder as it is
beside a UNet that it makes float32, which then cannot be called (tried, transformers 5.23).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pfgdata.errors import RunError
from pfgdata.hub import write_tensors
from pfgtrain.base import Base
from pfgtrain.checkpoint import ADAPTER_FILE
from pfgtrain.export.adapters import adapter_facts, write_json
from pfgtrain.export.ldm import text_encoder_to_ldm, unet_to_ldm, vae_to_ldm
from pfgtrain.export.ldm_config import ldm_config, yaml_text
from pfgtrain.export.plan import ExportPlan

__all__ = ["Model", "limits", "write_checkpoint", "write_diffusers", "write_unet"]

State = dict[str, Tensor]

_MARKER = "UNTRAINED"  # in the folder of a base whose weights are from a fixed seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A run's base with what the run has learned of the UNet in place, in `dtype`."""

    base: Base
    unet: State
    unet_config: dict[str, Any]
    dtype: torch.dtype

    @classmethod
    def load(cls, base: Base, plan: ExportPlan, *, dtype: torch.dtype) -> Model:
        """Lay the checkpoint's weights over the base's in float32, then cast. Raises RunError on overflow."""
        unet = base.load_unet(weights=plan.weights, dtype=torch.float32)
        state = _cast(unet, dtype, what="UNet")
        return cls(base=base, unet=state, unet_config=_portable(unet.config), dtype=dtype)

    def ldm_unet(self) -> State:
        """The UNet in LDM keys."""
        return unet_to_ldm(self.unet, config=self.unet_config)


def limits(model: Model, plan: ExportPlan) -> Iterator[str]:
    """What a reader of the files cannot know of this model, or must be told, a line each."""
    ldm, layer, layers = plan.family.ldm, plan.record.text_layer, model.base.text_layers
    cut = _cut(plan, model.base)
    if cut and "diffusers" in plan.formats:
        yield (
            f"{plan.name}-diffusers: its text encoder ends after layer {layer} of {layers},"
            " where the run read it"
        )
    if not set(plan.formats) & {"checkpoint", "unet"}:
        return
    if tuple(model.unet_config["block_out_channels"]) != ldm.channels:
        yield "web UIs know no UNet of this size; diffusers reads it by from_single_file(..., config=BASE)"
    if cut:
        advice = f"A1111 cannot for {plan.family.facts.title}"
        if ldm.has_clip_skip:
            advice = f"set Clip skip to {layers + 1 - layer} in web UIs"
        yield f"texts were read at layer {layer} of {layers}: {advice}"
    yield from _told_of_noise(plan, model.base.scheduler_config)


def _told_of_noise(plan: ExportPlan, scheduler: Mapping[str, Any]) -> Iterator[str]:
    """How web UIs learn what the UNet predicts, and that its noise ends at zero SNR."""
    if plan.family.ldm.markers:
        if marked := " and ".join(_markers(plan, scheduler)):
            yield f"the file says what its UNet predicts by {marked}; ComfyUI and Forge read that"
        return
    if plan.record.prediction_type == "v_prediction":
        if "checkpoint" in plan.formats:
            yield "v-prediction: keep the .yaml beside the checkpoint, A1111 reads it"
        yield "v-prediction: in ComfyUI put the node ModelSamplingDiscrete, v_prediction, behind the loader"
    if scheduler.get("rescale_betas_zero_snr"):
        yield "the base's noise ends at zero SNR: choose that noise schedule in the web UI"


def _cut(plan: ExportPlan, base: Base) -> int:
    """How many more of the last layers of its texts the run left unread than bases of its family do."""
    usual = plan.family.clip_skip or 1
    return base.text_layers + 1 - usual - plan.record.text_layer


def write_checkpoint(folder: Path, plan: ExportPlan, model: Model) -> None:
    """Write UNet, VAE and text encoders as one file, and the .yaml beside it where one is needed."""
    base, facts, ldm = model.base, plan.family.facts, plan.family.ldm
    vae = base.load_vae(digest=plan.record.vae_digest)
    state = {
        **model.ldm_unet(),
        **vae_to_ldm(_cast(vae, model.dtype, what="VAE"), config=vae.config),
        **_markers(plan, base.scheduler_config),
    }
    for part, layout in zip(facts.text_encoders, ldm.text_layouts, strict=True):
        text = _cast(base.load_text_encoder(part), model.dtype, what=part)
        state |= text_encoder_to_ldm(text, layout=layout, prefix=facts.prefixes[part][0])
    file, *more = plan.names_of("checkpoint")
    write_tensors(folder / file, state, header=_header(plan))
    for name in more:
        assert ldm.text_config is not None, "asked by needs_yaml"
        config = ldm_config(
            unet=model.unet_config,
            vae=vae.config,
            scheduler=base.scheduler_config,
            text_encoder=ldm.text_config,
            prediction_type=plan.record.prediction_type,
            scaling_factor=plan.record.scaling_factor,
        )
        (folder / name).write_text(yaml_text(config), encoding="utf-8")


def write_unet(folder: Path, plan: ExportPlan, model: Model) -> None:
    """Write the UNet alone in LDM keys, under the prefix that ComfyUI takes off and diffusers asks for."""
    (name,) = plan.names_of("unet")
    state = {**model.ldm_unet(), **_markers(plan, model.base.scheduler_config)}
    write_tensors(folder / name, state, header=_header(plan))


def write_diffusers(folder: Path, plan: ExportPlan, model: Model) -> None:
    """Write all parts as a folder for plain diffusers, which is a base for pfgtrain too; `adapter/` beside.

    The index does not name the adapter: a class that diffusers cannot import would stop it from loading. Text
    encoders are cut so that its pipeline reads the layer that the run read.
    """
    (name,) = plan.names_of("diffusers")
    base, top, facts = model.base, folder / name, plan.family.facts
    top.mkdir()
    vae = base.load_vae(digest=plan.record.vae_digest)
    _write_part(top / "unet", model.unet, model.unet_config)
    _write_part(top / "vae", vae.state_dict(), _portable(vae.config))
    for part in facts.text_encoders:
        _write_text_encoder(top / part, base.load_text_encoder(part), cut=_cut(plan, base))
    for part in facts.tokenizers:
        _copy_tokenizer(base.folder / part, top / part)
    (top / "scheduler").mkdir()
    scheduler = _portable(base.scheduler_config)
    write_json(top / "scheduler" / "scheduler_config.json", scheduler)
    write_json(top / "model_index.json", _index(plan, scheduler))
    if base.untrained:
        (top / _MARKER).write_text((base.folder / _MARKER).read_text())
    if plan.record.num_tokens:
        (top / "adapter").mkdir()
        shutil.copyfile(plan.weights / ADAPTER_FILE, top / "adapter" / ADAPTER_FILE)
        write_json(top / "adapter" / "config.json", adapter_facts(plan))


def _index(plan: ExportPlan, scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """The model_index.json: which class each part is of, as plain diffusers imports it."""
    facts, (pipeline, _) = plan.family.facts, plan.family.pipeline()
    text = {
        part: f"CLIPTextModel{'WithProjection' * (part in facts.projects)}" for part in facts.text_encoders
    }
    classes = {
        "vae": ["diffusers", "AutoencoderKL"],
        **{part: ["transformers", kind] for part, kind in text.items()},
        **{part: ["transformers", "CLIPTokenizer"] for part in facts.tokenizers},
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
    }
    left_out = {part: [None, None] for part in pipeline._optional_components if part not in classes}
    config = plan.family.pipeline_config(zeros=plan.record.empty_prompt == "zeros")
    return {"_class_name": pipeline.__name__, **classes, **left_out, **config}


def _markers(plan: ExportPlan, scheduler: Mapping[str, Any]) -> State:
    """The empty tensors by which a file of the family says what else it could not say."""
    if not plan.family.ldm.markers or plan.record.prediction_type != "v_prediction":
        return {}
    ends_in_noise = bool(scheduler.get("rescale_betas_zero_snr"))
    return {name: torch.zeros(0) for name in ("v_pred", *["ztsnr"] * ends_in_noise)}


def _header(plan: ExportPlan) -> dict[str, str]:
    is_v = plan.record.prediction_type == "v_prediction"
    return {
        "format": "pt",
        "modelspec.architecture": plan.architecture,
        "modelspec.prediction_type": "v" if is_v else "epsilon",
        "modelspec.title": plan.name,
    }


def _write_part(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    folder.mkdir()
    write_tensors(folder / "diffusion_pytorch_model.safetensors", state, header={"format": "pt"})
    write_json(folder / "config.json", config)


def _copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the bytes of its files; their modes may be those of a cache that nobody else may read."""
    folder.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


def _write_text_encoder(folder: Path, text_encoder: Any, *, cut: int) -> None:
    """Write all but the last `cut` layers, with the `text_model.` that transformers before 5.6 asks for."""
    folder.mkdir()
    layers = text_encoder.config.num_hidden_layers - cut
    behind = tuple(f"encoder.layers.{n}." for n in range(layers, layers + cut))
    bare = {key.removeprefix("text_model."): tensor for key, tensor in text_encoder.state_dict().items()}
    state = {
        key if key.startswith("text_projection.") else f"text_model.{key}": tensor
        for key, tensor in bare.items()
        if not key.startswith(behind)
    }
    write_tensors(folder / "model.safetensors", state, header={"format": "pt"})
    config = {**_portable(text_encoder.config.to_dict()), "num_hidden_layers": layers, "dtype": "float32"}
    write_json(folder / "config.json", {**config, "architectures": [type(text_encoder).__name__]})


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A part's config as JSON holds it, without the folder that it was loaded from."""
    return json.loads(json.dumps({key: value for key, value in config.items() if key != "_name_or_path"}))


def _cast(part: Any, dtype: torch.dtype, *, what: str) -> State:
    """The weights of `part` in `dtype`, cast one by one in place. Raises RunError if one is not finite."""
    for parameter in part.parameters():
        parameter.data = parameter.data.to(dtype)
    state = part.state_dict()
    for key, tensor in state.items():
        if not tensor.isfinite().all():
            advice = "export with --dtype float32" if dtype == torch.float16 else "take another checkpoint"
            kind = str(dtype).removeprefix("torch.")
            raise RunError(f"the {what}'s {key} is not finite in {kind}; {advice}")
    return state
