"""Writes SwinV2 and EVA02 taggers of random numbers, by torch, as large as wd-swinv2-tagger-v3 or smaller.

Built as timm builds both (public: swin_transformer_v2.py, eva.py), exported by torch's own exporter. Swin:
cosine attention in windows, a scale and a bias by relative position for each head, every second shifted and
masked. EVA02: rotary position embedding of all tokens but the first, SwiGLU with a LayerNorm within.

Shapes: N images, H and W patches, T tokens of a window or an image, C width, D width of a head.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.vit_tagger import NUM_TAGS, selected_tags

__all__ = ["EvaShape", "SwinShape", "write_torch_tagger"]


@dataclass(frozen=True, kw_only=True)
class SwinShape:
    """The sizes of a SwinV2; by default those of wd-swinv2-tagger-v3 (base, windows of 14)."""

    side: int = 448
    patch: int = 4
    window: int = 14
    width: int = 128
    blocks: tuple[int, ...] = (2, 2, 18, 2)  # of each stage; the width doubles between two
    head_width: int = 32
    tags: int = NUM_TAGS


@dataclass(frozen=True, kw_only=True)
class EvaShape:
    """The sizes of an EVA02; by default those of base at 448 px (large: 1024 wide, 24 blocks, 16 heads)."""

    side: int = 448
    patch: int = 14
    width: int = 768
    blocks: int = 12
    heads: int = 12
    tags: int = NUM_TAGS


def write_torch_tagger(folder: Path, shape: SwinShape | EvaShape, *, seed: int = 18, opset: int = 17) -> None:
    """Write model.onnx, selected_tags.csv (of 9,083 tags) and UNTRAINED into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = (Swin(shape) if isinstance(shape, SwinShape) else Eva(shape)).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one; that shapes are traced
        for name, weight in model.named_parameters():
            spread = 0.1 if weight.ndim == 1 else 1.5 * weight[0].numel() ** -0.5
            nn.init.normal_(weight, 1.0 if "norm" in name and name.endswith("weight") else 0.0, spread)
        torch.onnx.export(
            model,
            (torch.zeros(2, shape.side, shape.side, 3),),
            str(folder / "model.onnx"),
            opset_version=opset,
            dynamo=False,  # as the published files; the other exporter needs onnxscript
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        )
    (folder / "selected_tags.csv").write_text(selected_tags())
    (folder / "UNTRAINED").write_text("random weights, for measurements\n")


def _image(x: Tensor) -> Tensor:
    """BGR 0..255 [N, S, S, 3] as [N, 3, S, S] in -1..1."""
    return (x.permute(0, 3, 1, 2) - 127.5) / 127.5


class Swin(nn.Module):
    """A SwinV2 that tags."""

    def __init__(self, shape: SwinShape) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.norm0 = nn.LayerNorm(shape.width)
        side, width = shape.side // shape.patch, shape.width
        layers: list[nn.Module] = []
        for stage, count in enumerate(shape.blocks):
            if stage:
                layers.append(Merging(width))
                side, width = side // 2, width * 2
            window = min(shape.window, side)
            for block in range(count):
                shift = shape.window // 2 if block % 2 and side > window else 0
                layers.append(SwinBlock(side, width, width // shape.head_width, window, shift))
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, shape.tags)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm0(self.patches(_image(x)).permute(0, 2, 3, 1))
        return cast("Tensor", self.head(self.norm(self.layers(x)).mean((1, 2))).sigmoid())


class Merging(nn.Module):
    """Four patches become one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction, self.norm = nn.Linear(4 * width, 2 * width, bias=False), nn.LayerNorm(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        images, height, width, depth = x.shape
        x = x.reshape(images, height // 2, 2, width // 2, 2, depth).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return cast("Tensor", self.norm(self.reduction(x)))


class SwinBlock(nn.Module):
    """Attention in windows, shifted or not, and an MLP, each normalized before it is added."""

    attn_mask: Tensor | None

    def __init__(self, side: int, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.attention = WindowAttention(width, heads, window)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.register_buffer("attn_mask", _mask(side, window, shift) if shift else None)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self._attend(x))
        images, height, width, depth = x.shape
        x = x.reshape(images, -1, depth)
        return (x + self.norm2(self.mlp(x))).reshape(images, height, width, depth)

    def _attend(self, x: Tensor) -> Tensor:
        _, height, width, depth = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = _windows(x, self.window).view(-1, self.window**2, depth)
        x = self.attention(x, self.attn_mask).view(-1, self.window, self.window, depth)
        rows, columns = height // self.window, width // self.window
        x = x.view(-1, rows, columns, self.window, self.window, depth).permute(0, 1, 3, 2, 4, 5)
        x = x.contiguous().view(-1, height, width, depth)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class WindowAttention(nn.Module):
    """Cosine attention with a scale and a bias by relative position for each head."""

    index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.logit_scale = nn.Parameter(torch.log(10 * torch.ones(heads, 1, 1)))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.biases = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))  # timm: of an MLP, a constant
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None, :] + window - 1
        self.register_buffer("index", apart[0] * (2 * window - 1) + apart[1])

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        windows, tokens, width = x.shape
        qkv = self.qkv(x).reshape(windows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        attention = attention * torch.clamp(self.logit_scale, max=4.6052).exp()  # log(1 / 0.01)
        bias = self.biases[self.index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
        attention = attention + (16 * torch.sigmoid(bias)).unsqueeze(0)
        if mask is not None:
            attention = attention.view(-1, mask.shape[0], self.heads, tokens, tokens)
            attention = (attention + mask.unsqueeze(1).unsqueeze(0)).view(-1, self.heads, tokens, tokens)
        x = (attention.softmax(-1) @ v).transpose(1, 2).reshape(windows, tokens, width)
        return cast("Tensor", self.proj(x))


def _windows(x: Tensor, window: int) -> Tensor:
    """[N, H, W, C] as [N H/window W/window, window, window, C]."""
    images, height, width, depth = x.shape
    x = x.view(images, height // window, window, width // window, window, depth)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window, window, depth)


def _mask(side: int, window: int, shift: int) -> Tensor:
    """-100 between tokens of a window, shifted, that lie at different edges of the image [windows, T, T]."""
    region = torch.zeros(side)
    region[-window:-shift], region[-shift:] = 1, 2
    regions = (3 * region[:, None] + region[None, :])[None, :, :, None]
    regions = _windows(regions, window).view(-1, window**2)
    return torch.where(regions[:, None] == regions[:, :, None], 0.0, -100.0)


class Eva(nn.Module):
    """An EVA02 that tags: the mean of all tokens but the first, normalized."""

    def __init__(self, shape: EvaShape) -> None:
        super().__init__()
        count = (shape.side // shape.patch) ** 2
        self.patches = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.first = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.positions = nn.Parameter(torch.zeros(1, count + 1, shape.width))
        turns = _turns(shape.side // shape.patch, shape.width // shape.heads)
        self.blocks = nn.Sequential(*[EvaBlock(shape.width, shape.heads, turns) for _ in range(shape.blocks)])
        self.norm, self.head = nn.LayerNorm(shape.width, eps=1e-6), nn.Linear(shape.width, shape.tags)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(_image(x)).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return cast("Tensor", self.head(self.norm(self.blocks(x)[:, 1:].mean(1))).sigmoid())


class EvaBlock(nn.Module):
    """Attention of turned queries and keys, and a SwiGLU with a LayerNorm within."""

    sin: Tensor
    cos: Tensor

    def __init__(self, width: int, heads: int, turns: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.heads, hidden = heads, width * 8 // 3
        self.register_buffer("sin", turns[0])
        self.register_buffer("cos", turns[1])
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.norm3 = nn.LayerNorm(hidden, eps=1e-6)
        self.q, self.k, self.v = (
            nn.Linear(width, width),
            nn.Linear(width, width, False),
            nn.Linear(width, width),
        )
        self.proj = nn.Linear(width, width)
        self.gate, self.inner = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.norm1(x))
        y = self.norm2(x)
        return x + cast("Tensor", self.outer(self.norm3(functional.silu(self.gate(y)) * self.inner(y))))

    def _attend(self, x: Tensor) -> Tensor:
        images, tokens, width = x.shape
        q, k, v = (part(x).reshape(images, tokens, self.heads, -1).transpose(1, 2) for part in self._parts())
        q, k = (torch.cat([one[:, :, :1], self._turned(one[:, :, 1:])], 2) for one in (q, k))
        x = functional.scaled_dot_product_attention(q, k, v)
        return cast("Tensor", self.proj(x.transpose(1, 2).reshape(images, tokens, width)))

    def _parts(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        return self.q, self.k, self.v

    def _turned(self, x: Tensor) -> Tensor:
        """Each pair of numbers of [.., T, D], turned by the angle of its token."""
        crossed = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        return x * self.cos + crossed * self.sin


def _turns(side: int, depth: int) -> tuple[Tensor, Tensor]:
    """Sines and cosines of the angles [T, D] of `side` x `side` patches; as if they were 16 x 16."""
    bands = 1 / 10000 ** (torch.arange(0, depth // 2, 2) / (depth // 2))
    at = torch.arange(side) / side * 16
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    angles = torch.stack([rows, columns], -1).reshape(-1, 2, 1) * bands
    angles = angles.flatten(1).repeat_interleave(2, -1)
    return angles.sin(), angles.cos()
