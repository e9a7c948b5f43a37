"""How a classifier sees two pictures: the demo tagger's maps as a distance that a VAE can learn from.

A mean over pixels is content with a grey smear where a line is; the maps of a net that tells smiles from
frowns are not. The tagger and never the judge, who must have had no part in anything that it measures.
Shapes: B pictures, S side in pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfgdata.hub import DEMO, resolve

SIDE = 112  # behind the pool of the demo tagger's graph, of 448 px


class SeenMaps(nn.Module):
    """The rectified maps of the demo tagger's graph, as torch computes them; its weights do not learn."""

    def __init__(self, graph: Path | None = None) -> None:
        super().__init__()
        import onnx
        from onnx import numpy_helper

        path = graph or resolve(DEMO, what="tagger").folder / "model.onnx"
        nodes = onnx.load(path).graph
        self._nodes = [node for node in nodes.node if node.op_type in ("Conv", "Relu", "Add")]
        stored = {one.name: numpy_helper.to_array(one) for one in nodes.initializer}
        casts = {node.output[0]: node.input[0] for node in nodes.node if node.op_type == "Cast"}
        for node in self._nodes:
            if node.op_type == "Conv":
                for name in node.input[1:]:
                    weight = torch.from_numpy(stored[casts.get(name, name)].copy()).float()
                    self.register_buffer(name, weight)
        pooling = next(
            n for n, node in enumerate(self._nodes) if node.op_type == "Add" and not _of_maps(node)
        )
        self._nodes = self._nodes[:pooling]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The map behind each residual sum and each step down, of pictures in -1..1 [B, 3, S, S]."""
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        known: dict[str, Tensor] = {}
        maps = []
        for node in self._nodes:
            first = known.get(node.input[0], x)
            if node.op_type == "Conv":
                made = self._conv(node, first)
            elif node.op_type == "Add":
                made = first + known[node.input[1]]
            else:
                made = torch.relu(first)
                maps.append(made)
            known[node.output[0]] = made
        return maps

    def _conv(self, node: Any, x: Tensor) -> Tensor:
        told = {one.name: one for one in node.attribute}
        weight, bias = (self.get_buffer(name) for name in node.input[1:])
        return F.conv2d(x, weight, bias, stride=told["strides"].ints[0], padding=told["pads"].ints[0])


def _of_maps(node: Any) -> bool:
    """Whether an Add joins two maps: the last one joins a mean and a maximum."""
    return not any("pool" in name for name in node.input)


def seen_distance(maps: SeenMaps, drawn: Tensor, truth: Tensor) -> Tensor:
    """The mean over maps of the L1 between them, each in units of the true map's mean."""
    with torch.no_grad():
        wanted = maps(truth)
    terms = [
        (is_ - be).abs().mean() / be.mean().clamp(min=1e-3)
        for is_, be in zip(maps(drawn), wanted, strict=True)
    ]
    return torch.stack(terms).mean()
