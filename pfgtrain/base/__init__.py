"""A base: a checkpoint of a family that is known, checked by its configs, its parts loaded when asked for."""

from __future__ import annotations

from pfgtrain.base.configs import PredictionType
from pfgtrain.base.devices import onnx_device, placement
from pfgtrain.base.families import Family, HasParts, LdmFacts
from pfgtrain.base.known import FAMILIES, family_named
from pfgtrain.base.model import SAMPLER, Base, require_same_base, require_same_width
from pfgtrain.base.prompts import ClipText, EmptyPrompt, TextModels, empty_row, encode_prompts

__all__ = [
    "FAMILIES",
    "SAMPLER",
    "Base",
    "ClipText",
    "EmptyPrompt",
    "Family",
    "HasParts",
    "LdmFacts",
    "PredictionType",
    "TextModels",
    "empty_row",
    "encode_prompts",
    "family_named",
    "onnx_device",
    "placement",
    "require_same_base",
    "require_same_width",
]
