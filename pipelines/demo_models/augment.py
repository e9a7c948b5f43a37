"""Other views of a picture for the classifiers: moved, scaled, turned, lighter or darker, partly hidden.

No mirroring: a guide's feature should say left and right, and each style of the corpora faces one way anyhow.
Colours barely change, because hair colour is a tag. Shapes: B pictures, S side in pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFT = 0.12  # of half a side; portraits of one character differ by about as much
SCALE = (0.8, 1.2)
TURN = math.radians(8)
LIGHT = 0.12
HIDE = 0.25  # side of the hidden square, as a share of the picture's
HIDE_PROBABILITY = 0.25


def generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The generator of one global step."""
    return torch.Generator(device).manual_seed((seed << 32) + step)


def augment(pictures_B3SS: Tensor, *, size: int, dice: torch.Generator) -> Tensor:
    """Pictures in -1..1 seen anew at [B, 3, size, size]; each row by its own draws from `dice`."""
    count = len(pictures_B3SS)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=dice, device=pictures_B3SS.device)

    turn, zoom = draw(-TURN, TURN), 1 / draw(*SCALE)
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    rows = [cos, -sin, draw(-SHIFT, SHIFT), sin, cos, draw(-SHIFT, SHIFT)]
    theta_B23 = torch.stack(rows, 1).view(count, 2, 3)
    grid = F.affine_grid(theta_B23, [count, 3, size, size], align_corners=False)
    moved = F.grid_sample(pictures_B3SS, grid, padding_mode="border", align_corners=False)
    light = (draw(1 - LIGHT, 1 + LIGHT)[:, None, None, None], draw(-LIGHT, LIGHT)[:, None, None, None])
    return _hide((moved * light[0] + light[1]).clamp(-1, 1), draw)


def _hide(pictures_B3SS: Tensor, draw: object) -> Tensor:
    """A grey square over some of the pictures, so that no single spot decides."""
    assert callable(draw)
    size = pictures_B3SS.shape[-1]
    at = torch.arange(size, device=pictures_B3SS.device) / size
    top, left = draw(0, 1 - HIDE)[:, None], draw(0, 1 - HIDE)[:, None]
    inside_y, inside_x = (at >= top) & (at < top + HIDE), (at >= left) & (at < left + HIDE)
    hidden = inside_y[:, :, None] & inside_x[:, None, :] & (draw(0, 1) < HIDE_PROBABILITY)[:, None, None]
    return pictures_B3SS.masked_fill(hidden[:, None], 0.0)
