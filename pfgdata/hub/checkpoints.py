"""What a single-file checkpoint holds, told by its tensors' names (the LDM code's) and shapes.

Reading opens the file's table only: the tensors are views of it until somebody computes with them. A pickle
that asks for code is refused, never run.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pfgdata.errors import ModelError, refused_by_system

if TYPE_CHECKING:
    import torch

__all__ = ["UNET", "Checkpoint", "Family", "read_checkpoint"]

Family = Literal["SD1", "SD2"]

UNET = "model.diffusion_model."
_PREFIXES = {"unet": (UNET,), "vae": ("first_stage_model.", "vae."), "text_encoder": ("cond_stage_model.",)}
_TOKENS: Mapping[Family, str] = {  # CLIP's and OpenCLIP's table of tokens
    "SD1": "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "SD2": "cond_stage_model.model.token_embedding.weight",
}
_OLD_CLIP = re.compile(r"^cond_stage_model\.transformer\.(?=(embeddings|encoder|final_layer_norm)\.)")
_OTHERS = (  # a name that only such a file has, and what it is
    (r"^(lora|lycoris)_|[._](lora|hada|lokr|oft)_", "a LoRA; name the checkpoint it was made for"),
    (r"^conditioner\.embedders\.", "an SDXL checkpoint, which comes later"),
    (
        r"(^|\.)(joint|double|single|double_stream)_(blocks|layers)\.",
        "a transformer (SD3, Flux and the like)",
    ),
    (r"^control_model\.", "a ControlNet"),
    (r"^(down_blocks|mid_block|up_blocks)\.", "one part in diffusers' form; name its whole folder"),
)
_AVERAGED = ("model_ema.diffusion_model", "unet_ema.")  # the LDM code's names, and those of other trainers
_CHANNELS = {9: "inpainting", 8: "editing by instruction", 5: "depth"}
_SAID = {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}
_KEPT = ("float16", "bfloat16", "float32")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The tensors of an SD1 or SD2 checkpoint with all three parts, by their LDM names."""

    file: Path
    tensors: Mapping[str, torch.Tensor]
    family: Family
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How wide the context is that its text encoder makes: 768 for SD1, 1024 for SD2."""
        return int(self.tensors[_TOKENS[self.family]].shape[1])

    @property
    def prediction_type(self) -> str | None:
        """What the UNet predicts, where the file says so by a tensor `v_pred` or in its metadata."""
        if "v_pred" in self.tensors:
            return "v_prediction"
        return _SAID.get(self.metadata.get("modelspec.prediction_type", ""))

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the file says, by a tensor `ztsnr`, that its last step is pure noise."""
        return "ztsnr" in self.tensors

    def dtype(self, part: str) -> str:
        """The one float dtype, as torch calls it, of the part's tensors; float32 where they have several."""
        found = {
            str(tensor.dtype).removeprefix("torch.")
            for name, tensor in self.tensors.items()
            if name.startswith(_PREFIXES[part])
            and tensor.is_floating_point()
            and "position_ids" not in name  # numbers, which some tools have written as float16
        }
        only = found.pop() if len(found) == 1 else "float32"
        return only if only in _KEPT else "float32"


def read_checkpoint(file: Path) -> Checkpoint:
    """Open the .safetensors or .ckpt `file`. Raises ModelError if it is damaged or no SD1 or SD2."""
    if file.suffix == ".safetensors":
        tensors, metadata = _open_safetensors(file)
    elif file.suffix == ".ckpt":
        tensors, metadata = _open_pickle(file), {}
    else:
        raise ModelError(f"{file}: neither .safetensors nor .ckpt; a base is a folder or one of those")
    tensors = {_modern(name): tensor for name, tensor in tensors.items()}
    if reason := _refusal(tensors):
        raise ModelError(f"{file}: {reason}; a base is an SD1 or SD2 checkpoint with all its parts")
    family: Family = "SD1" if _TOKENS["SD1"] in tensors else "SD2"
    return Checkpoint(file=file, tensors=tensors, family=family, metadata=metadata)


def _modern(name: str) -> str:
    """CLIP's names as transformers has had them since 4.3; older merges lack the `text_model`."""
    return _OLD_CLIP.sub("cond_stage_model.transformer.text_model.", name)


def _open_safetensors(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        file.open("rb").close()  # safetensors says of any file it cannot open that there is none
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as problem:
        damage = f"no whole .safetensors file ({_brief(problem)}); fetch it again"
        raise ModelError(f"{file}: {refused_by_system(problem) or damage}") from problem


def _open_pickle(file: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        state: Any = torch.load(
            file,
            map_location="cpu",
            weights_only=True,
            mmap=zipfile.is_zipfile(file),  # files from before torch 1.6 are none
        )
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as problem:
        if found := _GLOBAL.search(str(problem)):
            raise ModelError(
                f"{file}: a pickle that asks to run code ({found[1]}), which is not done;"
                " get the checkpoint as .safetensors"
            ) from problem
        damage = f"no whole .ckpt file ({_brief(problem)}); fetch it again"
        raise ModelError(f"{file}: {refused_by_system(problem) or damage}") from problem
    while isinstance(state, dict) and "state_dict" in state:
        state = state["state_dict"]
    tensors = state if isinstance(state, dict) else {}
    return {str(name): value for name, value in tensors.items() if isinstance(value, torch.Tensor)}


def _refusal(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Why these are not the tensors of an SD1 or SD2 checkpoint; None if they are."""
    for pattern, kind in _OTHERS:
        if any(re.search(pattern, name) for name in tensors):
            return kind
    first = tensors.get(f"{UNET}input_blocks.0.0.weight")
    if first is None:
        if any(name.startswith(_AVERAGED) for name in tensors):
            return "its UNet is there only as moving averages (EMA); get the file with its weights, or pruned"
        if any(name.startswith((*_PREFIXES["vae"], "encoder.", "decoder.")) for name in tensors):
            return "only a VAE"
        return "no Stable Diffusion checkpoint"
    channels = int(first.shape[1])
    if channels != 4:  # latents of SD1 and SD2
        return f"its UNet takes {channels} channels ({_CHANNELS.get(channels, 'not a text-to-image model')})"
    if any(name.startswith(f"{UNET}label_emb.") for name in tensors):
        return "its UNet takes labels (an upscaler, unCLIP, or SDXL)"
    if not any(name.startswith(_PREFIXES["vae"]) for name in tensors):
        return "it has no VAE"
    if not any(name in tensors for name in _TOKENS.values()):
        return "it has no text encoder"
    return None


def _brief(problem: Exception) -> str:
    return " ".join(str(problem).split())[:160] or type(problem).__name__
