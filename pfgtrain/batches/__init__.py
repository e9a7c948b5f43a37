"""Rows as a function of (seed, epoch, position): images with their latents and features, in batches."""

from __future__ import annotations

from pfgtrain.batches.batches import Batch, Batches, EpochPlan, Texts, plan_epoch
from pfgtrain.batches.rows import Places, Rows, TaggerVectors, Vectors, join

__all__ = [
    "Batch",
    "Batches",
    "EpochPlan",
    "Places",
    "Rows",
    "TaggerVectors",
    "Texts",
    "Vectors",
    "join",
    "plan_epoch",
]
