"""A job told as the command that asks for it: what a page shows can be asked for in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pfgtrain.generate.job import PICTURE_FLAGS, GenerateJob

__all__ = ["command_words"]


def command_words(job: GenerateJob, guides: Sequence[Path], *, run: str | None) -> list[str]:
    """The words of the `pfgtrain generate` that makes the same files of `guides` as `job` with that run.

    What is as by default is left out. `run` is None where the job names an adapter. A job has both sides of
    a size, or neither.
    """
    words = ["pfgtrain", "generate", *([run] if run else []), *map(str, guides)]
    for one in fields(GenerateJob):
        value = getattr(job, one.name)
        if value == one.default or one.name in ("width", "height"):
            continue
        flag = PICTURE_FLAGS.get(one.name, f"--{one.name.replace('_', '-')}")
        words += [flag] if value is True else [flag, _told(value)]
    if job.width is not None:
        words += ["--size", f"{job.width}x{job.height}"]
    return words


def _told(value: object) -> str:
    """A value as an option takes it: 2, not 2.0; a number comes back to the bit."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
