"""Rows as a function of (seed, epoch, position): images in batches; which are held out."""

from __future__ import annotations

from pfgtrain.batches.batches import Batch, Batches, EpochPlan, Texts, plan_epoch
from pfgtrain.batches.rows import Places, Rows, TaggerVectors, Vectors, join
from pfgtrain.batches.split import held_out, trained_part

__all__ = [
    "Batch",
    "Batches",
    "EpochPlan",
    "Places",
    "Rows",
    "TaggerVectors",
    "Texts",
    "Vectors",
    "held_out",
    "join",
    "plan_epoch",
    "trained_part",
]
