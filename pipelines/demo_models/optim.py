"""Muon for the inner matrices of small convolutional nets; AdamW (torch's own) takes the rest.

A convolution is a matrix [out, in*k*k]; its momentum is made orthogonal by five Newton-Schulz steps (Jordan
et al. 2024), so every direction learns equally fast. `torch.optim.Muon` takes two-dimensional parameters
only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic, from the Muon write-up
MOMENTUM = 0.95  # its default


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values about 1 (0.7 to 1.2), same shape [R, C]."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


class Muon:
    """Nesterov momentum, made orthogonal, for a list of weights of two or more dimensions."""

    def __init__(self, weights: list[nn.Parameter], *, learning_rate: float) -> None:
        self.weights = weights
        self.learning_rate = learning_rate
        self.momenta = [torch.zeros_like(weight) for weight in weights]

    @staticmethod
    def split(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters for Muon (inner convolutions with 8 or more channels on both sides) and for AdamW."""
        inner: list[nn.Parameter] = []
        outer: list[nn.Parameter] = []
        for weight in model.parameters():
            fits = weight.ndim == 4 and min(weight.shape[:2]) >= 8
            (inner if fits else outer).append(weight)
        return inner, outer

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every weight by `rate` times the learning rate; weights without a gradient stay."""
        for weight, momentum in zip(self.weights, self.momenta, strict=True):
            if weight.grad is None:
                continue
            momentum.mul_(MOMENTUM).add_(weight.grad)
            update = orthogonal(torch.add(weight.grad, momentum, alpha=MOMENTUM).flatten(1))
            stretch = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
            weight.add_(update.view_as(weight), alpha=-self.learning_rate * rate * stretch)

    def state_dict(self) -> dict[str, Any]:
        """The momenta, in the order of the weights."""
        return {"momenta": self.momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the momenta of a state dict of the same weights."""
        for momentum, kept in zip(self.momenta, state["momenta"], strict=True):
            momentum.copy_(kept)
