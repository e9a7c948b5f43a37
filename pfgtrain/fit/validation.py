"""Losses that can be compared: fixed rows, noise and timesteps, of images trained on or held out."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from pfgdata.records import Progress, during
from pfgtrain.batches import Batches
from pfgtrain.fit.trainer import Trainer

__all__ = ["fixed_loss", "images_looked_at"]

Task = Literal["probe", "validate"]
_MOST: dict[Task, int] = {  # images
    "probe": 32,  # enough: the same rows, noise and timesteps are used at the start and at the end
    "validate": 256,  # forward passes alone, with each checkpoint
}


def images_looked_at(task: Task, images: int) -> int:
    """How many of so many images `fixed_loss` looks at."""
    return min(images, _MOST[task])


def fixed_loss(trainer: Trainer, batches: Batches, *, task: Task, progress: Progress) -> float:
    """Mean loss over some images spread over `batches`, all conditioned, at timesteps spread evenly.

    A function of the weights alone. An image whose loss is not finite (its latent has gone bad) is left out;
    NaN where that is so of all.
    """
    count = images_looked_at(task, len(batches.rows))
    rows = np.linspace(0, len(batches.rows) - 1, count).round().astype(np.int64)
    quantiles = (np.random.default_rng(0).permutation(count) + 0.5) / count
    buckets, losses = batches.rows.bucket[rows], list[float]()
    with during(progress, task, total=count):
        for number, bucket in enumerate(np.unique(buckets)):
            mine = np.flatnonzero(buckets == bucket)
            batch = batches.probe(rows[mine], index=-1 - number)
            losses += trainer.probe(batch, quantiles=quantiles[mine], progress=progress)
        finite = [loss for loss in losses if math.isfinite(loss)]
        loss = sum(finite) / len(finite) if finite else math.nan
        progress.advance(0, loss=loss)
    return loss
