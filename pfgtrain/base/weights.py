"""Weights read with care: a run's laid over a base's, those that tell bases apart, one error for all."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3

from pfgdata.errors import ModelError, RunError, refused_by_system
from pfgdata.vaes import weights_options
from pfgtrain.adapter import read_tensors
from pfgtrain.base.configs import NOISE
from pfgtrain.checkpoint import LORA_FILE, UNET_FILE, saved_digests
from pfgtrain.lora import merge_lora

__all__ = ["fingerprint", "lay_over", "or_model_error"]

_TELLING = {  # weights that a fine-tune of the part moves, by the ends of their names
    "unet": ("conv_in.weight", "conv_out.weight", "attn1.to_q.weight", "attn2.to_k.weight"),
    "text_encoder": ("final_layer_norm.weight", "self_attn.q_proj.weight"),
    "text_encoder_2": ("final_layer_norm.weight", "self_attn.q_proj.weight"),
}


def fingerprint(folder: Path, schedule: Mapping[str, Any], overlays: Sequence[Path] = ()) -> str:
    """Twelve hex digits that tell bases apart: of telling weights, the noise schedule, all of `overlays`.

    A float16 copy has those of the original.
    """
    hasher = blake3(repr([(key, schedule.get(key)) for key in NOISE]).encode())
    for part, ends in _TELLING.items():
        for name, values in _telling(folder / part, ends):
            hasher.update(
                name.removeprefix("text_model.").encode() + values.half().contiguous().numpy().tobytes()
            )
    for overlay in overlays:
        hasher.update(" ".join(saved_digests(overlay)).encode())
    return hasher.hexdigest()[:12]


def lay_over(unet: Any, folder: Path) -> None:
    """Put the weights that a run's checkpoint holds in place of the UNet's own."""
    path = folder / UNET_FILE
    if path.is_file():
        try:
            unknown = unet.load_state_dict(read_tensors(path), strict=False).unexpected_keys
        except RuntimeError as problem:
            unknown = [str(problem).splitlines()[-1].strip()]
        if unknown:
            raise RunError(f"{path}: of another UNet ({unknown[0][:120]}); use the run's own base")
    if (folder / LORA_FILE).is_file():
        merge_lora(unet, folder / LORA_FILE)


def _telling(folder: Path, ends: tuple[str, ...]) -> list[tuple[str, torch.Tensor]]:
    """The weights in `folder` whose names end so, sorted by name; the rest of the file is not read."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*model*.bin"))
    variant = weights_options(folder)["variant"]
    found: dict[str, torch.Tensor] = {}
    try:
        for path in files:
            if variant is None and ".fp16" in path.name:
                continue
            if path.suffix == ".bin":
                state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
                found |= {key: value for key, value in state.items() if key.endswith(ends)}
            else:
                path.open("rb").close()  # safetensors says of any file it cannot open that there is none
                with safe_open(path, framework="pt") as file:
                    mine = [key for key in file.keys() if key.endswith(ends)]  # noqa: SIM118  (no mapping)
                    found |= {key: file.get_tensor(key) for key in mine}
    except (OSError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        reason = refused_by_system(error) or f"cannot be read ({str(error).splitlines()[0][:160]})"
        raise ModelError(f"{folder}: {reason}") from None
    return sorted(found.items())


def or_model_error(load: Callable[[], Any], *, where: Path) -> Any:
    """The result of `load`, without a bar; what a damaged folder raises becomes one ModelError."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    shows_bars = logging.is_progress_bar_enabled()  # transformers draws one even for a second's load
    logging.disable_progress_bar()
    try:
        return load()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        reason = refused_by_system(error) or f"cannot be loaded ({reason[:160]})"
        raise ModelError(f"{where}: {reason}") from error
    finally:
        if shows_bars:
            logging.enable_progress_bar()
