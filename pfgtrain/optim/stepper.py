"""How weights are moved: not where a gradient is not finite, rounded by chance where they are bf16.

An optimizer sees float32 alone. Of a bf16 parameter it has a stand-in, empty but for the moment of its step:
so arithmetic and state are float32 whatever optimizer it is, and `load_state_dict`, which casts a state to
its parameter's dtype, keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pfgtrain.objective import seed_of

__all__ = ["Stepper", "gradient_norm", "round_by_chance", "step_if_finite"]


class Stepper:
    """An optimizer and how it steps: all parameters at once, or each as soon as its gradient stands."""

    def __init__(
        self,
        parts: Sequence[Sequence[Tensor]],
        make: Callable[[Sequence[Sequence[nn.Parameter]]], torch.optim.Optimizer],
        *,
        seed: int,
    ) -> None:
        """`make` builds the optimizer of what stands for the parameters of each part, a group a part."""
        moved = [[_stand_in(value) for value in part] for part in parts]
        self.optimizer = make(moved)
        self._learns = [value for part in parts for value in part]
        self._moves = [value for part in moved for value in part]
        self._group = [number for number, part in enumerate(parts) for _ in part]
        self._seed = seed
        self._step = 0
        self._norms: list[Tensor] = []
        self._rounds = any(one is not other for one, other in zip(self._learns, self._moves, strict=True))

    def begin(self, *, step: int) -> None:
        """Say that the gradients to come are those of optimizer step `step`: its roundings follow from it."""
        self._step = step
        self._norms = []

    def step(self, norm: Tensor) -> None:
        """Move all by their gradients, or nothing where `norm`, that of all of them, is not finite."""
        if not self._rounds:
            step_if_finite(self.optimizer, norm)
            return
        for index in range(len(self._learns)):
            self._step_alone(index, norm)

    def step_in_backward(self) -> None:
        """From now on move each parameter in the backward pass, then free its gradient.

        One whose gradient is not finite stays as it was; the others move.
        """
        for index, value in enumerate(self._learns):
            value.register_post_accumulate_grad_hook(partial(self._moved_in_backward, index))

    def taken_norm(self) -> Tensor:
        """The norm of the gradient by which the backward pass since `begin` has moved the parameters."""
        return torch.linalg.vector_norm(torch.stack(self._norms))

    def zero_grad(self) -> None:
        """Free all gradients."""
        for value in self._learns:
            value.grad = None

    @torch.no_grad()
    def _moved_in_backward(self, index: int, value: Tensor) -> None:
        norm = gradient_norm([value])
        self._norms.append(norm)
        self._step_alone(index, norm)
        value.grad = None

    @torch.no_grad()
    def _step_alone(self, index: int, norm: Tensor) -> None:
        """One parameter's step, with the optimizer's own arithmetic, state and learning rate."""
        value, moved = self._learns[index], self._moves[index]
        if value.grad is None:
            return
        if moved is not value:
            moved.data = value.detach().float()
            moved.grad = value.grad.float()
            value.grad = None
        groups = self.optimizer.param_groups
        self.optimizer.param_groups = [{**groups[self._group[index]], "params": [moved]}]
        try:
            step_if_finite(self.optimizer, norm)
        finally:
            self.optimizer.param_groups = groups
        if moved is not value:
            generator = torch.Generator(device=value.device)
            generator.manual_seed(seed_of("rounding", self._seed, self._step, index))
            value.copy_(round_by_chance(moved.data, generator))
            moved.data = moved.data.new_empty(0)
            moved.grad = None


def _stand_in(value: Tensor) -> nn.Parameter:
    """The parameter itself where it is float32, else an empty one that is."""
    if value.dtype == torch.float32 and isinstance(value, nn.Parameter):
        return value
    return nn.Parameter(torch.empty(0, dtype=torch.float32, device=value.device))


def round_by_chance(values: Tensor, generator: torch.Generator) -> Tensor:
    """Each of float32 `values` as one of its two neighbours in bf16, still as float32.

    The nearer is the likelier, so that the mean is the value; what is bf16 already stays. To the nearest, a
    step of less than 2^-9 of its weight would be lost each time.
    """
    noise = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device, generator=generator)
    return noise.add_(values.view(torch.int32)).bitwise_and_(-1 << 16).view(torch.float32)


def gradient_norm(values: Sequence[Tensor]) -> Tensor:
    """The norm of the gradient of all `values` together, float32 [], whatever dtype they have."""
    grads = [value.grad for value in values if value.grad is not None]
    if all(grad.dtype == torch.float32 for grad in grads):
        return get_total_norm(grads)
    norms = [torch.linalg.vector_norm(grad, dtype=torch.float32) for grad in grads]
    return torch.linalg.vector_norm(torch.stack(norms))


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
