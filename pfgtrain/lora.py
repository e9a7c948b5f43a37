"""A LoRA of the UNet: laid on by peft, kept in a file of its own, merged in where a model is only used.

One rank and one scale hold for all its layers, so they stand in the file's header and not beside each
tensor. Names are diffusers' (`...attn2.to_q.lora_A.weight`), without peft's adapter name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pfgdata.errors import ConfigError, RunError, refused_by_system
from pfgtrain.config import toml_value

__all__ = ["LoraFile", "add_lora", "lora_header", "lora_parameters", "merge_lora", "read_lora", "unet_part"]

_NAME = "default"  # peft's name of an adapter that was given none


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraFile:
    """A LoRA as read: `state` has lora_A [r, in] and lora_B [out, r] of each layer."""

    state: dict[str, Tensor]
    r: int
    lora_alpha: float

    @property
    def modules(self) -> list[str]:
        """The layers it is laid on, by their full names."""
        return sorted({key.rsplit(".lora_", 1)[0] for key in self.state})


def unet_part(name: str, blocks: str) -> bool:
    """Whether parameter or layer `name` of a UNet is of `blocks`: all, cross_attention or up_blocks."""
    if blocks == "cross_attention":
        return ".attn2." in name
    return blocks == "all" or name.startswith("up_blocks.")


def add_lora(
    unet: Any, *, r: int, lora_alpha: float, target_modules: Sequence[str], blocks: str, seed: int
) -> None:
    """Lay a fresh LoRA on the layers of `blocks` whose names end in one of `target_modules`; only it learns.

    It begins as nothing (B is zero); A is drawn from `seed`. Raises ConfigError if no layer is meant.
    """
    ends = tuple(f".{name}" for name in target_modules)
    found = [
        name
        for name, module in unet.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and name.endswith(ends) and unet_part(name, blocks)
    ]
    if not found:
        raise ConfigError(
            f"target_modules = {toml_value(list(target_modules))} name no layer of unet_blocks ="
            f" {toml_value(blocks)}; the attention's are to_q, to_k, to_v, to_out.0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _lay_on(unet, found, r=r, lora_alpha=lora_alpha)


def lora_parameters(unet: Any) -> dict[str, nn.Parameter]:
    """The parameters of the LoRA on `unet`, by the names of its file."""
    return {
        name.replace(f".{_NAME}.", "."): parameter
        for name, parameter in unet.named_parameters()
        if ".lora_" in name
    }


def lora_header(*, r: int, lora_alpha: float, target_modules: Sequence[str]) -> dict[str, str]:
    """The metadata of a LoRA's file."""
    return {"r": str(r), "lora_alpha": str(lora_alpha), "target_modules": json.dumps(list(target_modules))}


def read_lora(path: Path) -> LoraFile:
    """The LoRA in `path`. Raises RunError if it cannot be read or is none of ours."""
    from safetensors import SafetensorError, safe_open

    try:
        path.open("rb").close()  # safetensors says of any file it cannot open that there is none
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
            header: Mapping[str, str] = file.metadata() or {}
        return LoraFile(state=state, r=int(header["r"]), lora_alpha=float(header["lora_alpha"]))
    except FileNotFoundError:
        raise RunError(f"{path}: no such LoRA file") from None
    except (OSError, SafetensorError, KeyError, ValueError) as problem:
        reason = refused_by_system(problem) or f"no LoRA of pfgtrain ({str(problem).splitlines()[0]})"
        raise RunError(f"{path}: {reason}") from None


def merge_lora(unet: Any, path: Path) -> None:
    """Add what the LoRA in `path` says to the weights of `unet`, which then is a plain UNet again.

    Raises RunError if it is of another UNet.
    """
    lora = read_lora(path)
    try:
        _lay_on(unet, lora.modules, r=lora.r, lora_alpha=lora.lora_alpha)
        own = lora_parameters(unet)
        if own.keys() != lora.state.keys():
            raise ValueError("other layers")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(lora.state[name])
    except (ValueError, RuntimeError) as problem:
        reason = str(problem).splitlines()[0]
        raise RunError(f"{path}: a LoRA of another UNet ({reason[:120]}); use the run's own base") from None
    unet.fuse_lora()
    unet.unload_lora()
    unet.requires_grad_(False)


def _lay_on(unet: Any, modules: Sequence[str], *, r: int, lora_alpha: float) -> None:
    from peft import LoraConfig

    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=r, lora_alpha=lora_alpha, target_modules=list(modules)), adapter_name=_NAME)
    for parameter in lora_parameters(unet).values():
        parameter.data = parameter.data.float()  # what learns stays float32 on a base in half precision
