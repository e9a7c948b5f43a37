"""A base: a Stable Diffusion 1 or 2 checkpoint, checked by its configs, its parts loaded when asked for."""

from __future__ import annotations

from pfgtrain.base.configs import PredictionType
from pfgtrain.base.devices import onnx_device, placement
from pfgtrain.base.families import Family, HasParts, LdmFacts
from pfgtrain.base.model import SAMPLER, Base, require_same_base, require_same_width
from pfgtrain.base.prompts import ClipText, TextModels, encode_prompts
from pfgtrain.base.stable_diffusion import FAMILIES, family_named

__all__ = [
    "FAMILIES",
    "SAMPLER",
    "Base",
    "ClipText",
    "Family",
    "HasParts",
    "LdmFacts",
    "PredictionType",
    "TextModels",
    "encode_prompts",
    "family_named",
    "onnx_device",
    "placement",
    "require_same_base",
    "require_same_width",
]
