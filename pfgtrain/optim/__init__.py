"""What learns, part by part, and what moves it: the optimizer, its learning rates, the way it steps."""

from __future__ import annotations

from pfgtrain.optim.optimizers import (
    make_lr_scheduler,
    make_stepper,
    require_optimizer,
    state_bytes,
    step_bytes,
)
from pfgtrain.optim.parts import Part
from pfgtrain.optim.stepper import Stepper, gradient_norm, round_by_chance, step_if_finite

__all__ = [
    "Part",
    "Stepper",
    "gradient_norm",
    "make_lr_scheduler",
    "make_stepper",
    "require_optimizer",
    "round_by_chance",
    "state_bytes",
    "step_bytes",
    "step_if_finite",
]
