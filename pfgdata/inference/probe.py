"""How many images a model call should take, found by trying."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pfgdata.inference.machine import CPU

__all__ = ["Probed", "choose_batch_size"]

# On a CPU it does not matter: 1, 2, 4 and 8 took 3.6, 3.3, 3.3, 3.6 ms of one core an image with the demo
# tagger, 212, 210, 212, 219 ms with two blocks of a ViT-B at 448 px.
_CPU_BATCH = 8
_GPU_BATCHES = (16, 32, 64, 128, 256)
_GAIN = 1.03  # a larger batch costs memory and latency: it must be 3 % faster
_RUNS = 2  # the faster one counts; one more before them chooses algorithms and makes buffers


class Probed(Protocol):
    """What of a model is asked here."""

    @property
    def batch_size(self) -> int | None:
        """The only batch its graph takes; None if any."""

    @property
    def image_size(self) -> int:
        """Side of the square, in pixels."""

    @property
    def provider(self) -> str:
        """What it runs on."""

    def predict(self, images: npt.NDArray[np.uint8], /) -> object:
        """What it makes of images."""


def choose_batch_size(
    model: Probed,
    *,
    candidates: Sequence[int] | None = None,
    seconds: float = 10.0,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The smallest of `candidates` (ascending) after which a larger one is not 3 % faster.

    A graph of one batch size gives that; a CPU gives 8 untried, unless `candidates` are named. A candidate is
    not begun if it would end later than `seconds` after the start. One that does not fit into memory makes
    `predict` halve its batches and so is no gain. Raises ModelError if not one image fits.
    """
    if model.batch_size is not None:
        return model.batch_size
    if candidates is None:
        if model.provider == CPU:
            return _CPU_BATCH
        candidates = _GPU_BATCHES
    start = clock()
    chosen, best = candidates[0], 0.0
    for size in candidates:
        expected = (_RUNS + 1) * size / best if best else 0.0
        if clock() - start + expected > seconds:
            break
        rate = _rate(model, size, clock)
        if rate < _GAIN * best:
            break
        chosen, best = size, rate
    return chosen


def _rate(model: Probed, size: int, clock: Callable[[], float]) -> float:
    """Images a second in batches of `size`."""
    images = np.zeros((size, model.image_size, model.image_size, 3), np.uint8)
    model.predict(images)
    times = []
    for _ in range(_RUNS):
        before = clock()
        model.predict(images)
        times.append(clock() - before)
    return size / max(min(times), 1e-9)
