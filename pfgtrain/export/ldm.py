"""Diffusers state dicts to LDM keys: what A1111 and ComfyUI call a checkpoint, in one file.

diffusers reads such files but writes none. Names that its reader keeps in tables are taken from there; then
the reader itself is run on the result, and what it does not give back, tensor for tensor, is an error: a part
that an LDM file has no place for is named and never lost in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from diffusers.loaders.single_file_utils import (
    DIFFUSERS_TO_LDM_MAPPING,
    LDM_UNET_KEY,
    LDM_VAE_KEYS,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor

from pfgdata.errors import ModelError

__all__ = ["text_encoder_to_ldm", "unet_layer_to_ldm", "unet_to_ldm", "vae_to_ldm"]

State = Mapping[str, Tensor]

_VAE_PREFIX = LDM_VAE_KEYS[0]

_PROJECTION = "text_projection.weight"  # OpenCLIP keeps it the other way round
_UNET_RESNET = {  # the reader has these inside a function
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_PLACE = re.compile(
    r"(?P<half>encoder\.|decoder\.|)(?P<side>down|up|mid)_blocks?\.(?:(?P<block>\d+)\.)?"
    r"(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<layer>\d+)\.(?P<rest>.+)"
)


def unet_to_ldm(state: State, *, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A UNet2DConditionModel's `state` under `model.diffusion_model.`; the tensors are the same objects.

    Raises ModelError naming a weight that LDM's UNet has no place for.
    """
    mapped = {LDM_UNET_KEY + _unet_key(key, config): tensor for key, tensor in state.items()}
    _require_read_back(state, convert_ldm_unet_checkpoint(dict(mapped), config), what="UNet")
    return mapped


def unet_layer_to_ldm(layer: str, *, config: Mapping[str, Any]) -> str:
    """LDM's name of a layer of the UNet."""
    return _unet_key(f"{layer}.weight", config).removesuffix(".weight")


def vae_to_ldm(state: State, *, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """An AutoencoderKL's `state` under `first_stage_model.`; the mid attention's layers as 1x1 convolutions.

    Raises ModelError naming a weight that LDM's autoencoder has no place for, or the one it needs.
    """
    if "quant_conv.weight" not in state:
        raise ModelError("the VAE has no quant_conv, which an LDM checkpoint needs; export it --as diffusers")
    blocks = len(config["up_block_types"])
    table = DIFFUSERS_TO_LDM_MAPPING["vae"]
    mapped = {}
    for key, tensor in state.items():
        is_projection = ".attentions." in key and tensor.ndim == 2
        ldm_key = table.get(key) or _vae_key(key, blocks=blocks)
        mapped[_VAE_PREFIX + ldm_key] = tensor[:, :, None, None] if is_projection else tensor
    _require_read_back(state, convert_ldm_vae_checkpoint(dict(mapped), config), what="VAE")
    return mapped


def text_encoder_to_ldm(
    state: State, *, layout: Literal["clip", "openclip"], prefix: str
) -> dict[str, Tensor]:
    """A CLIPTextModel's `state`, or that of one with a projection, in CLIP's names or in OpenCLIP's.

    OpenCLIP's 24th layer is left out, as in SD2's own diffusers folder: readers take the 23rd's output.
    Raises ModelError naming a weight that has no place.
    """
    bare = {key.removeprefix("text_model."): tensor for key, tensor in state.items()}
    bare.pop("embeddings.position_ids", None)  # a buffer of older transformers: arange, made anew by readers
    if layout == "clip":
        mapped = {f"{prefix}text_model.{key}": tensor for key, tensor in bare.items()}
        back = convert_ldm_clip_checkpoint(dict(mapped))
    else:
        mapped = {prefix + key: tensor for key, tensor in _open_clip(bare)}
        back = convert_open_clip_checkpoint(_Width(bare), dict(mapped), prefix=prefix)
    read = {key.removeprefix("text_model."): tensor for key, tensor in back.items()}
    _require_read_back(bare, read, what="text encoder")
    return mapped


def _unet_key(key: str, config: Mapping[str, Any]) -> str:
    """LDM's name of a key of the UNet: LDM counts one list through all blocks of a side."""
    tables = DIFFUSERS_TO_LDM_MAPPING["unet"]
    if named := {**tables["layers"], **tables["addition_embed_type"]}.get(key):
        return str(named)
    rows = config["layers_per_block"]
    if not isinstance(rows, int):
        raise ModelError(f"the UNet has {rows} layers in its blocks, an LDM checkpoint one number for all")
    found = _PLACE.fullmatch(key)
    if not found or found["half"]:
        return key
    kind, layer, rest = found["kind"], int(found["layer"]), found["rest"]
    if kind == "resnets":
        rest = _renamed_start(rest, _UNET_RESNET)
    if found["side"] == "mid":
        return f"middle_block.{2 * layer + (kind == 'attentions')}.{rest}"
    first = int(found["block"]) * (rows + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + rows + 1}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        index = 2 if "CrossAttn" in config["up_block_types"][int(found["block"])] else 1
        return f"output_blocks.{first + rows}.{index}.{rest}"
    index = int(kind == "attentions")
    if found["side"] == "down":
        return f"input_blocks.{first + layer + 1}.{index}.{rest}"
    return f"output_blocks.{first + layer}.{index}.{rest}"


def _vae_key(key: str, *, blocks: int) -> str:
    """LDM's name of a key inside a block; LDM counts the decoder's blocks from the picture inwards."""
    found = _PLACE.fullmatch(key)
    if not found:
        return key
    half, kind, layer, rest = found["half"], found["kind"], int(found["layer"]), found["rest"]
    if kind == "attentions":
        return f"{half}mid.attn_{layer + 1}.{_renamed_start(rest, _VAE_ATTENTION)}"
    rest = _renamed_start(rest, {"conv_shortcut": "nin_shortcut"})
    if found["side"] == "mid":
        return f"{half}mid.block_{layer + 1}.{rest}"
    block = int(found["block"])
    if found["side"] == "up":
        block = blocks - 1 - block
    names = {"resnets": f"block.{layer}", "downsamplers": "downsample", "upsamplers": "upsample"}
    return f"{half}{found['side']}.{block}.{names[kind]}.{rest}"


def _open_clip(bare: State) -> Iterator[tuple[str, Tensor]]:
    """The keys and tensors of OpenCLIP's text transformer; query, key and value are one `in_proj`."""
    tables = DIFFUSERS_TO_LDM_MAPPING["openclip"]
    layers = {old.removeprefix("text_model."): new for old, new in tables["layers"].items()}
    for key, tensor in bare.items():
        if key in layers:
            yield layers[key], tensor.T.contiguous() if key == _PROJECTION else tensor
            continue
        ldm_key = "text_model." + key
        for theirs, ldm in tables["transformer"].items():
            ldm_key = ldm_key.replace(theirs, ldm)
        ldm_key = f"transformer.{ldm_key}"
        if ".q_proj." in key:
            merged = torch.cat([bare[key.replace(".q_proj.", f".{name}_proj.")] for name in "qkv"])
            yield ldm_key.replace(".q_proj.", ".in_proj_"), merged
        elif ".k_proj." not in key and ".v_proj." not in key:
            yield ldm_key, tensor


def _renamed_start(rest: str, names: Mapping[str, str]) -> str:
    """`rest` with the layer it begins with renamed."""
    for old, new in names.items():
        if rest.startswith(f"{old}."):
            return new + rest.removeprefix(old)
    return rest


class _Width:
    """What the reader asks of a text encoder: the width at which `in_proj` is cut in three."""

    def __init__(self, bare: State) -> None:
        self.config = self
        self.hidden_size = bare["final_layer_norm.weight"].shape[0]


def _require_read_back(state: State, back: State, *, what: str) -> None:
    """Raise ModelError unless diffusers' reader gives `state` back, tensor for tensor."""
    lost = sorted(key for key in state if key not in back)
    lost += sorted(key for key in back if key not in state)
    lost = lost or sorted(key for key, tensor in state.items() if not _same(tensor, back[key]))
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ModelError(
            f"an LDM checkpoint has no place for {lost[0]}{more} of the {what}; export it --as diffusers"
        )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether the values are equal, or the memory is one."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.is_meta or one.data_ptr() == other.data_ptr() or torch.equal(one, other)
