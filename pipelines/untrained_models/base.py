"""The untrained base: a whole diffusers folder of Stable Diffusion's shape, at 128 px, under 2.5 MB.

Files are written here, not by `save_pretrained`: that would record library versions and differ with them.
"""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.untrained_models.seeded import demo_pixels, half, uniform, write_card, write_json

BASE_TEXT_WIDTH = 64  # no block width of the UNet: the hook form of PFG finds its layers by this number
BASE_MERGES = 1500  # the first of CLIP's 48,894, and the ones WORDS needs
WORDS = """illustration of umamusume portrait avatar anime girl boy
woman man face glasses smile hair background""".split()  # noqa: SIM905
UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 16,  # x VAE factor 8 = 128 px
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": [16, 24, 48],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": BASE_TEXT_WIDTH,
    "attention_head_dim": 4,  # diffusers reads this as the number of heads
    "norm_num_groups": 8,
}
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "sample_size": 128,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": [8, 16, 16, 24],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "scaling_factor": 0.5,  # latents of std 2; not SD's 0.18215, so that code which assumes that shows
}
TEXT: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "dtype": "float32",  # what it computes in; without it transformers takes the file's float16
    "hidden_size": BASE_TEXT_WIDTH,
    "intermediate_size": 2 * BASE_TEXT_WIDTH,
    "projection_dim": BASE_TEXT_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
MODEL_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
UNET_OUTPUT_SCALE = 0.3
PICTURE_STD = 0.4  # of decoded pictures, in -1..1
LOGVAR = -12.0  # of the posterior: nearly deterministic, as SD's own VAE
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def cut_merges(bpe: Path) -> list[str]:
    """CLIP's first BASE_MERGES merges and those WORDS passes through, in CLIP's order.

    A word of WORDS becomes the same pieces as with all merges: the lowest that applies at each step is kept.
    """
    lines = (
        gzip.decompress(bpe.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    )  # as CLIP cuts its file
    rank = {tuple(line.split()): number for number, line in enumerate(lines)}
    needed = set(range(BASE_MERGES))
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while steps := [(rank[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in rank]:
            number, i = min(steps)
            needed.add(number)
            pieces[i : i + 2] = ["".join(pieces[i : i + 2])]
    return [lines[number] for number in sorted(needed)]


def byte_symbols() -> list[str]:
    """The 256 characters CLIP writes bytes with: printable ones themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def write_tokenizer(folder: Path, merges: list[str]) -> int:
    """CLIP's tokenizer files with only these merges; the number of tokens. Pads with the end, as SD1."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    symbols = byte_symbols()
    tokens = (
        symbols + [f"{s}</w>" for s in symbols] + [merge.replace(" ", "") for merge in merges] + [start, end]
    )
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special},
    )
    write_json(folder / "special_tokens_map.json", special)
    return len(tokens)


def fan_in_state(model: Any, name: str) -> dict[str, Any]:
    """Seeded float16 values of every parameter: kernels by fan-in, norms 1, biases 0, embeddings std 0.5."""
    import torch

    state = {}
    for key, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        if key.endswith("embedding.weight"):
            values = uniform(f"{name}.{key}", shape, std=0.5)
        elif len(shape) > 1:
            values = uniform(f"{name}.{key}", shape, std=float(np.prod(shape[1:])) ** -0.5)
        else:
            values = np.full(shape, 1.0 if key.endswith("weight") else 0.0)
        state[key] = torch.from_numpy(half(values))
    return state


def write_model(
    folder: Path, config: dict[str, Any], state: dict[str, Any], *, file: str, prefix: str = ""
) -> None:
    """Write config.json and the weights as float16 safetensors."""
    from safetensors.torch import save

    write_json(folder / "config.json", config)
    halves = {prefix + key: tensor.half().contiguous() for key, tensor in state.items()}
    (folder / file).write_bytes(save(halves, metadata={"format": "pt"}))


def build_vae(folder: Path) -> None:
    """A random AutoencoderKL whose latents of the demo pictures are white, of std 1 / scaling_factor."""
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_config(VAE).double().eval()
    state = fan_in_state(vae, "vae")
    latent, std = VAE["latent_channels"], 1 / VAE["scaling_factor"]
    eye = torch.eye(2 * latent, dtype=torch.float64)[:, :, None, None]
    vae.load_state_dict({**state, "quant_conv.weight": eye})
    pixels = torch.from_numpy(demo_pixels(VAE["sample_size"], every=4)).permute(0, 3, 1, 2) / 127.5 - 1.0
    with torch.no_grad():
        hidden = vae.encode(pixels.double()).latent_dist.parameters[:, :latent]
        mean, covariance = _moments(hidden)
        values, vectors = torch.linalg.eigh(covariance)
        whitening = std * vectors @ torch.diag(values**-0.5) @ vectors.T  # symmetric: no sign to choose
        quant = torch.zeros_like(eye)
        quant[:latent, :latent, 0, 0] = whitening
        bias = torch.cat([-whitening @ mean, torch.full((latent,), LOGVAR)])
        state |= {"quant_conv.weight": _half(quant), "quant_conv.bias": _half(bias)}
        vae.load_state_dict(state)
        latents = torch.nn.functional.conv2d(hidden, whitening[:, :, None, None], bias[:latent])
        decoded_mean, decoded = _moments(vae.decode(latents).sample)
        scale = PICTURE_STD / decoded.diagonal().sqrt()
        state["decoder.conv_out.weight"] = _half(
            state["decoder.conv_out.weight"] * scale[:, None, None, None]
        )
        state["decoder.conv_out.bias"] = _half(-decoded_mean * scale)
    write_model(folder, VAE, state, file="diffusion_pytorch_model.safetensors")


def _moments(x_BCHW: Any) -> tuple[Any, Any]:
    """Mean [C] and covariance [C, C] over pictures and places."""
    columns_CN = x_BCHW.transpose(0, 1).flatten(1)
    return columns_CN.mean(1), columns_CN.cov()


def _half(tensor: Any) -> Any:
    return tensor.half().double()


def build_unet(folder: Path) -> None:
    """Write a random UNet2DConditionModel; its output is small, so that a fit begins near a loss of 1."""
    from diffusers import UNet2DConditionModel

    state = fan_in_state(UNet2DConditionModel.from_config(UNET), "unet")
    state["conv_out.weight"] = _half(state["conv_out.weight"] * UNET_OUTPUT_SCALE)
    write_model(folder, UNET, state, file="diffusion_pytorch_model.safetensors")


def build_text_encoder(folder: Path, num_tokens: int) -> None:
    """A random CLIPTextModel of 77 positions; keys begin with `text_model.`, as in published bases."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = {**TEXT, "vocab_size": num_tokens, "bos_token_id": num_tokens - 2}
    config |= {"eos_token_id": num_tokens - 1, "pad_token_id": num_tokens - 1}
    state = fan_in_state(CLIPTextModel(CLIPTextConfig(**config)), "text")
    write_model(folder, config, state, file="model.safetensors", prefix="text_model.")


def build_base(folder: Path, bpe: Path) -> None:
    """Write the base into `folder`; `bpe` is CLIP's bpe_simple_vocab_16e6.txt.gz."""
    num_tokens = write_tokenizer(folder / "tokenizer", cut_merges(bpe))
    build_text_encoder(folder / "text_encoder", num_tokens)
    build_unet(folder / "unet")
    build_vae(folder / "vae")
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(folder / "model_index.json", MODEL_INDEX)
    write_card(
        folder, "a diffusers base of the shape of Stable Diffusion at 128 px (v-prediction, latents 16x16x4)"
    )
