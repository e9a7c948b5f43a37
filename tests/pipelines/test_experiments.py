"""The experiments: a fit that was stopped is not done, and what is wrong is one line."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pfgtrain.base import Base
from pfgtrain.checkpoint import checkpoints, find_checkpoint, read_state
from pfgtrain.fit import FitData, fit
from pipelines import experiments
from pipelines.demo_models import second_eye
from pipelines.experiments import train
from tests.pfgtrain.fit.small_fit import SMALL, StopAfter, assert_same_run, fitted, make_data
from tests.pfgtrain.tiny_base import build_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    return Base.load(str(build_tiny_base(folder, prediction_type="v_prediction")))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, base: Base) -> FitData:
    return make_data(tmp_path_factory.mktemp("store") / "feats", base)


def test_a_fit_that_was_stopped_goes_on_to_its_end_and_its_figures_are_made_again(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config, run = replace(SMALL, base=base.name), tmp_path / "stopped"
    fit(data, base, config, run_dir=run, stop=StopAfter(2))
    (run / "figures.json").write_text("{}")  # of the weights at step 2
    train(data.store, config, run=run)
    assert read_state(find_checkpoint(run)).step == SMALL.max_train_steps
    assert not (run / "figures.json").exists()
    assert_same_run(run, fitted(data, base, config, tmp_path))


def test_a_run_that_ended_before_its_first_checkpoint_is_trained(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, base=base.name, max_train_steps=2)
    run = fitted(data, base, config, tmp_path)
    shutil.rmtree(run / "checkpoints")
    train(data.store, config, run=run)
    assert [read_state(one).step for one in checkpoints(run)] == [2]


def test_what_is_done_is_not_done_again(data: FitData, base: Base, tmp_path: Path) -> None:
    config, run = replace(SMALL, base=base.name, max_train_steps=2), tmp_path / "run"
    train(data.store, config, run=run)
    (run / "figures.json").write_text("{}")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    train(data.store, config, run=run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("command", [experiments, second_eye])
def test_a_demo_that_is_not_there_is_one_line(
    command: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--demo", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["experiments", *words])
    assert command.main() == 1  # type: ignore[attr-defined]
    said = capsys.readouterr().err
    assert "absent" in said and said.count("\n") == 1
