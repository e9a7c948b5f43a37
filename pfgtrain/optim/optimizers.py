"""The optimizers that a fit may name, each made with its own keys, and the shape of their learning rates."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pfgdata.errors import ConfigError
from pfgtrain.config import FitConfig
from pfgtrain.optim.parts import Part
from pfgtrain.optim.stepper import Stepper

__all__ = ["make_lr_scheduler", "make_stepper", "require_optimizer", "state_bytes", "step_bytes"]

Groups = list[dict[str, Any]]


def make_stepper(parts: Sequence[Part], config: FitConfig) -> Stepper:
    """The optimizer that `config` names and its way to step, a group for each part at its own learning rate.

    Raises ConfigError for an optimizer that is not installed.
    """
    require_optimizer(config)

    def make(moved: Sequence[Sequence[torch.nn.Parameter]]) -> torch.optim.Optimizer:
        groups: Groups = [
            {"name": part.name, "params": list(own), "lr": config.peak_rate(part.name)[1]}
            for part, own in zip(parts, moved, strict=True)
        ]
        rate = groups[-1]["lr"]  # each group has its own; get_scheduler's polynomial scales from this
        return _OPTIMIZERS[config.optimizer](groups, rate, config)

    learns = [list(part.parameters.values()) for part in parts]
    return Stepper(learns, make, seed=config.seed)


def require_optimizer(config: FitConfig) -> None:
    """Raise ConfigError unless the optimizer that `config` names is installed."""
    if config.optimizer == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            'optimizer = "adamw8bit" is of bitsandbytes, which is not installed; pip install bitsandbytes,'
            ' or take optimizer = "adafactor"'
        )


def _adamw(groups: Groups, rate: float, config: FitConfig) -> torch.optim.Optimizer:
    own = config.adamw
    betas = (own.beta1, own.beta2)
    return torch.optim.AdamW(
        groups, lr=rate, betas=betas, weight_decay=own.weight_decay, eps=own.epsilon, fused=True
    )


def _adamw8bit(groups: Groups, rate: float, config: FitConfig) -> torch.optim.Optimizer:
    own = config.adamw8bit
    module = importlib.import_module("bitsandbytes.optim")
    made: torch.optim.Optimizer = module.AdamW8bit(
        groups, lr=rate, betas=(own.beta1, own.beta2), weight_decay=own.weight_decay, eps=own.epsilon
    )
    return made


def _adafactor(groups: Groups, rate: float, config: FitConfig) -> torch.optim.Optimizer:
    from transformers.optimization import Adafactor

    own = config.adafactor
    return Adafactor(
        groups,
        lr=rate,
        eps=(own.epsilon, 1e-3),  # the second floors the scale of a parameter, with scale_parameter
        clip_threshold=own.clip_threshold,
        decay_rate=own.decay_rate,
        beta1=own.beta1,
        weight_decay=own.weight_decay,
        scale_parameter=own.scale_parameter,
        relative_step=False,
    )


_OPTIMIZERS: dict[str, Callable[[Groups, float, FitConfig], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adafactor": _adafactor,
}  # by the names of FitConfig.optimizer; the keys of each: config/optimizers.py


def state_bytes(shape: torch.Size, config: FitConfig) -> int:
    """What the optimizer of `config` keeps for a tensor of `shape`, but for single numbers, in bytes."""
    numbers = shape.numel()
    if config.optimizer == "adafactor":
        factored = numbers // shape[-1] + numbers // shape[-2] if len(shape) > 1 else numbers
        return 4 * (factored + (numbers if config.adafactor.beta1 is not None else 0))
    if config.optimizer == "adamw8bit" and numbers >= 4096:  # bitsandbytes' min_8bit_size
        return 2 * numbers + 2 * 4 * -(-numbers // 256)  # a scale for each block of 256
    return 8 * numbers


def step_bytes(shapes: Sequence[torch.Size], config: FitConfig) -> int:
    """What a step takes beside gradients and state for the moment of the largest of `shapes`, in bytes."""
    largest = max(shape.numel() for shape in shapes)
    alone = 3 * 4 if config.full_bf16 else 0  # weight and gradient in float32, what is rounded by
    return largest * (alone + (3 * 4 if config.optimizer == "adafactor" else 0))


def make_lr_scheduler(optimizer: torch.optim.Optimizer, config: FitConfig, *, total_steps: int) -> Any:
    """The shape of the learning rates over `total_steps` optimizer steps, by diffusers."""
    from diffusers.optimization import get_scheduler

    return get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=total_steps,
        num_cycles=config.lr_num_cycles,
        power=config.lr_power,
    )
