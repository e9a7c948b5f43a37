"""A step without a finite gradient is none, whatever the optimizer: nothing of it or of the weights moves."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pfgtrain.config import FitConfig
from pfgtrain.optim import Part, make_stepper, round_by_chance, state_bytes, step_if_finite

Make = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, fused=True),
    "AdamW fused, amsgrad": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True, fused=True),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, foreach=True),
    "AdamW one by one": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, foreach=False),
    "AdamW in two groups, one fused": lambda p: torch.optim.AdamW(
        [{"params": p[:1], "fused": True}, {"params": p[1:], "fused": False}], lr=0.1
    ),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "SGD with momentum, fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1, weight_decay=0.1),
    "Adagrad fused": lambda p: torch.optim.Adagrad(p, lr=0.1, fused=True),
}
GOOD, NAN, INF = 1.0, math.nan, math.inf


@dataclass
class Learner:
    """Two parameters and what moves them."""

    make: Make
    good: int = 0  # steps with a finite gradient

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,))]
        self.optimizer = self.make(self.parameters)

    def go(self, kinds: Sequence[float]) -> None:
        """A step for each of `kinds`; one number of the gradient is times that. Good ones differ."""
        for kind in kinds:
            self.good += kind == GOOD
            generator = torch.Generator().manual_seed(self.good)
            grads = [torch.randn(parameter.shape, generator=generator) for parameter in self.parameters]
            grads[-1][0] *= kind
            for parameter, grad in zip(self.parameters, grads, strict=True):
                parameter.grad = grad
            step_if_finite(self.optimizer, get_total_norm(grads))

    def state(self) -> dict[str, Tensor]:
        """All numbers it holds, by name; what a fresh optimizer would begin at 0 is left out at 0."""
        held = {f"weight {index}": p.detach() for index, p in enumerate(self.parameters)}
        for index, values in self.optimizer.state_dict()["state"].items():
            held |= {f"{name} {index}": v for name, v in values.items() if v is not None and v.any()}
        return held


def assert_same(one: Learner, other: Learner) -> None:
    ours, theirs = one.state(), other.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_without_a_finite_gradient_leaves_all_as_if_it_had_not_been(
    name: str, at: int, bad: float
) -> None:
    ours, theirs = Learner(OPTIMIZERS[name]), Learner(OPTIMIZERS[name])
    steps = [GOOD] * 3
    theirs.go(steps[:at])
    ours.go([*steps[:at], bad, bad])
    assert_same(ours, theirs)
    ours, theirs = Learner(OPTIMIZERS[name]), Learner(OPTIMIZERS[name])
    theirs.go(steps)
    ours.go([*steps[:at], bad, *steps[at:]])
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_skipped_step_goes_on_to_the_bit_from_a_saved_state(name: str) -> None:
    whole, cut, resumed = (Learner(OPTIMIZERS[name]) for _ in range(3))
    whole.go([NAN, GOOD, NAN, GOOD])
    cut.go([NAN, GOOD, NAN])
    file = io.BytesIO()
    torch.save((cut.optimizer.state_dict(), [p.data for p in cut.parameters]), file)
    file.seek(0)
    state, weights = torch.load(file, weights_only=True)
    resumed.optimizer.load_state_dict(state)
    for parameter, saved in zip(resumed.parameters, weights, strict=True):
        parameter.data.copy_(saved)
    resumed.good = cut.good
    resumed.go([GOOD])
    assert_same(resumed, whole)


def test_a_rounding_by_chance_takes_a_neighbour_and_is_right_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([1.0, -1.0, 1.0 + 2**-9, -0.3, 1e-30, 3e38, 0.0, torch.inf])
    rounded = torch.stack([round_by_chance(values, generator) for _ in range(4000)])
    exact = values.bfloat16().float() == values
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert torch.equal(rounded[:, exact], values[exact].expand(len(rounded), -1))
    finite = rounded[:, :6]
    assert all(len(column.unique()) <= 2 for column in finite.T)
    far = (finite.max(0).values - finite.min(0).values).clamp(min=1e-38)
    assert ((finite.double().mean(0) - values[:6]) / far).abs().max() < 0.03


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "adamw8bit"])
def test_steps_too_small_for_bf16_add_up(optimizer: str) -> None:
    """A step of 1e-5 is a hundredth of what lies between two bf16 numbers near 0.25."""
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    generator = torch.Generator().manual_seed(0)
    start = torch.rand((256, 256), generator=generator).bfloat16().float() + 0.25
    gradient = torch.randn(start.shape, generator=generator)
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = nn.Parameter(start.to(dtype, copy=True))
        config = FitConfig(optimizer=optimizer, learning_rate=1e-5)  # type: ignore[arg-type]
        stepper = make_stepper([Part(name="unet", file="f", parameters={"w": weight})], config)
        for step in range(50):
            weight.grad = gradient.to(dtype)
            stepper.begin(step=step)
            stepper.step(torch.ones(()))
            stepper.zero_grad()
        moved[dtype] = weight.detach().float() - start.to(dtype).float()
    wanted = moved[torch.float32]
    along = (moved[torch.bfloat16] * wanted).sum() / wanted.square().sum()
    assert along == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "adamw8bit"])
def test_what_an_optimizer_keeps_is_told_by_shapes(optimizer: str) -> None:
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    config = FitConfig(optimizer=optimizer)  # type: ignore[arg-type]
    weights = {str(shape): nn.Parameter(torch.ones(shape)) for shape in ((64, 128), (32, 16, 3, 3), (4096,))}
    stepper = make_stepper([Part(name="unet", file="f", parameters=weights)], config)
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    stepper.step(torch.ones(()))
    for weight in weights.values():
        held = [v for v in stepper.optimizer.state[weight].values() if isinstance(v, Tensor) and v.ndim]
        kept = sum(value.nbytes for value in held if value.shape != (256,))  # bitsandbytes' maps are shared
        assert state_bytes(weight.shape, config) == pytest.approx(kept, rel=0.01)
