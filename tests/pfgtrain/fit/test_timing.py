"""The time that a fit will take is told by steps of it: of each size in its share, none that warms up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pfgdata.records import NoProgress
from pfgtrain.base import Base
from pfgtrain.batches import Batch
from pfgtrain.fit import FitData, Trainer, plan_fit, time_fit
from pfgtrain.fit.data import sets_of
from tests.pfgtrain.fit.small_fit import SMALL

CONFIG = replace(SMALL, train_batch_size=3, max_train_steps=None, num_train_epochs=4, validation_split=0.4)
FIRST, PASS = 500.0, 7.0  # seconds more of a shape's first step; of a row's way through the UNet


class Clock:
    """Stands still but for what a trainer does: a batch takes as many seconds as its latents have numbers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shapes = set[tuple[int, ...]]()
        self.trained = list[int]()

    def step(self, trainer: Trainer, batches: Sequence[Batch]) -> Any:
        shape = batches[0].latents.shape
        self.now += sum(batch.latents.size for batch in batches) + FIRST * (shape not in self.shapes)
        self.shapes.add(shape)
        self.trained.append(len({id(batch) for batch in batches}))

    def probe(self, trainer: Trainer, batch: Batch, *, quantiles: Any) -> None:
        self.now += PASS * len(batch.rows)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(Trainer, "step", lambda self, batches: clock.step(self, batches))
    monkeypatch.setattr(Trainer, "probe", lambda self, batch, **asked: clock.probe(self, batch, **asked))
    monkeypatch.setattr(Trainer, "read_losses", lambda self, outcomes: ([], []))
    return clock


def test_steps_of_every_size_count_in_their_share(data: FitData, base: Base, clock: Clock) -> None:
    plan = plan_fit(data, base, CONFIG)
    told = time_fit(data, base, CONFIG, plan, steps=plan.batches_per_epoch, progress=NoProgress())
    batches = sets_of(data, CONFIG, processes=1).train
    epoch = [batches.read(index, part=slice(None)).latents.size for index in range(batches.per_epoch)]
    assert len(set(epoch)) > 1
    assert told.steps == len(epoch)
    assert told.step == pytest.approx(np.mean(epoch))
    assert told.training == pytest.approx(4 * sum(epoch))


def test_looks_and_pictures_count_the_rows_that_pass(data: FitData, base: Base, clock: Clock) -> None:
    config = replace(
        CONFIG, checkpointing_steps=5, checkpoint_at_start=True, num_validation_images=2, num_train_epochs=2
    )
    plan = plan_fit(data, base, config)
    assert plan.held_out > 2
    told = time_fit(data, base, config, plan, steps=2, progress=NoProgress())
    made = 1 + -(-plan.steps // 5)
    rows = 2 * plan.images + made * (plan.held_out + 2 * 20 * 2)
    assert told.looking == pytest.approx(PASS * rows)
    assert told.seconds == told.loading + told.training + told.looking


def test_a_timed_step_has_as_many_batches_as_the_run_s(data: FitData, base: Base, clock: Clock) -> None:
    config = replace(CONFIG, gradient_accumulation_steps=3)
    plan = plan_fit(data, base, config)
    time_fit(data, base, config, plan, steps=1, progress=NoProgress())
    assert clock.trained == [3, 3, 3]  # two warm up


@pytest.mark.parametrize("keys", [{"caption": "tags", "cache_captions": True}, {"use_ema": True}])
def test_what_is_timed_is_the_fit_itself(keys: dict[str, Any], data: FitData, base: Base) -> None:
    config = replace(CONFIG, **keys, standardize_features=True)
    told = time_fit(data, base, config, plan_fit(data, base, config), steps=2, progress=NoProgress())
    assert min(told.step, told.loading, told.looking) > 0
