"""What a machine does to a fit, as one line each: memory that is too small, a process that has stopped."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from pfgdata.errors import ModelError, RunError
from pfgdata.files import Disk
from pfgtrain.checkpoint import is_run, newest_is
from pfgtrain.config import FitConfig
from pfgtrain.generate import short_memory

__all__ = ["disk_is_full", "memory_is_short", "own_folder", "processes_together", "require_finite"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def memory_is_short(run_dir: Path, config: FitConfig) -> Iterator[None]:
    """Turn a device's want of memory into one line that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as problem:  # torch.OutOfMemoryError is a RuntimeError
        where = short_memory(problem)
        if where is None:
            raise
        batch, accumulation = config.train_batch_size, config.gradient_accumulation_steps
        ways = [
            f"train_batch_size {batch} -> {max(1, batch // 2)} with gradient_accumulation_steps"
            f" {accumulation} -> {accumulation * 2}"
            if batch > 1
            else "a smaller --resolution of latents",
            *([] if config.gradient_checkpointing else ["gradient_checkpointing = true"]),
            *(['train = "lora" or "adapter"'] if config.train == "unet" else []),
            *(["offload_ema = true"] if config.use_ema and not config.offload_ema else []),
        ]
        raise RunError(
            f"{run_dir}: {where} memory is too small for this fit; try {'; '.join(ways)} (a resumed run"
            " cannot change its batch: start a new one, or free memory)"
        ) from problem


@contextmanager
def disk_is_full(run_dir: Path) -> Iterator[None]:
    """Turn a run folder that cannot be written into one line that says what is left."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in _NO_ROOM:
            raise
        raise RunError(
            f"{run_dir}: cannot be written ({problem.strerror}); {newest_is(run_dir)}; free the disk and go"
            " on with --resume"
        ) from problem


@contextmanager
def own_folder(run_dir: Path, *, disk: Disk) -> Iterator[None]:
    """Make the folder of a run, and hold its lock; where there was none, none is left unless it holds a run.

    Raises StoreLockedError when another fit works in it.
    """
    is_new = not run_dir.exists()
    disk.make_folder(run_dir)
    with disk.exclusive(run_dir / "lock", what=f"run {run_dir}"):
        try:
            yield
        finally:
            if is_new and not is_run(run_dir):
                disk.unlink(run_dir / "lock")
                with suppress(OSError):  # not empty: somebody put something there
                    run_dir.rmdir()


@contextmanager
def processes_together(run_dir: Path, processes: int) -> Iterator[None]:
    """Turn the loss of another process into one line: its own message says what happened."""
    try:
        yield
    except RuntimeError as problem:
        lost = isinstance(problem, torch.distributed.DistError) or "gloo" in str(problem)
        if processes == 1 or not lost:
            raise
        raise RunError(f"{run_dir}: another process has stopped; its own message says why") from problem


@torch.no_grad()
def require_finite(weights: Iterable[tuple[str, torch.Tensor]], *, of: str) -> None:
    """Raise ModelError naming the first of `weights` that is not finite: no rate of learning mends it."""
    for name, value in weights:
        if not value.isfinite().all():
            raise ModelError(
                f"{of}: {name} is not finite, before any step; get a whole copy, or name another"
            )
