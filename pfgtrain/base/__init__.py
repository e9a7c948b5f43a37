"""A base: a Stable Diffusion 1 or 2 checkpoint, checked by its configs, its parts loaded when asked for."""

from __future__ import annotations

from pfgtrain.base.configs import PredictionType
from pfgtrain.base.devices import onnx_device, placement
from pfgtrain.base.model import SAMPLER, Base, Family, require_same_base, require_same_width

__all__ = [
    "SAMPLER",
    "Base",
    "Family",
    "PredictionType",
    "onnx_device",
    "placement",
    "require_same_base",
    "require_same_width",
]
