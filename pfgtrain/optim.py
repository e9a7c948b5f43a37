"""What learns, part by part, and what moves it: parameter groups, the optimizer, its learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pfgdata.errors import RunError
from pfgdata.hub import write_tensors
from pfgtrain.adapter import read_shapes, read_tensors
from pfgtrain.config import FitConfig

__all__ = ["Part", "make_lr_scheduler", "make_optimizer", "step_if_finite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Parameters that learn at one rate and stand in one file of a checkpoint."""

    name: str  # adapter, unet or lora
    file: str
    parameters: Mapping[str, nn.Parameter]  # by the file's keys
    fixed: Mapping[str, Tensor] = field(default_factory=dict)  # what the file holds beside them
    header: Mapping[str, str] | None = None

    @property
    def size(self) -> int:
        """Numbers that learn."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def write(self, folder: Path) -> None:
        """Write the values into the part's file, float32."""
        held = {**self.parameters, **self.fixed}
        state = {key: value.detach().float().cpu() for key, value in held.items()}
        write_tensors(folder / self.file, state, header=self.header)

    @torch.no_grad()
    def read(self, folder: Path) -> None:
        """Take the values from the part's file. Raises RunError if it is of other parameters."""
        self.require_fit(folder)
        state = read_tensors(folder / self.file)
        for key, value in {**self.parameters, **self.fixed}.items():
            value.copy_(state[key])

    def require_fit(self, folder: Path) -> None:
        """Raise RunError if the part's file is, by its header, of other parameters."""
        path = folder / self.file
        mine = {key: tuple(value.shape) for key, value in {**self.parameters, **self.fixed}.items()}
        if mine != read_shapes(path):
            raise RunError(f"{path}: holds other weights than this run's {self.name} has; start a new run")


def make_optimizer(parts: Sequence[Part], config: FitConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names, with a group for each part at its own learning rate."""
    groups: list[dict[str, Any]] = [
        {"name": part.name, "params": list(part.parameters.values()), "lr": config.peak_rate(part.name)[1]}
        for part in parts
    ]
    rate = groups[-1]["lr"]  # each group has its own; get_scheduler's polynomial scales from this
    return _OPTIMIZERS[config.optimizer](groups, rate, config)


def _adamw(groups: list[dict[str, Any]], rate: float, config: FitConfig) -> torch.optim.Optimizer:
    own = config.adamw
    betas = (own.beta1, own.beta2)
    return torch.optim.AdamW(
        groups, lr=rate, betas=betas, weight_decay=own.weight_decay, eps=own.epsilon, fused=True
    )


_OPTIMIZERS = {"adamw": _adamw}  # by the names of FitConfig.optimizer; the keys of each: config/optimizers.py


def step_if_finite(optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
    """One step of `optimizer`, or none where `norm`, that of its gradient, is not finite.

    Then weights, moments and counters of steps all stay. Fused Adam and AdamW are told so on the device; any
    other optimizer is a wait for it, for torch counts their steps on the host (and a fused SGD that is told
    at its first step goes on with momentum that nobody has set: torch 2.13).
    """
    fused = all(group.get("fused") for group in optimizer.param_groups)
    if fused and isinstance(optimizer, torch.optim.Adam):  # AdamW is one
        optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif norm.isfinite():
        optimizer.step()


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
