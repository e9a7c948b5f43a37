"""How much of a bare loop's speed does a fit reach, and what memory, disk and work does each mode take?

Speed and sizes of checkpoints are measured on the demo's base and images, torch on one thread. The tables of
SD 1.5 and SD 2.1 count the weights and operations of their UNets on torch's meta device, without a download.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from pfgdata.records import NoProgress
from pfgdata.store import Store
from pfgtrain.adapter import PFGMLP, PFGAdapter, PFGLinear, append_tokens
from pfgtrain.base import Base, encode_prompts
from pfgtrain.checkpoint import checkpoints
from pfgtrain.config import FitConfig
from pfgtrain.fit import FitData, FitReport, base_of, data_of, fit
from pfgtrain.lora import add_lora, lora_parameters, unet_part
from pfgtrain.objective import add_noise, latents_of, row_losses, target
from pipelines.recipe import find_recipe, read_recipe
from pipelines.steps import run_steps

STEPS, BATCH, ROUNDS = 20, 16, 5
PROMPT, TOKENS, FEATURE = "illustration of *", 5, 768  # FitConfig's, and the width of every WD14 ViT
GB = 1e9

_SHARED: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
}
UNETS: dict[str, dict[str, Any]] = {  # unet/config.json of the published bases, what shapes them
    "SD 1.5": {**_SHARED, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "SD 2.1": {
        **_SHARED,
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
}
MODES: dict[str, dict[str, Any]] = {  # what a fit is asked for -> the keys of its config
    "unet": {},
    "unet, cross_attention": {"unet_blocks": "cross_attention"},
    "unet, up_blocks": {"unet_blocks": "up_blocks"},
    "lora r=16": {"train": "lora"},
    "lora r=16, cross_attention": {"train": "lora", "unet_blocks": "cross_attention"},
    "adapter": {"train": "adapter"},
    "adapter, mlp": {"train": "adapter", "adapter_kind": "mlp"},
}


class StepClock(NoProgress):
    """Notes the CPU time of the process, and the time of the day, after each step."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def advance(self, count: int = 1, **figures: float) -> None:
        """Note a step; a loss that is only told is none."""
        if "step" in figures:
            self.marks.append((time.process_time(), time.perf_counter()))

    @property
    def rates(self) -> tuple[float, float]:
        """Images a CPU second and a second, from the end of the first step to that of the last."""
        (cpu, wall), (cpu_end, wall_end) = self.marks[0], self.marks[-1]
        images = BATCH * (len(self.marks) - 1)
        return images / (cpu_end - cpu), images / (wall_end - wall)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The demo's store with its latents, its base, and where runs go."""

    data: FitData
    base: Base
    runs: Path

    def fit(self, name: str, *, clock: StepClock | None = None, **keys: Any) -> FitReport:
        """A fit into `runs`/`name`; without `keys` as in the table's first row."""
        config = FitConfig(
            **{
                "max_train_steps": STEPS,
                "train_batch_size": BATCH,
                "learning_rate": 1e-4,
                "num_validation_images": 0,
                **keys,
            }
        )
        return fit(self.data, self.base, config, run_dir=self.runs / name, progress=clock)


def demo(folder: Path) -> Demo:
    """Ingest and encode the demo's 240 images."""
    recipe = replace(read_recipe(find_recipe("demo")), query=None, fit=None, generate=None)
    for _ in run_steps(recipe, folder, progress=NoProgress(), stop=lambda: False):
        pass
    config = FitConfig()
    data = data_of(Store.open(folder / "feats"), config)
    return Demo(data=data, base=base_of(data, config), runs=folder / "runs")


def bare_loop(base: Base, clock: StepClock, *, channels: int = 4, side: int = 16) -> None:
    """Forward, backward, clip and step, all inputs in memory beforehand."""
    unet = base.load_unet().train()
    adapter = PFGLinear(FEATURE, TOKENS, base.cross_attention_dim)
    prompt = encode_prompts(base, [PROMPT], text_layer=base.text_layer)
    alphas = base.load_noise_scheduler().alphas_cumprod
    parameters = [*adapter.parameters(), *unet.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-2, fused=True)
    shape = (BATCH, channels, side, side)
    batches = [(torch.randn(shape), torch.randn(BATCH, FEATURE), torch.randn(shape)) for _ in range(STEPS)]
    timesteps = torch.randint(len(alphas), (STEPS, BATCH))

    def losses(stored: Tensor, features: Tensor, noise: Tensor, when: Tensor) -> Tensor:
        latents = latents_of(stored, None, scale=base.scale)
        context = append_tokens(prompt.expand(BATCH), adapter(features)).context
        noisy = add_noise(latents, noise, when, alphas)
        wanted = target(base.prediction_type, latents, noise, when, alphas)
        return row_losses(unet(noisy, when, encoder_hidden_states=context).sample, wanted)

    for number, (batch, when) in enumerate(zip(batches, timesteps, strict=True)):
        losses(*batch, when).mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.advance(BATCH, step=number)


def print_speed(demo: Demo) -> None:
    """The bare loop and each kind of fit in turn; compared by CPU time, for neighbours move the other."""
    kinds: dict[str, dict[str, Any]] = {
        "fit": {},
        "fit, no validation": {"validation_split": 0.0},
        "fit, use_ema": {"use_ema": True},
        'fit, caption = "tags"': {"caption": "tags"},
    }
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in ("bare loop", *kinds)}
    for number in range(ROUNDS):
        clock = StepClock()
        bare_loop(demo.base, clock)
        found["bare loop"].append(clock.rates)
        for place, (kind, keys) in enumerate(kinds.items()):
            clock = StepClock()
            demo.fit(f"speed-{number}-{place}", clock=clock, **keys)
            found[kind].append(clock.rates)
    print(f"\ndemo base, batches of {BATCH} at 128 px, {STEPS} steps, one thread, median of {ROUNDS} rounds")
    print(f"{'':24} {'images/s':>9} {'images/CPU s':>13} {'of bare':>8} {'lowest':>7} {'highest':>8}")
    for kind, rates in found.items():
        ratios = [own / bare for (own, _), (bare, _) in zip(rates, found["bare loop"], strict=True)]
        cpu, wall = (statistics.median(pair[place] for pair in rates) for place in (0, 1))
        middle = statistics.median(ratios)
        print(f"{kind:24} {wall:9.1f} {cpu:13.1f} {middle:8.0%} {min(ratios):7.0%} {max(ratios):8.0%}")
    speeds = [cpu for cpu, _ in found["bare loop"]]
    print(f"bare loop, images/CPU s: {min(speeds):.1f} to {max(speeds):.1f}")


def print_checkpoints(demo: Demo) -> None:
    """Bytes of a checkpoint of the demo, each with what counting its weights says."""
    print(f"\ndemo base: a checkpoint\n{'':28} {'learns':>9} {'bytes':>11} {'counted':>8}")
    for train in ("unet", "lora", "adapter"):
        for ema in (False, True):
            name = f"{train}, {'EMA' if ema else 'no EMA'}"
            report = demo.fit(
                name, max_train_steps=1, validation_split=0.0, train=train, use_ema=ema, train_batch_size=4
            )
            folder = checkpoints(demo.runs / name)[-1]
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            learns = sum(report.trainable.values())
            counted = learns * (16 if ema else 12)
            print(f"{name:28} {learns:9,} {size:11,} {size / counted:7.2f}x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Numbers of a mode, and the bytes that follow from them; the frozen rest is held as bfloat16."""

    adapter: int
    unet: int  # of the UNet, or of the LoRA on it
    cast: int  # of those that learn, in layers that autocast copies to bfloat16
    frozen_bytes: int

    @property
    def learns(self) -> int:
        """All that learns."""
        return self.adapter + self.unet

    def memory(self, *, ema: bool) -> float:
        """GB of weights, gradients, AdamW's two moments and the average, float32, with the frozen rest."""
        return (self.learns * (20 if ema else 16) + self.frozen_bytes) / GB

    def checkpoint(self, *, ema: bool) -> float:
        """GB of weights, AdamW's two moments and the average, float32."""
        return self.learns * (16 if ema else 12) / GB


def real_unet(family: str, config: FitConfig) -> Any:
    """The family's UNet without its values, with what `config` lets learn of it asking for gradients."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS[family])
    unet.requires_grad_(False)
    if config.train == "lora":
        add_lora(
            unet,
            r=config.r,
            lora_alpha=config.lora_alpha,
            target_modules=config.target_modules,
            blocks=config.unet_blocks,
            seed=0,
        )
    elif config.train == "unet":
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(unet_part(name, config.unet_blocks))
    return unet.train()


def real_adapter(family: str, config: FitConfig) -> PFGAdapter:
    """The adapter that `config` would train on the family's base."""
    shape = (FEATURE, TOKENS, UNETS[family]["cross_attention_dim"])
    if config.adapter_kind == "linear":
        return PFGLinear(*shape)
    return PFGMLP(*shape, hidden_dim=config.adapter_hidden_dim or FEATURE)


def weights_of(family: str, config: FitConfig) -> Weights:
    """What learns and what is frozen."""
    unet, adapter = real_unet(family, config), real_adapter(family, config)
    learning = [p for p in unet.parameters() if p.requires_grad]
    if config.train == "lora":
        assert len(learning) == len(lora_parameters(unet)), "a LoRA learns alone"
    cast = sum(p.numel() for p in _of_layers(unet) if p.requires_grad)
    frozen = [p for p in unet.parameters() if not p.requires_grad]
    small = {id(p) for p in _of_layers(unet)} if config.train == "unet" else {id(p) for p in frozen}
    adapter_size = sum(p.numel() for p in adapter.parameters())
    return Weights(
        adapter=adapter_size,
        unet=sum(p.numel() for p in learning),
        cast=cast + adapter_size,
        frozen_bytes=sum(p.numel() * (2 if id(p) in small else 4) for p in frozen),
    )


def _of_layers(unet: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of the layers that autocast runs in bfloat16, and that a fit holds so if frozen."""
    for module in unet.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            yield from module.parameters(recurse=False)


def tera_flop(family: str, config: FitConfig, *, checkpointing: bool = False) -> float:
    """10^12 operations of one image, forward and backward; a multiplication with its addition is two."""
    unet, width = real_unet(family, config), UNETS[family]["cross_attention_dim"]
    if checkpointing:
        unet.enable_gradient_checkpointing()
    side = UNETS[family]["sample_size"]
    with torch.device("meta"):
        latent, when = torch.randn(1, 4, side, side), torch.zeros(1, dtype=torch.long)
        context = torch.randn(1, 77 + TOKENS, width, requires_grad=True)  # the adapter's tokens learn
    with FlopCounterMode(display=False) as counter:
        unet(latent, when, encoder_hidden_states=context).sample.sum().backward()
    return counter.get_total_flops() / 1e12


def print_real(family: str) -> None:
    """The table of a published base."""
    resolution = UNETS[family]["sample_size"] * 8
    print(f"\n{family}, {TOKENS} tokens, context {UNETS[family]['cross_attention_dim']}, {resolution} px; GB")
    print(
        f"{'':28} {'learns':>12} {'memory':>7} {'+EMA':>6} {'+copy':>6} {'ckpt':>6} {'+EMA':>6} {'TFLOP':>6}"
    )
    for name, keys in MODES.items():
        config = FitConfig(**keys)
        found = weights_of(family, config)
        print(
            f"{name:28} {found.learns:12,} {found.memory(ema=False):7.2f} {found.memory(ema=True):6.2f}"
            f" {found.cast * 2 / GB:6.2f} {found.checkpoint(ema=False):6.2f}"
            f" {found.checkpoint(ema=True):6.2f} {tera_flop(family, config):6.2f}"
        )
    again = tera_flop(family, FitConfig(), checkpointing=True)
    print(f"{'unet, gradient_checkpointing':28} {'':48} {again:6.2f}")


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for family in UNETS:
        print_real(family)
    with tempfile.TemporaryDirectory() as folder:
        made = demo(Path(folder))
        print_checkpoints(made)
        print_speed(made)


if __name__ == "__main__":
    main()
