"""The two classifiers: the tagger (plain residual convolutions) and the judge (gated depthwise blocks).

Both end in a 768-wide feature and ONE dense layer, as the WD14 taggers do. Every norm is a batch norm right
behind a convolution, so that it folds into it and the exported graph is bare convolutions.
Shapes: B pictures, S side in pixels, F = 768 features, V tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FEATURE_DIM = 768  # of wd-v1-4-vit-tagger-v2, whose interface both have


def normalise(pixels_BSSC: Tensor) -> Tensor:
    """uint8 RGB [B, S, S, 3] to float [B, 3, S, S] in -1..1, as (x - 127.5) / 127.5 inside the real graph."""
    return pixels_BSSC.permute(0, 3, 1, 2).float().sub(127.5).div(127.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A convolution and its batch norm as the one convolution that does the same in eval."""

    weight: Tensor  # [out, in / groups, k, k]
    bias: Tensor  # [out]
    stride: int
    padding: int
    groups: int


class ConvNorm(nn.Sequential):
    """A convolution with an odd kernel, and its batch norm."""

    def __init__(self, into: int, out: int, *, stride: int = 1, kernel: int = 3, groups: int = 1) -> None:
        conv = nn.Conv2d(into, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out))
        self.shape = (stride, kernel // 2, groups)

    def folded(self) -> Folded:
        """Both as one convolution."""
        conv, norm = self[0], self[1]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        stride, padding, groups = self.shape
        return Folded(
            weight=(conv.weight * scale[:, None, None, None]).detach(),
            bias=(norm.bias - norm.running_mean * scale).detach(),
            stride=stride,
            padding=padding,
            groups=groups,
        )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a skip; ReLU after the first and after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = ConvNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, S, S] to the same shape."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class TaggerNet(nn.Module):
    """The demo tagger behind its average pool: RGB in -1..1 [B, 3, 112, 112] to logits and features."""

    def __init__(self, num_tags: int, *, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = 3
        for width, count in zip(widths, blocks, strict=True):
            layers += [ConvNorm(into, width, stride=2), nn.ReLU(), *(Residual(width) for _ in range(count))]
            into = width
        self.body = nn.Sequential(*layers)
        self.neck = ConvNorm(into, FEATURE_DIM, kernel=1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(FEATURE_DIM, num_tags)

    def features(self, x: Tensor) -> Tensor:
        """[B, F]: mean of average and max over the last map; the max keeps small things such as earrings."""
        last = torch.relu(self.neck(self.body(x)))
        return (last.mean((2, 3)) + last.amax((2, 3))) / 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, V] and features [B, F]."""
        features = self.features(x)
        return self.head(self.drop(features)), features


class GatedBlock(nn.Module):
    """Depthwise 7x7, then a gated pair of 1x1: another way of seeing than the tagger's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = ConvNorm(width, width, kernel=7, groups=width)
        self.value = nn.Conv2d(width, 2 * width, 1)
        self.gate = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, S, S] to the same shape."""
        mixed = self.mix(x)
        return x + self.narrow(self.value(mixed) * torch.sigmoid(self.gate(mixed)))


class JudgeNet(nn.Module):
    """The judge behind its average pool: RGB in -1..1 [B, 3, 96, 96], patches of 4 px, gated stages."""

    def __init__(self, num_tags: int, *, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into, patch = 3, 4
        for width, count in zip(widths, blocks, strict=True):
            layers += [nn.Conv2d(into, width, patch, patch), *(GatedBlock(width) for _ in range(count))]
            into, patch = width, 2
        self.body = nn.Sequential(*layers)
        self.neck = ConvNorm(into, FEATURE_DIM, kernel=1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(FEATURE_DIM, num_tags)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, V] and features [B, F], the plain average over the last map."""
        features = torch.relu(self.neck(self.body(x))).mean((2, 3))
        return self.head(self.drop(features)), features
