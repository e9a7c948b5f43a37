"""The steps of a run, one after another: when the loss is looked at, when a checkpoint is made.

A step is one optimizer step over `gradient_accumulation_steps` global batches. Everything random is a
function of (seed, position), so a run cut anywhere and resumed gives the weights of the uncut one, on the
same device and number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pfgdata.errors import PfgError, RunError
from pfgdata.files import Disk
from pfgdata.records import Progress, during_one
from pfgtrain.base import Base
from pfgtrain.batches import Batch, Batches
from pfgtrain.checkpoint import CheckpointState, checkpoints, save_checkpoint, trim_metrics
from pfgtrain.config import FitConfig
from pfgtrain.fit.data import Sets
from pfgtrain.fit.pictures import draw_held_out
from pfgtrain.fit.plan import FitPlan
from pfgtrain.fit.shards import ShardCheck
from pfgtrain.fit.start import Standing
from pfgtrain.fit.step_log import StepLog, not_finite
from pfgtrain.fit.trainer import Trainer
from pfgtrain.fit.validation import fixed_loss

__all__ = ["FitReport", "Loop", "Work"]

_STOP_STEPS = 20  # several processes agree on a stop at least this often: seconds on a GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What a fit did. The probe losses share rows, noise and timesteps: they tell learning from luck."""

    run: str
    checkpoint: str
    plan: FitPlan
    first_step: int  # steps done when this part of the run began
    last_step: int
    skipped_steps: int  # of this part, their gradient not finite
    trainable: dict[str, int]  # part -> parameters
    first_loss: float | None  # of this part's first step; None if it had none
    last_loss: float | None
    probe_start: float  # before the run's first step
    probe_end: float | None  # None if interrupted: a stop is quick
    validation_loss: float | None  # at the last checkpoint, on the images held out
    seconds: float
    images_per_second: float
    interrupted: bool

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "plan": self.plan.as_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A fit of which all is settled: what it trains on what, into which folder, from where on."""

    run_dir: Path
    base: Base
    config: FitConfig
    plan: FitPlan
    sets: Sets
    standing: Standing | None  # None: from the first step


class Loop:
    """One run under way: its steps, the looks at its losses, its checkpoints."""

    def __init__(
        self, work: Work, trainer: Trainer, check: ShardCheck, *, progress: Progress, disk: Disk
    ) -> None:
        self._dir = work.run_dir
        self._base = work.base
        self._config = work.config
        self._plan = work.plan
        self._sets = work.sets
        self._batches = work.sets.train
        self._trainer = trainer
        self._check = check
        self._progress = progress
        self._disk = disk
        start = work.standing.state if work.standing else None
        self._first = start.step if start else 0
        self._step = self._first
        self._validation_loss = start.validation_loss if start else None
        self._probe_start = start.probe_start if start else self._probe()
        self._probe_end: float | None = None
        if trainer.is_main:
            trim_metrics(work.run_dir, step=self._step, disk=disk)
        self._log = StepLog(work.run_dir, work.config, self._batches, trainer, progress)

    def go(self, stop: Callable[[], bool], *, begun: float) -> FitReport:
        """Train to the end, or until `stop`."""
        if self._step >= self._plan.steps:
            self._progress.say(f"{self._dir} is at step {self._step} already, of {self._plan.steps}")
        if self._step == 0 and self._config.checkpoint_at_start:
            self._save(quickly=False)
        accumulation = self._config.gradient_accumulation_steps
        first = min(self._step * accumulation, self._plan.batches)
        left = self._batches.images_between(first, max(first, self._plan.batches))
        self._progress.start("fit", total=left)
        steps = self._batches.steps(
            range(self._step, self._plan.steps),
            accumulation=accumulation,
            end=self._plan.batches,
            part=self._trainer.part,
        )
        stopped = False
        with closing(steps):
            for batches in steps:
                self._train(batches)
                stopped = self._asked_to(stop)
                self._look_and_save(stopped=stopped)
                if stopped:
                    break
        if not stopped:
            self._check.finish()
        self._progress.finish()
        return self._report(seconds=time.monotonic() - begun, interrupted=stopped)

    def _train(self, batches: list[Batch]) -> None:
        learning_rates = self._trainer.learning_rates
        images = int(sum(batch.weight for batch in batches))
        self._log.add(self._trainer.step(batches), images=images, learning_rates=learning_rates)
        self._step += 1
        self._progress.advance(images, step=self._step)

    def _asked_to(self, stop: Callable[[], bool]) -> bool:
        """Whether the run ends here before its end. Processes agree, now and then: agreeing is a wait."""
        if self._plan.processes > 1 and self._step % min(self._config.logging_steps, _STOP_STEPS):
            return False
        return self._trainer.any_process(stop()) and self._step < self._plan.steps

    def _look_and_save(self, *, stopped: bool) -> None:
        self._check.look()
        save = stopped or self._step == self._plan.steps or self._step % self._config.checkpointing_steps == 0
        if save or self._step % self._config.logging_steps == 0:
            self._log.look(step=self._step)
        if save:
            self._save(quickly=stopped)
            self._log.rest()

    def _save(self, *, quickly: bool) -> None:
        """Make a checkpoint of this step, validated and with its pictures unless it is wanted `quickly`.

        What is not finite is not saved, for it would push out the last checkpoint that is.
        """
        self._check.finish(quickly=quickly)
        if not self._trainer.is_finite():
            what = f"a weight after step {self._step} is not finite"
            raise RunError(not_finite(self._dir, what))
        if self._step == self._plan.steps:
            self._probe_end = self._probe()
        validation = None if quickly else self._validate()
        index = self._step * self._config.gradient_accumulation_steps
        epoch, position = divmod(min(index, self._plan.batches), self._batches.per_epoch)
        state = CheckpointState(
            step=self._step,
            epoch=epoch,
            position=position,
            probe_start=self._probe_start,
            validation_loss=validation,
        )
        if self._trainer.is_main:
            limit = self._config.checkpoints_total_limit
            with during_one(self._progress, "save", unit="checkpoints"):
                save_checkpoint(self._dir, state, write=self._trainer.write, limit=limit, disk=self._disk)
            if not quickly and self._sets.validation:
                self._draw(self._sets.validation)
        self._trainer.wait()

    def _draw(self, held_out: Batches) -> None:
        """Draw images held out. A picture that cannot be drawn is said, and is not the end of a training."""
        sheet = self._dir / "pictures" / f"held-out-step-{self._step:08d}.png"
        try:
            draw_held_out(self._trainer, self._base, self._config, held_out, sheet, progress=self._progress)
        except (PfgError, OSError, RuntimeError, MemoryError) as problem:
            reason = (str(problem).splitlines() or [type(problem).__name__])[0]
            self._progress.say(f"no picture of the images held out at step {self._step}: {reason}")

    def _probe(self) -> float:
        """The loss of fixed rows that are trained on."""
        loss = fixed_loss(self._trainer, self._batches, task="probe", progress=self._progress)
        if not math.isfinite(loss):
            what = f"the probe loss after step {self._step} is {loss}"
            raise RunError(not_finite(self._dir, what))
        return loss

    def _validate(self) -> float | None:
        """The loss of the images held out, of the weights that generate would use; None without any."""
        if self._sets.validation is None:
            return None
        with self._trainer.averaged():
            held_out, progress = self._sets.validation, self._progress
            loss = fixed_loss(self._trainer, held_out, task="validate", progress=progress)
        self._validation_loss = loss if math.isfinite(loss) else None
        return self._validation_loss

    def _report(self, *, seconds: float, interrupted: bool) -> FitReport:
        if self._probe_end is None and not interrupted:  # there was no step left to do
            self._probe_end = self._probe()
        log = self._log
        return FitReport(
            run=str(self._dir),
            checkpoint=str(checkpoints(self._dir)[-1]),
            plan=self._plan,
            first_step=self._first,
            last_step=self._step,
            skipped_steps=log.skipped,
            trainable=self._trainer.trainable,
            first_loss=log.first_loss,
            last_loss=log.last_loss,
            probe_start=self._probe_start,
            probe_end=self._probe_end,
            validation_loss=self._validation_loss,
            seconds=seconds,
            images_per_second=log.images / log.seconds if log.seconds else 0.0,
            interrupted=interrupted,
        )
