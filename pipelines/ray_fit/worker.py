"""What each process of the group does: a fit, in a thread of Ray's; the first tells the driver of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfgdata.records import NoProgress, Progress
from pfgtrain.checkpoint import is_run
from pfgtrain.config import FitConfig

__all__ = ["Call", "Job", "Voice", "train"]

Call = tuple[str, tuple[Any, ...], dict[str, Any]]  # of a Progress: name, arguments, words

_WAIT = 0.5  # seconds: what is told in between goes together, and so long a stop may wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A fit as each process is told it; all paths mean the same on every machine."""

    store: Path
    run_dir: Path
    config: FitConfig


class Voice:
    """An actor between the first process and the driver: what one says waits here until the other asks."""

    def __init__(self) -> None:
        self._told: list[Call] = []
        self._stopped = False

    def tell(self, calls: list[Call]) -> None:
        """Calls of a Progress."""
        self._told += calls

    def take(self) -> list[Call]:
        """What was told since it was last asked."""
        told, self._told = self._told, []
        return told

    def stop(self) -> None:
        """The driver asks for an end with a checkpoint."""
        self._stopped = True

    def is_stopped(self) -> bool:
        """Whether it did."""
        return self._stopped


class _Telling:
    """A Progress that hands everything to a Voice."""

    def __init__(self, voice: Any) -> None:
        self._voice = voice
        self._calls: list[Call] = []
        self._told = 0.0

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        """A task begins."""
        self._add("start", task, total=total, unit=unit, brief=brief)

    def advance(self, count: int = 1, **figures: float) -> None:
        """Some units more."""
        self._add("advance", count, **figures)

    def say(self, message: str) -> None:
        """A line for people."""
        self._add("say", message)

    def finish(self) -> None:
        """The task has ended."""
        self._add("finish")

    def _add(self, name: str, *words: Any, **named: Any) -> None:
        self._calls.append((name, words, named))
        if name != "advance" or time.monotonic() - self._told > _WAIT:
            self._voice.tell.remote(self._calls)
            self._calls, self._told = [], time.monotonic()


class _Stop:
    """Whether the driver asked to stop, asked seldom: the answer crosses the network."""

    def __init__(self, ray: Any, voice: Any) -> None:
        self._ray, self._voice = ray, voice
        self._asked, self._answer = 0.0, False

    def __call__(self) -> bool:
        """True from the driver's word on."""
        if not self._answer and time.monotonic() - self._asked > _WAIT:
            self._answer = bool(self._ray.get(self._voice.is_stopped.remote()))
            self._asked = time.monotonic()
        return self._answer


def train(told: dict[str, Any]) -> dict[str, Any]:
    """One process's part of `told["job"]`, and its report; it goes on with the run where there is one."""
    import ray
    from ray.train import get_context

    from pfgdata.store import Store
    from pfgtrain.fit import base_of, data_of, fit, go_on

    job, voice = told["job"], told["voice"]
    first = get_context().get_world_rank() == 0
    progress: Progress = _Telling(voice) if first else NoProgress()
    stop: Callable[[], bool] = _Stop(ray, voice) if first else lambda: False
    begun = is_run(job.run_dir)  # the group writes that only when all have asked
    data = data_of(Store.open(job.store), job.config)
    base = base_of(data, job.config, run_dir=job.run_dir if begun else None, progress=progress)
    goes = go_on if begun else fit
    return goes(data, base, job.config, run_dir=job.run_dir, progress=progress, stop=stop).as_dict()
