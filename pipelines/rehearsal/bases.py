"""A base of a family's true shape with random weights, as a diffusers folder in float16.

Models are outlined on torch's meta device, so no weight is made twice; a part is written before the next.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pfgdata.hub import DEMO, resolve, write_tensors
from pipelines.rehearsal.shapes import POSITIONS, SCHEDULER, VOCABULARY, Shape

__all__ = ["part_sizes", "write_base"]

GAIN = 0.5  # of a layer's deviation: a random UNet then stays finite in float16 over all its blocks


def part_sizes(shape: Shape) -> dict[str, int]:
    """Numbers in each part: unet, vae, text_encoder, text_encoder_2."""
    return {
        name: sum(value.numel() for value in outline.parameters()) for name, outline, _ in _outlines(shape)
    }


def write_base(folder: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Write the folder, marked UNTRAINED: a tenth of a second for 10 million numbers."""
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
    if len(shape.texts) > 1:
        index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    dice = torch.Generator().manual_seed(seed)
    for name, outline, config in _outlines(shape):
        (folder / name).mkdir(parents=True)
        _write_json(folder / name / "config.json", config)
        library = "transformers" if name.startswith("text") else "diffusers"
        file = "model" if library == "transformers" else "diffusion_pytorch_model"
        state = {key: _random(key, value, dice) for key, value in _published(name, outline)}
        write_tensors(folder / name / f"{file}.safetensors", state, header={"format": "pt"})
        index[name] = [library, type(outline).__name__]
    for number in range(len(shape.texts)):
        name = f"tokenizer{_end(number)}"
        shutil.copytree(resolve(DEMO, what="base").folder / "tokenizer", folder / name)
        index[name] = ["transformers", "CLIPTokenizer"]
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    index["scheduler"] = ["diffusers", SCHEDULER["_class_name"]]
    _write_json(folder / "model_index.json", index)
    (folder / "UNTRAINED").write_text("random weights of a rehearsal\n", encoding="utf-8")
    return folder


def _outlines(shape: Shape) -> Iterator[tuple[str, nn.Module, dict[str, Any]]]:
    """Each part's name, its model without weights, and its config.json."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    for name, kind, told in (
        ("unet", UNet2DConditionModel, shape.unet),
        ("vae", AutoencoderKL, shape.vae),
    ):
        with torch.device("meta"):  # not over a yield: who is yielded to would make its tensors there too
            model = kind(**told)
        yield name, model, {"_class_name": kind.__name__, **told}
    for number, text in enumerate(shape.texts):
        told = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, **_ends(), **text}
        config = CLIPTextConfig(**told)
        encoder: Callable[[CLIPTextConfig], nn.Module] = (
            CLIPTextModelWithProjection if number else CLIPTextModel
        )
        with torch.device("meta"):
            model = encoder(config)
        yield (
            f"text_encoder{_end(number)}",
            model,
            {**config.to_dict(), "architectures": [type(model).__name__]},
        )


def _ends() -> dict[str, int]:
    """Ids of the tokenizer that is copied: the demo's, whose words are the first of the vocabulary."""
    words = json.loads((resolve(DEMO, what="base").folder / "tokenizer" / "vocab.json").read_text("utf-8"))
    first, last = words["<|startoftext|>"], words["<|endoftext|>"]
    return {"bos_token_id": first, "eos_token_id": last, "pad_token_id": last}


def _published(name: str, outline: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters, by the keys that published bases have."""
    for key, value in outline.named_parameters():
        whole = not name.startswith("text") or key.startswith(("text_model.", "text_projection"))
        yield key if whole else f"text_model.{key}", value


def _random(key: str, outline: Tensor, dice: torch.Generator) -> Tensor:
    """Norms as they begin, biases nothing, matrices of a deviation that keeps what they are given."""
    if outline.ndim < 2:
        return torch.full(outline.shape, 0.0 if key.endswith("bias") else 1.0, dtype=torch.float16)
    fan_in = outline[0].numel()
    made = torch.empty(outline.shape, dtype=torch.float32)
    return made.normal_(0.0, GAIN / fan_in**0.5, generator=dice).half()


def _end(number: int) -> str:
    return f"_{number + 1}" if number else ""


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
