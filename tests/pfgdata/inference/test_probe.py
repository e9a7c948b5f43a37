"""The batch size is the one after which larger ones bring nothing; the clock is the test's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pfgdata.inference import choose_batch_size
from pfgdata.taggers import OnnxTagger
from tests.pfgdata.taggers.graphs import Form, write_tagger

Floats = npt.NDArray[np.float32]


class TimedTagger:
    """Takes `overhead` seconds a call and `cost` an image, on its own clock; `memory` images at once."""

    def __init__(
        self, *, overhead: float, cost: float, memory: int = 10_000, batch_size: int | None = None
    ) -> None:
        self.batch_size = batch_size
        self.image_size = 4
        self.provider = "CUDAExecutionProvider"
        self.now = 0.0
        self.calls: list[int] = []
        self._overhead, self._cost, self._memory = overhead, cost, memory

    def predict(self, images: npt.NDArray[np.uint8], /) -> tuple[Floats, Floats]:
        self.calls.append(len(images))
        parts = -(-len(images) // self._memory)
        self.now += parts * self._overhead + self._cost * len(images)
        return np.zeros((len(images), 1), np.float32), np.zeros((len(images), 1), np.float32)

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("overhead", "memory", "expected"),
    [(0.0, 10_000, 16), (0.002, 10_000, 64), (0.4, 10_000, 256), (0.4, 64, 64)],
    ids=["no gain", "some", "always", "memory ends at 64"],
)
def test_the_batch_grows_as_long_as_it_pays(overhead: float, memory: int, expected: int) -> None:
    tagger = TimedTagger(overhead=overhead, cost=0.001, memory=memory)
    assert choose_batch_size(tagger, clock=tagger.clock) == expected


def test_the_probe_ends_in_time() -> None:
    tagger = TimedTagger(overhead=10.0, cost=0.001)
    assert choose_batch_size(tagger, clock=tagger.clock) == 16
    assert set(tagger.calls) == {16}
    slow = TimedTagger(overhead=0.5, cost=0.01)
    choose_batch_size(slow, clock=slow.clock)
    assert slow.now <= 10


def test_a_fixed_batch_is_not_probed() -> None:
    tagger = TimedTagger(overhead=1.0, cost=1.0, batch_size=12)
    assert choose_batch_size(tagger, clock=tagger.clock) == 12
    assert not tagger.calls


def test_a_cpu_is_not_probed_unless_asked(tmp_path: Path) -> None:
    write_tagger(tmp_path, Form())
    tagger = OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
    assert choose_batch_size(tagger) == 8
    assert choose_batch_size(tagger, candidates=[2, 4]) in (2, 4)
