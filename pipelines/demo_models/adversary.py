"""A small discriminator of patches, late in a decoder's training: for lines as sharp as true ones.

A mean over pixels is least where a line that may lie here or there is grey in both places; who tells drawn
patches from true ones does not take that. PatchGAN of pix2pix (Isola et al., 2017), hinge loss, its weight
the ratio of gradients at the last layer, as in VQGAN (Esser et al., 2021).
Shapes: B pictures, S side in pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (32, 64, 96)
ALONE = 100  # steps in which it learns and says nothing yet
MOST = 100.0  # that the ratio of gradients may be


class Adversary:
    """Learns to tell pictures from drawings, and says what drawings lack."""

    def __init__(self, *, share: float, learning_rate: float = 4e-4) -> None:
        """`share` of the gradient that the other terms have at the decoder's last layer."""
        self.share = share
        self.net = _patch_net()
        self.adam = torch.optim.Adam(self.net.parameters(), lr=learning_rate, betas=(0.5, 0.9))
        self.steps = 0

    def term(self, drawn: Tensor, truth: Tensor, *, found: Tensor, last: Tensor) -> Tensor:
        """What is added to the loss `found` of drawings [B, 3, S, S] by the layer `last`; it learns first."""
        self.learn(drawn.detach(), truth)
        if self.steps <= ALONE:
            return found.new_zeros(())
        self.net.requires_grad_(False)
        lacking = -self._told(drawn).mean()
        self.net.requires_grad_(True)
        theirs, ours = (
            torch.autograd.grad(value, last, retain_graph=True)[0].norm() for value in (found, lacking)
        )
        return self.share * (theirs / ours.clamp(min=1e-4)).clamp(max=MOST) * lacking

    def learn(self, drawn: Tensor, truth: Tensor) -> float:
        """Take a step; the hinge loss before it: 2 where nothing is told apart, 0 where all is."""
        told = F.relu(1 - self._told(truth)).mean() + F.relu(1 + self._told(drawn)).mean()
        self.adam.zero_grad()
        told.backward()
        self.adam.step()
        self.steps += 1
        return float(told.detach())

    def _told(self, pictures: Tensor) -> Tensor:
        """A number of each patch, in float32 also under autocast: above 0 for a true one."""
        numbers: Tensor = self.net(pictures)
        return numbers.float()

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"net": self.net.state_dict(), "adam": self.adam.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be as it was."""
        self.net.load_state_dict(state["net"])
        self.adam.load_state_dict(state["adam"])
        self.steps = state["steps"]


def _patch_net() -> nn.Sequential:
    """A number of each patch of 22 px, one every fourth pixel."""
    first, second, third = WIDTHS
    return nn.Sequential(
        nn.Conv2d(3, first, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(first, second, 4, 2, 1),
        nn.GroupNorm(8, second),
        nn.LeakyReLU(0.2),
        nn.Conv2d(second, third, 3, 1, 1),
        nn.GroupNorm(8, third),
        nn.LeakyReLU(0.2),
        nn.Conv2d(third, 1, 3, 1, 1),
    )
