"""What a single-file checkpoint holds, told by its tensors' names (the LDM code's) and shapes.

Reading opens the file's table only: the tensors are views of it until somebody computes with them. What a
pickle asks for beside tensors is never run.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pfgdata.errors import ModelError, refused_by_system
from pfgdata.hub.families import FAMILIES, LDM_PREFIXES, FamilyFacts, family_titles
from pfgdata.hub.pickles import pickled_tensors
from pfgdata.paths import user_path

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "read_checkpoint", "single_file_width"]

_UNET = LDM_PREFIXES["unet"][0]
_OLD_CLIP = re.compile(r"^cond_stage_model\.transformer\.(?=(embeddings|encoder|final_layer_norm)\.)")
_OTHERS = (  # a name that only such a file has, and what it is
    (r"^(lora|lycoris)_|[._](lora|hada|lokr|oft)_", "a LoRA; name the checkpoint it was made for"),
    (
        r"^conditioner\.embedders\.0\.model\.",
        "an SDXL refiner, which only finishes pictures; name a base model",
    ),
    (r"^edm_(mean|std|vpred\.)", "an EDM model (Playground v2.5, CosXL), of another noise than its family's"),
    (r"(^|\.)(clip_txt(_pooled)?|effnet)_mapper\.", "Stable Cascade"),
    (
        r"(^|\.)(x_embedder\.proj\.1|llm_adapter|blocks\.\d+\.adaln_modulation_\w+)\.",
        "Cosmos (Anima and the like)",
    ),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The tensors of a checkpoint with all parts of its family, by their LDM names."""

    file: Path
    tensors: Mapping[str, torch.Tensor]
    family: FamilyFacts
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How wide the context is that its text encoders make: 768 for SD1, 1024 for SD2, 2048 for SDXL."""
        return sum(int(self.tensors[name].shape[1]) for name in self.family.tokens)

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
            if name.startswith(self.family.prefixes[part])
            and tensor.is_floating_point()
            and "position_ids" not in name  # numbers, which some tools have written as float16
        }
        only = found.pop() if len(found) == 1 else "float32"
        return only if only in _KEPT else "float32"


def read_checkpoint(file: Path) -> Checkpoint:
    """Open the .safetensors or .ckpt `file`. Raises ModelError if it is damaged or of no family."""
    kind = file.suffix.lower()
    if kind == ".safetensors":
        tensors, metadata = _open_safetensors(file)
    elif kind == ".ckpt":
        tensors, metadata = _open_pickle(file), {}
    else:
        raise ModelError(f"{file}: neither .safetensors nor .ckpt; a base is a folder or one of those")
    tensors = {_modern(name): tensor for name, tensor in tensors.items()}
    family = next((family for family in FAMILIES if family.tokens[0] in tensors), None)
    if (reason := _refusal(tensors, family)) or family is None:
        reason = reason or "it has no text encoder"
        raise ModelError(f"{file}: {reason}; a base is an {family_titles()} checkpoint with all its parts")
    return Checkpoint(file=file, tensors=tensors, family=family, metadata=metadata)


def single_file_width(name: str) -> int | None:
    """How wide the context of a single-file base is, by its header; None where `name` names no file.

    Raises ModelError as `read_checkpoint` does.
    """
    path = user_path(name or "(no name)")
    return read_checkpoint(path).width if path.is_file() else None


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
    try:
        return pickled_tensors(file)
    except (pickle.UnpicklingError, OSError) as problem:
        damage = f"no whole .ckpt file ({_brief(problem)}); fetch it again"
        raise ModelError(f"{file}: {refused_by_system(problem) or damage}") from problem


def _refusal(tensors: Mapping[str, torch.Tensor], family: FamilyFacts | None) -> str | None:
    """Why these are not a UNet and a VAE, and what `family` has beside them; None if they are."""
    for pattern, kind in _OTHERS:
        if any(re.search(pattern, name) for name in tensors):
            return kind
    first = tensors.get(f"{_UNET}input_blocks.0.0.weight")
    if first is None:
        if any(name.startswith(_AVERAGED) for name in tensors):
            return "its UNet is there only as moving averages (EMA); get the file with its weights, or pruned"
        if any(name.startswith((*LDM_PREFIXES["vae"], "encoder.", "decoder.")) for name in tensors):
            return "only a VAE"
        return "no Stable Diffusion checkpoint"
    channels = int(first.shape[1])
    if channels not in {family.latent_channels for family in FAMILIES}:
        return f"its UNet takes {channels} channels ({_CHANNELS.get(channels, 'not a text-to-image model')})"
    labels = any(name.startswith(f"{_UNET}label_emb.") for name in tensors)
    if family and family.labels != labels:
        odd = "takes labels (an upscaler or unCLIP)" if labels else "takes none of the labels of its family"
        return f"its UNet {odd}"
    if not any(name.startswith(LDM_PREFIXES["vae"]) for name in tensors):
        return "it has no VAE"
    if family and (lacking := [name for name in family.tokens if name not in tensors]):
        return f"one of its text encoders is not in it ({lacking[0]})"
    return None


def _brief(problem: Exception) -> str:
    return " ".join(str(problem).split())[:160] or type(problem).__name__
