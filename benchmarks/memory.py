"""What memory and time does a step of SDXL's UNet take at its published size, and what was foretold?

2,567,463,684 random numbers, no download; batch 1 at 256 px on the CPU, each way to train it in a process of
its own: some minutes and up to 12 GB. `--forecast WAY --side 128` foretells 1024 px. Large tensors are given
back to the system at once (MALLOC_MMAP_THRESHOLD_), else what is measured is glibc's heap.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgtrain.adapter import PFGLinear
from pfgtrain.config import FitConfig
from pfgtrain.fit.forecast import forecast_step
from pfgtrain.lora import add_lora, lora_parameters
from pfgtrain.objective import row_losses
from pfgtrain.optim import Part, gradient_norm, make_stepper

SDXL: dict[str, Any] = {  # unet/config.json of stable-diffusion-xl-base-1.0, what shapes it
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
WIDTH, POOLED, TOKENS, FEATURE, TEXT = 2048, 1280, 5, 768, 77
LOW = {"optimizer": "adafactor", "full_bf16": True, "fused_backward_pass": True, "max_grad_norm": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "unet, low memory": LOW,
    "lora r=16": {"train": "lora"},
    "adapter": {"train": "adapter"},
}
GB = 1e9


def full_size(way: str, side: int) -> dict[str, Any]:
    """One step of batch 1 of the whole SDXL UNet, its weights bf16 where frozen or asked for."""
    begun = memory("VmRSS")
    config = FitConfig(**WAYS[way])
    unet = outline().to_empty(device="cpu").train()
    fill(unet)
    adapter, parts = what_learns(unet, config)
    stepper = make_stepper(parts, config)
    learns = [value for part in parts for value in part.parameters.values()]
    if config.fused_backward_pass:
        stepper.step_in_backward()
    gc.collect()
    marks = {"begun": begun, "built": memory("VmRSS")}
    start = time.perf_counter()
    cpu = time.process_time()
    stepper.begin(step=0)
    loss = loss_of(unet, adapter, side=side, seed=0)
    loss.backward()
    norm = stepper.taken_norm() if config.fused_backward_pass else gradient_norm(learns)
    if not config.fused_backward_pass:
        stepper.step(norm)
    stepper.zero_grad()
    seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    print(f"{way}: loss {loss.item():.4f}, norm {norm.item():.4g}", file=sys.stderr)
    marks |= {"after": memory("VmRSS"), "peak": memory("VmHWM")}
    return {"way": way, "learns": sum(v.numel() for v in learns), **seconds, **marks}


def outline() -> Any:
    """The UNet on the meta device."""
    with torch.device("meta"):
        return nn.Module.to(UNet2DConditionModel(**SDXL), torch.bfloat16)


def what_learns(unet: Any, config: FitConfig) -> tuple[PFGLinear, list[Part]]:
    """A fresh adapter, and what learns of it and of the UNet."""
    adapter = PFGLinear(FEATURE, TOKENS, WIDTH)
    parts = [Part(name="adapter", file="a", parameters=dict(adapter.named_parameters()))]
    unet.requires_grad_(config.train == "unet")
    if config.train == "unet":
        parts.append(Part(name="unet", file="u", parameters=dict(unet.named_parameters())))
    elif config.train == "lora":
        modules = config.target_modules
        add_lora(unet, r=16, lora_alpha=16.0, target_modules=modules, blocks="all", seed=0)
        parts.append(Part(name="lora", file="l", parameters=lora_parameters(unet)))
    return adapter, parts


def foretold(way: str, side: int) -> dict[str, Any]:
    """The forecast of the same step."""
    keys = {"gradient_checkpointing": side > 32, "train_batch_size": 1, "num_tokens": TOKENS}
    config = FitConfig(**{**WAYS[way], **keys})
    config = replace(config, mixed_precision="bf16" if config.full_bf16 else "no")
    unet = outline()
    _, parts = what_learns(unet, config)
    return forecast_step(unet, parts, config, latent=(side, side), steps=1).as_dict()


def loss_of(unet: Any, adapter: nn.Module, *, side: int, seed: int) -> Tensor:
    """The loss of one row of noise."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    text = noise(1, TEXT, WIDTH)
    context = torch.cat([text, adapter(noise(1, FEATURE))], dim=1).bfloat16()
    told = {
        "text_embeds": noise(1, POOLED).bfloat16(),
        "time_ids": torch.tensor([[256.0, 256, 0, 0, 256, 256]]),
    }
    noisy = noise(1, 4, side, side).bfloat16()
    said = unet(noisy, torch.tensor([500]), encoder_hidden_states=context, added_cond_kwargs=told).sample
    return row_losses(said, noise(1, 4, side, side)).mean()


@torch.no_grad()
def fill(unet: nn.Module) -> None:
    """Numbers as of a network just begun: norms 1, biases 0, weights small."""
    torch.manual_seed(0)
    for name, value in unet.named_parameters():
        if value.ndim > 1:
            value.normal_(std=value[0].numel() ** -0.5)
        else:
            value.fill_(0.0 if name.endswith("bias") else 1.0)


def memory(what: str) -> int:
    """VmRSS or VmHWM, this process's memory now and at its peak, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {what} in /proc/self/status")


def apart(*words: str) -> dict[str, Any]:
    """What this script prints when it is run with `words` in a process of its own."""
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """The table, or one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=WAYS)
    parser.add_argument("--forecast", choices=WAYS)
    parser.add_argument("--side", type=int, default=32)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(full_size(asked.one, asked.side)))
    elif asked.forecast:
        print(json.dumps(foretold(asked.forecast, asked.side)))
    else:
        print("way | learns | foretold GB | measured GB | with the programs | s | CPU s")
        for way in WAYS:
            told, was = apart("--forecast", way), apart("--one", way)
            print(
                f"{way} | {was['learns']:,} | {told['memory'] / GB:.2f} |"
                f" {(was['peak'] - was['begun']) / GB:.2f} | {was['peak'] / GB:.2f} |"
                f" {was['seconds']:.0f} | {was['cpu_seconds']:.0f}"
            )


if __name__ == "__main__":
    main()
