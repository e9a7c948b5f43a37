"""Fit: stored latents and features to a UNet that follows features, step by step, resumable to the bit.

What is asked is settled and checked first, by all processes; then one makes the folder and the steps begin.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pfgdata.files import Disk
from pfgdata.records import NoProgress, Progress, during_one
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, checkpoint_of, keep_for
from pfgtrain.config import CONFIG_FILE, FitConfig
from pfgtrain.fit.announce import announce, where_it_goes_on
from pfgtrain.fit.checks import (
    require_own_prediction,
    require_run,
    require_same_vae,
    require_whole_steps,
)
from pfgtrain.fit.data import FitData, Inputs, Sets, captions_of, sets_of
from pfgtrain.fit.features import standardization_of
from pfgtrain.fit.guards import disk_is_full, memory_is_short, own_folder, processes_together
from pfgtrain.fit.loop import FitReport, Loop, Work
from pfgtrain.fit.plan import plan_of, record_of, settled
from pfgtrain.fit.shards import ShardCheck, comparisons
from pfgtrain.fit.start import rehearse, standing_of
from pfgtrain.fit.trainer import Trainer

__all__ = ["fit", "go_on"]


def fit(
    data: FitData,
    base: Base,
    config: FitConfig,
    *,
    run_dir: Path,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FitReport:
    """Train into `run_dir`.

    `stop` is asked after each step; when it says so the step is saved and the report is `interrupted`. Raises
    RunError when the folder holds a run, when too many steps in a row or a weight are not finite, when memory
    is short and when a checkpoint cannot be written; CorruptShardError when a shard is not as written;
    StoreLockedError when another fit works in the folder.
    """
    return _fit(data, base, config, _Folder(run_dir, resume=False), progress or NoProgress(), stop)


def go_on(
    data: FitData,
    base: Base,
    config: FitConfig,
    *,
    run_dir: Path,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FitReport:
    """Train on from the newest checkpoint of the run in `run_dir`, or, where it has none, from its start.

    `stop` and errors as in `fit`; RunError too when the folder holds no run, or another than `config` is of.
    """
    return _fit(data, base, config, _Folder(run_dir, resume=True), progress or NoProgress(), stop)


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where a run is to stand, and whether it is one to go on with."""

    path: Path
    resume: bool


def _fit(
    data: FitData,
    base: Base,
    config: FitConfig,
    folder: _Folder,
    progress: Progress,
    stop: Callable[[], bool],
) -> FitReport:
    begun = time.monotonic()
    run_dir = folder.path
    disk = Disk()
    resumed = RunRecord.read(run_dir) if folder.resume else None
    accelerator, base, config = settled(data, base, config, resumed=resumed)
    inputs = Inputs.of(data, base, config)
    with memory_is_short(run_dir, config):
        sized = base.family.reads_sizes
        sets = sets_of(data, config, processes=accelerator.num_processes, with_sizes=sized)
        if not folder.resume:
            rehearse(inputs, config)
    plan = plan_of(data, sets, config, processes=accelerator.num_processes)
    require_own_prediction(base)
    digest = require_same_vae(data, base, progress=progress)
    record = record_of(data, inputs, config, plan, sets, vae_digest=digest)
    require_run(run_dir, record, config, resume=folder.resume)
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
            require_run(run_dir, record, config, resume=folder.resume)  # again: now nobody else begins one
        standing = standing_of(run_dir, progress=progress) if folder.resume else None
        if standing:
            require_whole_steps(
                run_dir,
                standing.state,
                per_epoch=plan.batches_per_epoch,
                batches=plan.batches,
                accumulation=config.gradient_accumulation_steps,
            )
        trainer = Trainer(
            _measured(inputs, sets, config),
            config,
            accelerator=accelerator,
            total_steps=plan.steps,
            standing=standing,
            progress=progress,
        )
        announce(plan, trainer.trainable, base, config, progress)
        work = Work(run_dir=run_dir, base=base, config=config, plan=plan, sets=sets, standing=standing)
        _begin(work, trainer, record, resume=folder.resume, disk=disk, progress=progress)
        return Loop(work, trainer, check, progress=progress, disk=disk).go(stop, begun=begun)


def _measured(inputs: Inputs, sets: Sets, config: FitConfig) -> Inputs:
    """`inputs` with what is to be known of all rows before the first."""
    if inputs.wants_spread(config):
        spread = standardization_of(sets.train, allow_missing=config.allow_missing)
        inputs = replace(inputs, standardization=spread)
    return replace(inputs, captions=captions_of(sets)) if config.cache_captions else inputs


def _begin(
    work: Work, trainer: Trainer, record: RunRecord, *, resume: bool, disk: Disk, progress: Progress
) -> None:
    """Put the optimizer to where the run stands, and write what the folder says of the run."""
    run_dir = work.run_dir
    if resume:
        progress.say(where_it_goes_on(work.standing.state if work.standing else None, work.config))
    if work.standing:
        with during_one(progress, "load", unit="optimizers"):
            trainer.load_states(work.standing.weights)
    if trainer.is_main:  # only now, so that a fit that cannot be leaves no run
        disk.replace_file(run_dir / CONFIG_FILE, work.config.to_toml().encode())  # with a resume's new length
        if not resume:
            record.write(run_dir, disk=disk)
            _keep_base(work.base, run_dir, disk=disk, progress=progress)


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
