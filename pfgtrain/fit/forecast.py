"""What a fit will take before it begins: memory by kind, disk, operations.

The pass of one batch is played on fake tensors, which have shapes and no bytes, through the UNet, the
autocast and the checkpointing that the fit would have. What stands beside it is counted from shapes.

Shapes: B rows, C latent channels, h w latent sides, T text positions, D context width, P pooled width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pfgdata.vaes import base_geometry
from pfgtrain.base import Base
from pfgtrain.config import FitConfig
from pfgtrain.fit.data import FitData, Inputs
from pfgtrain.fit.live_bytes import LiveBytes
from pfgtrain.fit.plan import FitPlan, checkpoints_made
from pfgtrain.fit.start import with_tokens
from pfgtrain.fit.trainer import with_precision
from pfgtrain.fit.training_model import choose_attention, frozen_dtype, what_learns
from pfgtrain.optim import Part, state_bytes, step_bytes

__all__ = ["Forecast", "forecast_fit", "forecast_step"]

_POSITIONS = 77  # of a text, whatever Stable Diffusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Bytes that a fit will take of each process's device, and of the disk; operations of one image."""

    weights: int  # of the UNet and the adapter; the VAE is gone by then
    texts: int  # of the text encoders, which stay for captions that are not cached
    optimizer: int
    average: int  # in main memory with offload_ema
    reducing: int  # of the buffers in which several processes add their gradients: as much as these once more
    passing: int  # at most, of a pass: activations, gradients, what autocast keeps; or of the step after it,
    # or of a look at the losses, where the average has to be copied to stand in the weights' place
    checkpoint: int
    disk: int  # of the checkpoints that will be there at once
    operations: float  # forward and backward, an addition and a multiplication as two

    @property
    def memory(self) -> int:
        """Of the device at most, less the programs themselves."""
        return self.weights + self.texts + self.optimizer + self.passing + self.average + self.reducing

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "memory": self.memory}


def forecast_fit(data: FitData, base: Base, config: FitConfig, plan: FitPlan) -> Forecast:
    """What the fit of `plan` will take on this machine; some seconds, and no weight is read."""
    config = with_tokens(with_precision(config), base)
    unet = _outline(base, config)
    _, parts = what_learns(unet, Inputs.of(data, base, config).unmeasured(config), config)
    sides = [(int(width), int(height)) for width, _, height in (name.partition("x") for name in plan.buckets)]
    width, height = max(sides, key=lambda pair: pair[0] * pair[1])  # the largest bucket counts
    factor = base_geometry(base.folder).factor
    latent = (height // factor, width // factor)
    told = forecast_step(unet, parts, config, latent=latent, steps=plan.steps, processes=plan.processes)
    stay = config.caption is not None and not config.cache_captions
    return replace(told, texts=_text_bytes(base, config) if stay else 0)


def _text_bytes(base: Base, config: FitConfig) -> int:
    size = frozen_dtype(config).itemsize
    return sum(size * value.numel() for model in base.text_outlines() for value in model.parameters())


def _outline(base: Base, config: FitConfig) -> Any:
    """The UNet in the dtypes of the fit, on the meta device."""
    learns_as = torch.bfloat16 if config.full_bf16 else torch.float32
    dtype = learns_as if config.train == "unet" else frozen_dtype(config)
    return nn.Module.to(base.unet_outline(), dtype)


def forecast_step(
    unet: Any,
    parts: Sequence[Part],
    config: FitConfig,
    *,
    latent: tuple[int, int],
    steps: int,
    processes: int = 1,
) -> Forecast:
    """What a step of `unet`, on the meta device, takes of each process; `latent` are the sides h, w."""
    learns = [value for part in parts for value in part.parameters.values()]
    frozen = [value for value in unet.parameters() if not value.requires_grad]
    passing, operations = _play(unet, config, latent=latent)
    beside = [value for part in parts if part.name == "adapter" for value in part.parameters.values()]
    passing += _bytes(beside)  # the adapter's gradient; the pass begins with its tokens
    gradients = 0 if config.fused_backward_pass else _bytes(learns)
    moving = gradients + step_bytes([value.shape for value in learns], config)
    optimizer = sum(state_bytes(value.shape, config) for value in learns)
    numbers = sum(value.numel() for value in learns)
    average = 4 * numbers if config.use_ema else 0
    passing = max(passing, moving)
    if copied := _copied(learns, config):
        passing = max(passing, copied + _play(unet, config, latent=latent, learns=False)[0])
    checkpoint = _bytes(learns) + optimizer + average
    return Forecast(
        weights=_bytes(learns) + _bytes(frozen),
        texts=0,
        optimizer=optimizer,
        average=0 if config.offload_ema else average,
        reducing=_bytes(learns) if processes > 1 else 0,
        passing=passing,
        checkpoint=checkpoint,
        disk=checkpoint * _kept(config, steps),
        operations=operations / config.train_batch_size,
    )


def _copied(learns: Sequence[Tensor], config: FitConfig) -> int:
    """Bytes of the average as it stands for the weights, where it is not kept as it is: see MovingAverage."""
    if not config.use_ema:
        return 0
    return _bytes(value for value in learns if config.offload_ema or value.dtype != torch.float32)


def _kept(config: FitConfig, steps: int) -> int:
    """How many checkpoints there will be at once: with a limit one more is written, and the best stays."""
    made = checkpoints_made(config, steps)
    limit = config.checkpoints_total_limit
    return made if limit is None else min(made, limit + 2 + config.checkpoint_at_start)


def _play(unet: Any, config: FitConfig, *, latent: tuple[int, int], learns: bool = True) -> tuple[int, float]:
    """The most bytes that a pass of one batch has alive at once beside the weights, and its operations.

    Without `learns` it is forward alone, as a look at the losses is.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rounds = min(config.gradient_accumulation_steps, 2)  # the second finds gradients there
    with FakeTensorMode():
        _make_fake(unet, device)
        unet.train()
        choose_attention(unet, config, device=device, positions=latent[0] * latent[1])
        if config.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        if config.fused_backward_pass:
            for value in unet.parameters():
                if value.requires_grad:
                    value.register_post_accumulate_grad_hook(_free)
        asked = _question(unet, config, latent=latent, device=device)
        live = LiveBytes([*unet.parameters(), *_tensors(asked)])
        for _ in range(rounds):
            with live, torch.set_grad_enabled(learns):
                with _autocast(config, device):
                    said = unet(**asked).sample
                if learns:
                    said.float().square().mean().backward()
                del said
    return live.peak, live.operations / rounds


def _autocast(config: FitConfig, device: str) -> Any:
    """As accelerate enters it."""
    if config.mixed_precision == "no" or config.full_bf16:
        return nullcontext()
    kind = torch.float16 if config.mixed_precision == "fp16" else torch.bfloat16
    return torch.autocast(device, dtype=kind)


def _question(unet: Any, config: FitConfig, *, latent: tuple[int, int], device: str) -> dict[str, Any]:
    """What the UNet is asked of a batch, by what its config says that it reads."""
    told, rows = unet.config, config.train_batch_size
    dtype = unet.conv_in.weight.dtype
    tokens = config.num_tokens or 0
    context = torch.empty(rows, _POSITIONS + tokens, told.cross_attention_dim, dtype=dtype, device=device)
    asked: dict[str, Any] = {
        "sample": torch.empty(rows, told.in_channels, *latent, dtype=dtype, device=device),
        "timestep": torch.empty(rows, dtype=torch.int64, device=device),
        "encoder_hidden_states": context.requires_grad_(bool(tokens)),
    }
    if told.addition_embed_type == "text_time":  # of SDXL: pooled text, and six numbers of sizes
        pooled = told.projection_class_embeddings_input_dim - 6 * told.addition_time_embed_dim
        asked["added_cond_kwargs"] = {
            "text_embeds": torch.empty(rows, pooled, dtype=dtype, device=device),
            "time_ids": torch.empty(rows, 6, device=device),
        }
    return asked


def _make_fake(model: nn.Module, device: str) -> None:
    """Put a fake tensor in the place of each parameter and buffer of a model on the meta device."""
    for module in model.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            fake = torch.empty(value.shape, dtype=value.dtype, device=device)
            setattr(module, name, nn.Parameter(fake, requires_grad=value.requires_grad))
        for name, held in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty(held.shape, dtype=held.dtype, device=device))


def _tensors(asked: dict[str, Any]) -> Iterable[Tensor]:
    for value in asked.values():
        yield from value.values() if isinstance(value, dict) else [value]


def _free(value: Tensor) -> None:
    value.grad = None


def _bytes(values: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in values)
