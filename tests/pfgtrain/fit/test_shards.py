"""A fit does not end well on a damaged shard, and names it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pfgdata.errors import CorruptShardError, RunError
from pfgdata.store import Store, verify
from pfgtrain.base import Base
from pfgtrain.checkpoint import checkpoints
from pfgtrain.fit import FitData, fit, go_on
from pfgtrain.fit.shards import ShardCheck
from tests.pfgtrain.fit.small_fit import SMALL, Said, StopAfter, data_of, make_data


@pytest.fixture
def data(base: Base, tmp_path: Path) -> FitData:
    """A store of the test's own, to be damaged."""
    return make_data(tmp_path / "feats", base)


def damage(path: Path, *, at: int = -2) -> Path:
    """Flip a bit of one byte of a file, as a bad disk does."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return path


def some_file(data: FitData, pattern: str) -> Path:
    """One of the files of the store that fit `pattern`, the last."""
    return sorted(data.path.glob(pattern))[-1]


def test_whole_shards_are_compared_once_and_that_is_said(data: FitData, base: Base, tmp_path: Path) -> None:
    said = Said()
    fit(data, base, SMALL, run_dir=tmp_path / "run", progress=said)
    count = len({*data.path.glob("shards/*/features.h5"), *data.path.glob("latents/*/shards/*/latents.h5")})
    assert f"shards read: {count}; each is compared with its digest meanwhile" in said.lines
    assert said.lines.count(f"all {count} shards are as they were written") == 1


@pytest.mark.parametrize(
    "pattern", ["shards/*/features.h5", "shards/*/images.parquet", "latents/*/shards/*/latents.h5"]
)
@pytest.mark.parametrize("steps", [1, 6])
def test_a_fit_on_a_damaged_shard_names_it_and_saves_nothing(
    data: FitData, base: Base, tmp_path: Path, pattern: str, steps: int
) -> None:
    path = damage(some_file(data, pattern), at=100 if pattern.endswith("parquet") else -2)
    with pytest.raises(CorruptShardError, match=r"its bytes are not .* --deep --repair") as raised:
        fit(data, base, replace(SMALL, max_train_steps=steps), run_dir=tmp_path / "run")
    assert str(path) in str(raised.value)
    assert checkpoints(tmp_path / "run") == []
    assert [problem.path for problem in verify(data.path, deep=True)] == [path]


def test_a_damaged_shard_of_held_out_images_counts_too(data: FitData, base: Base, tmp_path: Path) -> None:
    for path in data.path.glob("latents/*/shards/*/latents.h5"):
        damage(path)
    with pytest.raises(CorruptShardError, match=r"latents\.h5"):
        fit(data, base, replace(SMALL, validation_split=0.3), run_dir=tmp_path / "run")


def test_a_damaged_shard_that_is_not_read_does_not_matter(data: FitData, base: Base, tmp_path: Path) -> None:
    damage(some_file(data, "shards/*/features.h5"))
    first = np.flatnonzero(data.selection.shard_index == 0)
    fit(replace(data, selection=data.selection.take(first)), base, SMALL, run_dir=tmp_path / "run")


def test_a_loss_that_is_not_finite_is_laid_on_the_damaged_shard(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    """The probe before the first step finds the loss; a lower learning rate would not help."""
    for view in data.snapshot.shards:
        place = view.meta.arrays["feature"]
        array = np.memmap(view.path / place.file, place.dtype, "r+", place.offset, place.shape)
        array[:] = np.nan
        array.flush()
    with pytest.raises(CorruptShardError, match=r"features\.h5"):
        fit(data, base, SMALL, run_dir=tmp_path / "run")


def test_a_resumed_run_is_compared_again(data: FitData, base: Base, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit(data, base, SMALL, run_dir=run, stop=StopAfter(2)).interrupted
    damage(some_file(data, "latents/*/shards/*/latents.h5"))
    again = data_of(Store.open(data.path))
    with pytest.raises(CorruptShardError, match=r"latents\.h5"):
        go_on(again, base, SMALL, run_dir=run)
    assert [path.name for path in checkpoints(run)] == ["step-00000002"]


def test_a_stop_does_not_wait_and_says_what_was_not_compared() -> None:
    said, go_on = Said(), threading.Event()

    def slow() -> None:
        go_on.wait(30)

    with ShardCheck([lambda: None, slow], said) as check:
        check.finish(quickly=True)
        go_on.set()
    assert any("were not compared yet; a resume compares all" in line for line in said.lines)


def test_a_comparison_found_bad_comes_out_at_the_next_look_or_at_the_end() -> None:
    def bad() -> None:
        raise CorruptShardError("bad")

    with pytest.raises(CorruptShardError), ShardCheck([bad], Said()) as check:
        while True:
            check.look()
    with pytest.raises(CorruptShardError), ShardCheck([bad], Said()) as check:
        check.finish()
    with pytest.raises(CorruptShardError), ShardCheck([bad], Said()):
        raise RunError("the loss is not finite")
