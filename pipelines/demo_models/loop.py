"""One training loop for all demo models: resumable, logged, the same however often it was killed.

What a step sees depends on (seed, step) alone, so a checkpoint holds no random state; it is written beside
and renamed, about every two minutes, so kill -9 costs two minutes. The learning rate is constant and then
falls to zero over the last share of the steps: before that, a moving average of the weights is what is
measured and exported, and `steps` may be raised or lowered between two sittings without spoiling what is
there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipelines.demo_models.optim import Muon

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRecipe:
    """How long and how fast; the defaults are those of the shipped models."""

    steps: int
    batch_size: int
    learning_rate: float = 2e-3  # AdamW: norms, biases, first and last layers
    muon_learning_rate: float = 0.02  # Muon: the inner matrices
    warmup_steps: int = 100
    cooldown: float = 0.25  # share of the steps over which the rates fall to zero
    weight_decay: float = 0.0
    ema: float = 0.999
    seed: int = 0
    checkpoint_seconds: float = 120.0
    measure_seconds: float = 600.0

    def rate(self, step: int) -> float:
        """What both learning rates are multiplied by at `step`, 0 < rate <= 1."""
        left = (self.steps - step) / max(1.0, self.cooldown * self.steps)
        return min(1.0, (step + 1) / self.warmup_steps, left)


class Beside(Protocol):
    """What learns by the task's own doing, as an adversary, and is in the checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """All that it is."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be as it was."""


class Task(Protocol):
    """What is trained: a model, the loss of a step, and the numbers that say how good it is."""

    @property
    def model(self) -> nn.Module:
        """What learns; on its device."""

    @property
    def beside(self) -> Beside | None:
        """What learns beside it."""

    def loss(self, step: int) -> Tensor:
        """The scalar loss of one global step; random only by (seed, step)."""

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Numbers on held-out characters for `model`, which is in eval mode."""


def epoch_indices(step: int, *, batch_size: int, weights: npt.NDArray[np.int64], seed: int) -> Any:
    """Row numbers [batch_size] of a global step; an epoch shows row i `weights[i]` times, shuffled anew."""
    rows = np.repeat(np.arange(len(weights)), weights)
    positions = [
        divmod(position, len(rows)) for position in range(step * batch_size, (step + 1) * batch_size)
    ]
    return rows[[_order(seed, epoch, len(rows))[at] for epoch, at in positions]]


@lru_cache(maxsize=2)  # a batch touches at most two epochs of a corpus larger than it
def _order(seed: int, epoch: int, length: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(length)


class Trainer:
    """A task, its optimisers and its moving average, in a folder that a killed training goes on from."""

    def __init__(self, task: Task, *, recipe: LoopRecipe, folder: Path) -> None:
        self.task = task
        self.recipe = recipe
        self.folder = folder
        self.model = task.model
        inner, outer = Muon.split(self.model)
        self.muon = Muon(inner, learning_rate=recipe.muon_learning_rate)
        self.adam = torch.optim.AdamW(
            outer, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
        )
        self.ema = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.step = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._resume()

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        device = next(self.model.parameters()).device
        kept = torch.load(path, map_location=device, weights_only=True)
        self.model.load_state_dict(kept["model"])
        self.ema = kept["ema"]
        self.muon.load_state_dict(kept["muon"])
        self.adam.load_state_dict(kept["adam"])
        if self.task.beside and kept.get("beside"):  # else it begins, or is wanted no more
            self.task.beside.load_state_dict(kept["beside"])
        self.step = kept["step"]
        self.seconds = kept["seconds"]
        self.cpu_seconds = kept["cpu_seconds"]

    def save(self) -> None:
        """Replace the folder's checkpoint in one rename."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "beside": self.task.beside.state_dict() if self.task.beside else None,
            "step": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "recipe": asdict(self.recipe),
        }
        partial = self.folder / f"{CHECKPOINT}.tmp"
        with partial.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.folder / CHECKPOINT)

    def one_step(self) -> float:
        """Take a step; the loss before it."""
        self.model.train()
        torch.manual_seed((self.recipe.seed << 32) + self.step)  # for what the net itself draws: dropout
        loss = self.task.loss(self.step)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        rate = self.recipe.rate(self.step)
        for group in self.adam.param_groups:
            group["lr"] = self.recipe.learning_rate * rate
        self.adam.step()
        self.muon.step(rate)
        self._average()
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.recipe.ema, (self.step + 1) / (self.step + 10))  # short memory at first
        state = self.model.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.ema[name] for name in floats], [state[name] for name in floats], 1 - keep)

    def measure(self) -> dict[str, float]:
        """The task's numbers for the averaged weights; the weights in training are put back."""
        kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        self.model.eval()
        with torch.inference_mode():
            numbers = self.task.measure(self.model)
        self.model.load_state_dict(kept)
        return numbers

    def run(self, *, say: Callable[[str], None] = print, clock: Callable[[], float] = time.monotonic) -> None:
        """Train to the recipe's last step, with a line a minute on screen and in `log.jsonl`."""
        line, checkpoint = Every(60.0, clock), Every(self.recipe.checkpoint_seconds, clock)
        measure = Every(self.recipe.measure_seconds, clock)
        before, cpu = (
            self.cpu_seconds,
            time.process_time(),
        )  # wall time says little when shared
        losses: list[float] = []
        while self.step < self.recipe.steps:
            losses.append(self.one_step())
            last = self.step == self.recipe.steps
            if (took := line.passed(last)) > 0:
                self.seconds += took
                self.cpu_seconds = before + time.process_time() - cpu
                rate = len(losses) * self.recipe.batch_size / took
                self._log({"loss": float(np.mean(losses)), "images_per_second": rate}, say)
                losses = []
            if measure.passed(last) > 0:
                self._log(self.measure(), say)
            if checkpoint.passed(last) > 0:
                self.save()

    def _log(self, numbers: dict[str, float], say: Callable[[str], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {
            "step": self.step,
            "images": self.step * self.recipe.batch_size,
            "seconds": round(self.seconds),
            "cpu_seconds": round(self.cpu_seconds),
        }
        line = json.dumps(entry | {key: round(value, 4) for key, value in numbers.items()})
        with (self.folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        say(line)


class Every:
    """Something due every so many seconds of `clock`."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self.clock = clock
        self.since = clock()

    def passed(self, now: bool = False) -> float:
        """Seconds since it was last due, if it is due again (or must be `now`); else 0."""
        took = self.clock() - self.since
        if took < self.seconds and not now:
            return 0.0
        self.since = self.clock()
        return max(took, 1e-9)
