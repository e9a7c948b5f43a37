"""How long a fit will take on this machine: some real steps of it, of which nothing is kept.

The models are loaded and moved as the run would move them, then forgotten; nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pfgdata.records import Progress, during
from pfgtrain.base import Base
from pfgtrain.batches import Batch, Batches
from pfgtrain.config import FitConfig
from pfgtrain.fit.data import FitData, Inputs, sets_of
from pfgtrain.fit.guards import memory_is_short, processes_together
from pfgtrain.fit.pictures import passes_of_pictures
from pfgtrain.fit.plan import FitPlan, checkpoints_made, settled
from pfgtrain.fit.trainer import Trainer
from pfgtrain.fit.validation import images_looked_at

__all__ = ["Timing", "time_fit"]

_WARM_UP = 2  # steps before those that count; of a further shape one is enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds that a fit will take on this machine, by some that it took."""

    steps: int  # optimizer steps that were timed
    step: float  # of one, the mean over the buckets by how often they come
    loading: float  # the models; as measured
    training: float  # all steps
    looking: float  # the losses of fixed rows and, at checkpoints, of images held out; the UNet's in pictures

    @property
    def seconds(self) -> float:
        """The run, but for captions encoded once, a picture's VAE and the writing of checkpoints."""
        return self.loading + self.training + self.looking

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "seconds": self.seconds}


def time_fit(
    data: FitData, base: Base, config: FitConfig, plan: FitPlan, *, steps: int, progress: Progress
) -> Timing:
    """Do `steps` steps of the fit of `plan`, after some to warm up, and say how long all of it would take.

    Of several processes each has to call it. Raises RunError where memory is short.
    """
    with memory_is_short(data.path, config), processes_together(data.path, plan.processes):
        begun = time.perf_counter()
        accelerator, base, config = settled(data, base, config)
        sized = base.family.reads_sizes
        batches = sets_of(data, config, processes=plan.processes, with_sizes=sized).train
        chosen = _spread(batches, data.latent_set.info.buckets, steps=steps)
        texts = dict.fromkeys(text for batch, _ in chosen for text in batch.texts or ())
        inputs = replace(Inputs.of(data, base, config).unmeasured(config), captions=tuple(texts))
        trainer = Trainer(inputs, config, accelerator=accelerator, total_steps=plan.steps, progress=progress)
        loading = time.perf_counter() - begun
        step, row = _measure(trainer, config, chosen, progress=progress)
    looks = 2 * images_looked_at("probe", plan.images)
    shown = images_looked_at("validate", plan.held_out) + passes_of_pictures(config, plan.held_out)
    looks += checkpoints_made(config, plan.steps) * shown
    return Timing(steps=steps, step=step, loading=loading, training=step * plan.steps, looking=looks * row)


def _spread(batches: Batches, sides: tuple[tuple[int, int], ...], *, steps: int) -> list[tuple[Batch, int]]:
    """A global batch of each bucket that is met at `steps` even distances through all batches, and how often.

    Batches stand there by their size, so that the sample has the sizes of an epoch in their shares.
    """
    bucket_N = batches.rows.bucket
    order = np.argsort([width * height for width, height in sides], kind="stable")
    often = -(-np.bincount(bucket_N, minlength=len(sides)) // batches.batch_size)
    ends = np.cumsum(often[order])
    places = (np.arange(steps) + 0.5) / steps * ends[-1]
    met, times = np.unique(order[np.searchsorted(ends, places, side="right")], return_counts=True)
    rows = [np.resize(np.flatnonzero(bucket_N == bucket), batches.batch_size) for bucket in met]
    read = [batches.probe(part, index=-1 - number) for number, part in enumerate(rows)]
    return list(zip(read, times.tolist(), strict=True))


def _measure(
    trainer: Trainer, config: FitConfig, chosen: list[tuple[Batch, int]], *, progress: Progress
) -> tuple[float, float]:
    """Seconds of an optimizer step, and of a forward pass for each of its rows: means over `chosen`."""
    took, passed = list[float](), list[float]()
    with during(progress, "time", total=sum(count for _, count in chosen), unit="steps"):
        for whole, count in chosen:
            batch = whole.part(trainer.part)
            size = len(batch.rows)
            middle = np.full(size, 0.5)

            def step(batch: Batch = batch) -> None:
                again = [replace(batch) for _ in range(config.gradient_accumulation_steps)]
                trainer.read_losses([trainer.step(again)])  # which waits for the device

            def look(batch: Batch = batch, middle: Any = middle) -> None:
                trainer.probe(batch, quantiles=middle)

            for _ in range(1 if took else _WARM_UP):
                step()
            took += [_seconds(step) for _ in range(count)]
            progress.advance(count)
            look()
            passed += [_seconds(look) / size for _ in range(count)]
    return sum(took) / len(took), sum(passed) / len(passed)


def _seconds(act: Callable[[], None]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun
