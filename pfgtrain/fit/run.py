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

from pfgdata.errors import PfgError, RunError
from pfgdata.files import Disk
from pfgdata.paths import user_path
from pfgdata.records import NoProgress, Progress, during_one
from pfgtrain.base import Base
from pfgtrain.batches import Batch, Batches
from pfgtrain.checkpoint import (
    CheckpointState,
    RunRecord,
    checkpoint_of,
    checkpoints,
    keep_for,
    read_state,
    require_undamaged,
    save_checkpoint,
    trim_metrics,
)
from pfgtrain.config import CONFIG_FILE, FitConfig
from pfgtrain.fit.announce import announce, where_it_goes_on
from pfgtrain.fit.checks import require_own_prediction, require_run, require_same_vae, require_whole_steps
from pfgtrain.fit.data import FitData, Sets, sets_of
from pfgtrain.fit.guards import disk_is_full, memory_is_short, own_folder, processes_together
from pfgtrain.fit.pictures import draw_held_out
from pfgtrain.fit.plan import FitPlan, plan_of, record_of
from pfgtrain.fit.shards import ShardCheck, comparisons
from pfgtrain.fit.start import rehearse, standardization_of, with_tokens
from pfgtrain.fit.step_log import StepLog, not_finite
from pfgtrain.fit.trainer import Trainer, make_accelerator, with_precision
from pfgtrain.fit.validation import fixed_loss

__all__ = ["FitReport", "fit"]

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
    RunError when the folder holds a run (or, to resume, none, or another), when too many steps in a row or a
    weight are not finite, when memory is short and when a checkpoint cannot be written; CorruptShardError
    when a shard is not as written; StoreLockedError when another fit works in the folder.
    """
    progress, disk, begun = progress or NoProgress(), disk or Disk(), time.monotonic()
    init = str(user_path(config.init).absolute()) if config.init else None
    config = replace(with_precision(config), base=base.name, latents=data.latent_set.id, init=init)
    config = with_tokens(config, base, resumed=RunRecord.read(run_dir) if resume else None)
    accelerator = make_accelerator(config)
    prediction_type = config.prediction_type or base.prediction_type
    base = replace(base, device=accelerator.device, prediction_type=prediction_type)
    with memory_is_short(run_dir, config):
        sized = base.family.reads_sizes
        sets = sets_of(data, config, processes=accelerator.num_processes, with_sizes=sized)
        if not resume:
            tagger, feature_dim = data.store.identity.tagger, data.snapshot.feature_dim
            rehearse(base, config, tagger=tagger, feature_dim=feature_dim)
    plan = plan_of(data, sets, config, processes=accelerator.num_processes)
    require_own_prediction(base)
    digest = require_same_vae(data, base, progress=progress)
    record = record_of(data, base, config, plan, sets, vae_digest=digest)
    require_run(run_dir, record, config, resume=resume)
    accelerator.wait_for_everyone()  # all have looked before one writes
    with (
        ExitStack() as held,
        disk_is_full(run_dir),
        memory_is_short(run_dir, config),
        processes_together(run_dir, plan.processes),
        ShardCheck(comparisons(data, sets) if accelerator.is_local_main_process else [], progress) as check,
    ):
        if accelerator.is_main_process:
            held.enter_context(own_folder(run_dir, disk=disk))
            require_run(run_dir, record, config, resume=resume)  # again: now nobody else begins one here
        weights = checkpoints(run_dir)[-1] if resume and checkpoints(run_dir) else None
        start = read_state(weights) if weights else None
        if weights and start:
            require_undamaged(weights, progress=progress)
            require_whole_steps(
                run_dir,
                start,
                per_epoch=plan.batches_per_epoch,
                batches=plan.batches,
                accumulation=config.gradient_accumulation_steps,
            )
        trainer = Trainer(
            base,
            config,
            accelerator=accelerator,
            latent_set=data.latent_set,
            tagger=data.store.identity.tagger,
            feature_dim=data.snapshot.feature_dim,
            total_steps=plan.steps,
            text_layer=record.text_layer,
            standardization=standardization_of(sets.train) if config.standardize_features else None,
            weights=weights,
            steps_done=start.step if start else 0,
            progress=progress,
        )
        announce(plan, trainer.trainable, base, config, progress)
        if resume:
            progress.say(where_it_goes_on(start, config))
        if weights:
            with during_one(progress, "load", unit="optimizers"):
                trainer.load_states(weights)
        if accelerator.is_main_process:  # only now, so that a fit that cannot be leaves no run
            disk.replace_file(run_dir / CONFIG_FILE, config.to_toml().encode())  # with a resume's new length
            if not resume:
                record.write(run_dir, disk=disk)
                _keep_base(base, run_dir, disk=disk, progress=progress)
        run = _Run(run_dir, base, config, plan, sets, trainer, check, progress, disk, start)
        return run.go(stop, begun=begun)


class _Run:
    """One run under way: its steps, the looks at its losses, its checkpoints."""

    def __init__(
        self,
        run_dir: Path,
        base: Base,
        config: FitConfig,
        plan: FitPlan,
        sets: Sets,
        trainer: Trainer,
        check: ShardCheck,
        progress: Progress,
        disk: Disk,
        start: CheckpointState | None,
    ) -> None:
        self._dir = run_dir
        self._base = base
        self._config = config
        self._plan = plan
        self._sets = sets
        self._batches = sets.train
        self._trainer = trainer
        self._check = check
        self._progress = progress
        self._disk = disk
        self._first = start.step if start else 0
        self._step = self._first
        self._validation_loss = start.validation_loss if start else None
        self._probe_start = start.probe_start if start else self._probe()
        self._probe_end: float | None = None
        if trainer.is_main:
            trim_metrics(run_dir, step=self._step, disk=disk)
        self._log = StepLog(run_dir, config, self._batches, trainer, progress)

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


def _keep_base(base: Base, run_dir: Path, *, disk: Disk, progress: Progress) -> None:
    """Note at the checkpoints that this run stands on that they are needed, or they would be pruned."""
    for folder in base.overlays:
        checkpoint = checkpoint_of(folder)
        try:
            keep_for(checkpoint, run_dir, disk=disk)
        except OSError as problem:
            progress.say(
                f"{checkpoint}: keep it, {run_dir} stands on it ({problem.strerror}: no note was left)"
            )
