"""Fit: stored latents and features to a UNet that follows features, step by step, resumable to the bit.

A step is one optimizer step over `gradient_accumulation_steps` global batches. Everything random is a
function of (seed, position), so a run cut anywhere and resumed gives the weights of the uncut one, on the
same device and number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pfgdata.errors import RunError
from pfgdata.records import NoProgress, Progress
from pfgdata.store import Disk, exclusive
from pfgtrain.base import Base
from pfgtrain.batches import Batch, Batches
from pfgtrain.checkpoint import (
    CheckpointState,
    append_metrics,
    checkpoints,
    save_checkpoint,
    trim_metrics,
)
from pfgtrain.config import CONFIG_FILE, FitConfig
from pfgtrain.fit.plan import (
    FitData,
    FitPlan,
    batches_of,
    plan_of,
    record_of,
    require_run,
    require_same_vae,
    require_whole_steps,
)
from pfgtrain.fit.trainer import Trainer, make_accelerator, with_precision

__all__ = ["FitData", "FitPlan", "FitReport", "fit"]

PROBE_ROWS = 32  # enough: the same rows, noise and timesteps are used at the start and at the end
_STOP_STEPS = 20  # several processes agree on a stop at least this often: seconds on a GPU
_MOST_TOKENS = 20  # where the slider of A1111's extension stops


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What a fit did. The probe losses share rows, noise and timesteps: they tell learning from luck."""

    run: str
    checkpoint: str
    plan: FitPlan
    first_step: int  # steps done when this part of the run began
    last_step: int
    trainable: dict[str, int]  # part -> parameters
    first_loss: float | None  # of this part's first step; None if it had none
    last_loss: float | None
    probe_start: float  # before the run's first step
    probe_end: float | None  # None if interrupted: a stop is quick
    seconds: float
    images_per_second: float
    interrupted: bool

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "plan": self.plan.as_dict()}


def fit(
    data: FitData,
    base: Base,
    config: FitConfig,
    *,
    run_dir: Path,
    resume: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
    disk: Disk | None = None,
) -> FitReport:
    """Train into `run_dir`; `resume` goes on from its newest checkpoint.

    `stop` is asked after each step; when it says so the step is saved and the report is `interrupted`. Raises
    RunError when the folder holds a run (or, to resume, none, or another), when a loss or a weight is not
    finite and when a checkpoint cannot be written; StoreLockedError when another fit works in the folder.
    """
    progress, disk, begun = progress or NoProgress(), disk or Disk(), time.monotonic()
    config = replace(with_precision(config), base=base.name, latents=data.latent_set.id)
    accelerator = make_accelerator(config)
    prediction_type = config.prediction_type or base.prediction_type
    base = replace(base, device=accelerator.device, prediction_type=prediction_type)
    batches = batches_of(data, config, processes=accelerator.num_processes)
    plan = plan_of(data, batches, config, processes=accelerator.num_processes)
    record = record_of(data, base, config, batches.rows, processes=plan.processes)
    require_run(run_dir, record, config, resume=resume)
    require_same_vae(data, base)
    accelerator.wait_for_everyone()  # all have looked before one writes
    with ExitStack() as held:
        if accelerator.is_main_process:
            disk.make_folder(run_dir)
            held.enter_context(exclusive(run_dir / "lock", what=f"run {run_dir}"))
            require_run(run_dir, record, config, resume=resume)  # again: now nobody else begins one here
            if not resume:
                disk.replace_file(run_dir / CONFIG_FILE, config.to_toml().encode())
                record.write(run_dir, disk=disk)
        weights = checkpoints(run_dir)[-1] if resume and checkpoints(run_dir) else None
        trainer = Trainer(
            base,
            config,
            accelerator=accelerator,
            latent_set=data.latent_set,
            feature_dim=data.snapshot.feature_dim,
            total_steps=plan.steps,
            weights=weights,
            progress=progress,
        )
        _announce(plan, trainer.trainable, base, config, progress)
        start = trainer.load_states(weights) if weights else None
        if resume:
            progress.say(_resumes(start, config))
        if start:
            require_whole_steps(run_dir, start, plan, accumulation=config.gradient_accumulation_steps)
        return _Run(run_dir, config, plan, batches, trainer, progress, disk, start).go(stop, begun=begun)


class _Run:
    """One run under way: its steps, the looks at its losses, its checkpoints."""

    def __init__(
        self,
        run_dir: Path,
        config: FitConfig,
        plan: FitPlan,
        batches: Batches,
        trainer: Trainer,
        progress: Progress,
        disk: Disk,
        start: CheckpointState | None,
    ) -> None:
        self._dir, self._config, self._plan, self._batches = run_dir, config, plan, batches
        self._trainer, self._progress, self._disk = trainer, progress, disk
        self._first = self._step = start.step if start else 0
        self._probe_start = start.probe_start if start else self._probe()
        self._probe_end: float | None = None
        self._unread: list[tuple[Tensor, dict[str, float]]] = []  # loss on the device, learning rates
        self._unread_images, self._looked = 0, time.monotonic()
        self._images, self._seconds = 0, 0.0  # since this part began
        self._first_loss: float | None = None
        self._last_loss: float | None = None
        if trainer.is_main:
            trim_metrics(run_dir, step=self._step, disk=disk)

    def go(self, stop: Callable[[], bool], *, begun: float) -> FitReport:
        """Train to the end, or until `stop`."""
        if self._step >= self._plan.steps:
            self._progress.say(f"{self._dir} is at step {self._step} already, of {self._plan.steps}")
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
                self._look_and_save(now=stopped or self._step == self._plan.steps)
                if stopped:
                    break
        self._progress.finish()
        return self._report(seconds=time.monotonic() - begun, interrupted=stopped)

    def _train(self, batches: list[Batch]) -> None:
        learning_rates = self._trainer.learning_rates
        self._unread.append((self._trainer.step(batches), learning_rates))
        self._step += 1
        images = int(sum(batch.weight for batch in batches))
        self._unread_images += images
        self._progress.advance(images, step=self._step)

    def _asked_to(self, stop: Callable[[], bool]) -> bool:
        """Whether the run ends here before its end. Processes agree, now and then: agreeing is a wait."""
        if self._plan.processes > 1 and self._step % min(self._config.logging_steps, _STOP_STEPS):
            return False
        return self._trainer.any_process(stop()) and self._step < self._plan.steps

    def _look_and_save(self, *, now: bool) -> None:
        save = now or self._step % self._config.checkpointing_steps == 0
        if save or self._step % self._config.logging_steps == 0:
            self._look()
        if save:
            self._save()

    def _look(self) -> None:
        """Read the losses since the last look, check them, write them down. Waits for the device."""
        losses = self._trainer.read_losses([loss for loss, _ in self._unread])
        now = time.monotonic()
        seconds, images = now - self._looked, self._unread_images
        lines: list[dict[str, Any]] = []
        for step, loss in enumerate(losses, self._step - len(losses) + 1):
            if not math.isfinite(loss):
                break
            index = (step - 1) * self._config.gradient_accumulation_steps
            line = {"step": step, "epoch": index // self._batches.per_epoch, "loss": loss}
            line |= self._unread[len(lines)][1]
            line |= {"images_per_second": images / seconds, "seconds": seconds / len(losses)}
            lines.append(line)
        if self._trainer.is_main:
            append_metrics(self._dir, lines)
        if len(lines) < len(losses):
            step, loss = self._step - len(losses) + len(lines) + 1, losses[len(lines)]
            raise RunError(self._not_finite(f"the loss or gradient of step {step} is {loss}"))
        self._first_loss = losses[0] if self._first_loss is None else self._first_loss
        self._last_loss = losses[-1]
        self._progress.advance(0, loss=losses[-1])
        self._images, self._seconds = self._images + images, self._seconds + seconds
        self._unread, self._unread_images, self._looked = [], 0, now

    def _not_finite(self, what: str) -> str:
        saved = checkpoints(self._dir)
        newest = f"the newest checkpoint is {saved[-1].name}" if saved else "no checkpoint was made yet"
        return (
            f"{self._dir}: {what}; {newest}; start anew with a lower learning_rate"
            " or adapter_learning_rate, or mixed_precision other than fp16"
        )

    def _save(self) -> None:
        """Make a checkpoint of this step. Its time does not count as training time.

        What is not finite is not saved, for it would push out the last checkpoint that is.
        """
        if not self._trainer.is_finite():
            raise RunError(self._not_finite(f"a weight after step {self._step} is not finite"))
        if self._step == self._plan.steps:
            self._probe_end = self._probe()
        index = self._step * self._config.gradient_accumulation_steps
        epoch, position = divmod(min(index, self._plan.batches), self._batches.per_epoch)
        state = CheckpointState(
            step=self._step, epoch=epoch, position=position, probe_start=self._probe_start
        )
        if self._trainer.is_main:
            limit = self._config.checkpoints_total_limit
            save_checkpoint(self._dir, state, write=self._trainer.write, limit=limit, disk=self._disk)
        self._trainer.wait()
        self._looked = time.monotonic()

    def _probe(self) -> float:
        """Mean loss over up to PROBE_ROWS images, all conditioned, at timesteps spread evenly."""
        count = min(len(self._batches.rows), PROBE_ROWS)
        rows = np.linspace(0, len(self._batches.rows) - 1, count).round().astype(np.int64)
        quantiles = (np.random.default_rng(0).permutation(count) + 0.5) / count
        buckets, total = self._batches.rows.bucket[rows], 0.0
        for number, bucket in enumerate(np.unique(buckets)):
            mine = np.flatnonzero(buckets == bucket)
            batch = self._batches.probe(rows[mine], index=-1 - number)
            total += self._trainer.probe(batch, quantiles=quantiles[mine])
        if not math.isfinite(total):
            raise RunError(self._not_finite(f"the probe loss after step {self._step} is {total}"))
        return total / count

    def _report(self, *, seconds: float, interrupted: bool) -> FitReport:
        if self._probe_end is None and not interrupted:  # there was no step left to do
            self._probe_end = self._probe()
        return FitReport(
            run=str(self._dir),
            checkpoint=str(checkpoints(self._dir)[-1]),
            plan=self._plan,
            first_step=self._first,
            last_step=self._step,
            trainable=self._trainer.trainable,
            first_loss=self._first_loss,
            last_loss=self._last_loss,
            probe_start=self._probe_start,
            probe_end=self._probe_end,
            seconds=seconds,
            images_per_second=self._images / self._seconds if self._seconds else 0.0,
            interrupted=interrupted,
        )


def _resumes(start: CheckpointState | None, config: FitConfig) -> str:
    if start:
        return f"goes on at step {start.step + 1:,}"
    return f"no checkpoint yet (one every {config.checkpointing_steps:,} steps): begins at step 1"


def _announce(
    plan: FitPlan, trainable: dict[str, int], base: Base, config: FitConfig, progress: Progress
) -> None:
    if base.untrained:
        progress.say(f"base {base.name} is untrained (weights from a fixed seed): pictures will mean nothing")
    if config.num_tokens > _MOST_TOKENS:
        progress.say(f"{config.num_tokens} tokens: A1111's extension takes at most {_MOST_TOKENS}")
    if plan.without_latent:
        progress.say(f"{plan.without_latent:,} of {plan.distinct:,} selected images have no latent: left out")
    parts = " + ".join(f"{name} {count:,}" for name, count in trainable.items())
    progress.say(
        f"{plan.images:,} images, buckets: {len(plan.buckets)}; a step: {plan.effective_batch} images = batch"
        f" {config.train_batch_size} x processes {plan.processes} x accumulation"
        f" {config.gradient_accumulation_steps}; steps: {plan.steps:,} = {plan.epochs:.3g} epochs; parameters"
        f" that learn: {parts}"
    )
