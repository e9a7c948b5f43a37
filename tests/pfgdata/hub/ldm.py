"""The oracle: a diffusers folder as one checkpoint by the LDM code's names, block by block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

Tensors = dict[str, torch.Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_MID_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def ldm_tensors(folder: Path, *, open_clip: bool = False) -> Tensors:
    """All parts of `folder`; one text encoder as SD2's OpenCLIP or SD1's CLIP, two as SDXL's."""
    unet = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder/model.safetensors")
    written = {f"model.diffusion_model.{name}": value for name, value in _unet(unet).items()}
    written |= {f"first_stage_model.{name}": value for name, value in _vae(vae).items()}
    if (folder / "text_encoder_2").is_dir():
        second = load_file(folder / "text_encoder_2/model.safetensors")
        bare = {name.removeprefix("text_model."): value for name, value in second.items()}
        prefix = "conditioner.embedders"
        written |= {f"{prefix}.0.transformer.text_model.{n}": v for n, v in text.items()}
        return written | {f"{prefix}.1.model.{n}": v for n, v in _open_clip(bare).items()}
    if open_clip:
        return written | {f"cond_stage_model.model.{n}": v for n, v in _open_clip(text).items()}
    return written | {f"cond_stage_model.transformer.text_model.{n}": v for n, v in text.items()}


def _unet(weights: Tensors) -> Tensors:
    per_block = 1 + max(int(n.split(".")[3]) for n in weights if n.startswith("down_blocks.0.resnets"))
    written = {}
    for name, value in weights.items():
        group, *rest = name.split(".")
        if group in ("down_blocks", "up_blocks"):
            block, kind, index, inner = int(rest[0]), rest[1], int(rest[2]), ".".join(rest[3:])
            place = _unet_place(weights, group, block, kind, index, per_block)
        elif group == "mid_block":
            kind, index, inner = rest[0], int(rest[1]), ".".join(rest[2:])
            place = f"middle_block.{1 if kind == 'attentions' else 2 * index}"
        else:
            stem, _, end = name.rpartition(".")
            written[f"{UNET_ENDS[stem]}.{end}"] = value
            continue
        if kind == "resnets":
            stem, _, end = inner.partition(".")
            inner = f"{RESNET[stem]}.{end}"
        if kind == "downsamplers":
            inner = inner.replace("conv", "op")
        written[f"{place}.{inner}"] = value
    return written


def _unet_place(weights: Tensors, group: str, block: int, kind: str, index: int, per_block: int) -> str:
    """Blocks are numbered on through all levels; a level's downsampler is a block of its own."""
    if group == "down_blocks":
        number = 1 + block * (per_block + 1) + (per_block if kind == "downsamplers" else index)
        return f"input_blocks.{number}.{1 if kind == 'attentions' else 0}"
    last = per_block  # of the per_block + 1 resnets of an up level
    number = block * (per_block + 1) + (last if kind == "upsamplers" else index)
    attends = any(n.startswith(f"up_blocks.{block}.attentions.") for n in weights)
    within = {"resnets": 0, "attentions": 1, "upsamplers": 2 if attends else 1}[kind]
    return f"output_blocks.{number}.{within}"


def _vae(weights: Tensors) -> Tensors:
    levels = 1 + max(int(n.split(".")[2]) for n in weights if n.startswith("encoder.down_blocks"))
    written = {}
    for name, value in weights.items():
        side, _, inner = name.partition(".")
        if inner.startswith("mid_block.attentions.0"):
            stem, _, end = inner.removeprefix("mid_block.attentions.0.").rpartition(".")
            inner = f"mid.attn_1.{VAE_MID_ATTENTION[stem]}.{end}"
            value = value[:, :, None, None] if value.ndim == 2 else value  # LDM's are 1 x 1 convolutions
        elif inner.startswith("mid_block.resnets"):
            index, _, end = inner.removeprefix("mid_block.resnets.").partition(".")
            inner = f"mid.block_{int(index) + 1}.{end}"
        elif inner.startswith(("down_blocks", "up_blocks")):
            group, block, kind, index, end = inner.split(".", 4)
            level = int(block) if group == "down_blocks" else levels - 1 - int(block)
            way = group.removesuffix("_blocks")
            where = f"block.{index}" if kind == "resnets" else f"{way}sample"
            inner = f"{way}.{level}.{where}.{end.replace('conv_shortcut', 'nin_shortcut')}"
        else:
            inner = inner.replace("conv_norm_out", "norm_out")
        written[f"{side}.{inner}"] = value.contiguous()
    return written


def _open_clip(weights: Tensors) -> Tensors:
    written = {
        "positional_embedding": weights["embeddings.position_embedding.weight"],
        "token_embedding.weight": weights["embeddings.token_embedding.weight"],
        "ln_final.weight": weights["final_layer_norm.weight"],
        "ln_final.bias": weights["final_layer_norm.bias"],
        "text_projection": weights.get(
            "text_projection.weight", torch.eye(len(weights["final_layer_norm.bias"]))
        ).T.contiguous(),
        "logit_scale": torch.tensor(4.6),
    }
    join: Callable[[str], torch.Tensor] = lambda name: torch.cat(  # noqa: E731
        [weights[name.replace("*", letter)] for letter in "qkv"]
    )
    for name, value in weights.items():
        if name.startswith("encoder.layers."):
            layer, inner = name.removeprefix("encoder.layers.").split(".", 1)
            stem, _, end = inner.rpartition(".")
            place = f"transformer.resblocks.{layer}"
            if stem in OPEN_CLIP:
                written[f"{place}.{OPEN_CLIP[stem]}.{end}"] = value
            else:
                written[f"{place}.attn.in_proj_{end}"] = join(
                    f"encoder.layers.{layer}.self_attn.*_proj.{end}"
                )
    return written
