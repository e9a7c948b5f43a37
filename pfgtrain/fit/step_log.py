"""What steps came to: read from the device now and then, written to metrics.jsonl, and judged.

A look is a wait for the device, so between two of them nothing is known: a step whose gradient is not finite
has been skipped there already, and is only named here.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from pfgdata.errors import RunError
from pfgdata.records import Progress
from pfgtrain.batches import Batches
from pfgtrain.checkpoint import append_metrics, newest_is
from pfgtrain.config import FitConfig
from pfgtrain.fit.trainer import Outcome, Trainer

__all__ = ["StepLog", "not_finite"]

_NAMED = 4  # images of a skipped step that are named on screen; metrics.jsonl has all


class StepLog:
    """The steps of one part of a run, those looked at and those not yet."""

    def __init__(
        self, run_dir: Path, config: FitConfig, batches: Batches, trainer: Trainer, progress: Progress
    ) -> None:
        self._dir = run_dir
        self._config = config
        self._batches = batches
        self._trainer = trainer
        self._progress = progress
        self._unread: list[tuple[Outcome, dict[str, float]]] = []  # with the learning rates of the step
        self._unread_images = 0
        self._looked = time.monotonic()
        self._in_a_row = 0
        self.skipped = 0
        self.images = 0  # looked at
        self.seconds = 0.0  # the time they took
        self.first_loss: float | None = None
        self.last_loss: float | None = None

    def add(self, outcome: Outcome, *, images: int, learning_rates: dict[str, float]) -> None:
        """Note a step, without a wait."""
        self._unread.append((outcome, learning_rates))
        self._unread_images += images

    def look(self, *, step: int) -> None:
        """Read, check and write down the steps since the last look, of which `step` is the newest.

        Raises RunError when more than `max_skipped_steps` in a row were skipped.
        """
        if not self._unread:
            return
        losses, norms = self._trainer.read_losses([outcome for outcome, _ in self._unread])
        now = time.monotonic()
        seconds, images = now - self._looked, self._unread_images
        lines: list[dict[str, Any]] = []
        for number, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            outcome, rates = self._unread[number]
            line: dict[str, Any] = {"step": step - len(losses) + 1 + number}
            index = (line["step"] - 1) * self._config.gradient_accumulation_steps
            line["epoch"] = index // self._batches.per_epoch
            line |= self._judged(outcome, loss, norm, step=line["step"])
            line |= rates
            line |= {"images_per_second": images / seconds, "seconds": seconds / len(losses)}
            lines.append(line)
            if self._in_a_row > self._config.max_skipped_steps:
                break
        if self._trainer.is_main:
            append_metrics(self._dir, lines)
        self.images += images
        self.seconds += seconds
        self._unread = []
        self._unread_images = 0
        self._looked = now
        if self._in_a_row > self._config.max_skipped_steps:
            what = f"{self._in_a_row} steps in a row, up to step {lines[-1]['step']}, had no finite gradient"
            raise RunError(not_finite(self._dir, what))

    def rest(self) -> None:
        """Leave out the time since the last look: it was not spent on training."""
        self._looked = time.monotonic()

    def _judged(self, outcome: Outcome, loss: float, norm: float, *, step: int) -> dict[str, Any]:
        """What metrics.jsonl says of a step."""
        if math.isfinite(norm):
            self._in_a_row = 0
            self.first_loss = loss if self.first_loss is None else self.first_loss
            self.last_loss = loss
            self._progress.advance(0, loss=loss)
            return {"loss": loss, "grad_norm": norm}
        self._in_a_row += 1
        self.skipped += 1
        rows = self._trainer.rows_not_finite(outcome)
        ids = [self._batches.rows.images.content_ids[row].tobytes().hex() for row in rows]
        named = ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
        why = f"the loss of {named}" if ids else "its gradient, though no loss,"
        much = " in part" if self._config.fused_backward_pass else ""
        self._progress.say(f"step {step} was skipped{much}: {why} is not finite")
        return {"skipped": True, "content_ids": ids}


def not_finite(run_dir: Path, what: str) -> str:
    """The error of a run that has gone wrong: what, where it was still well, what to do."""
    return (
        f"{run_dir}: {what}; {newest_is(run_dir)}; start anew with a lower learning_rate or"
        " adapter_learning_rate, or mixed_precision other than fp16"
    )
