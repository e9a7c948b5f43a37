"""Steps without a finite gradient: left out on the device, named by their images, and not for ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pfgdata.errors import RunError
from pfgtrain.base import Base
from pfgtrain.checkpoint import checkpoints, read_metrics
from pfgtrain.fit import FitData, fit, go_on
from tests.pfgtrain.fit.small_fit import (
    SMALL,
    Said,
    assert_all_finite,
    assert_same_run,
    make_data,
    weights_of,
)
from tests.pfgtrain.small_store import content_of


@pytest.fixture
def spoilt(base: Base, tmp_path: Path) -> FitData:
    """A store whose latent of image 3 is not finite."""
    return make_data(tmp_path / "feats", base, spoilt=3)


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_a_step_with_a_bad_image_is_skipped_and_the_image_named(
    max_grad_norm: float, spoilt: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(
        SMALL,
        max_train_steps=10,
        checkpointing_steps=1,
        max_grad_norm=max_grad_norm,
        max_skipped_steps=1,  # in a row: once an epoch is not
        use_ema=True,
    )
    said = Said()
    report = fit(spoilt, base, config, run_dir=tmp_path / "run", progress=said)
    lines = read_metrics(tmp_path / "run")
    skipped = [line["step"] for line in lines if line.get("skipped")]
    assert 2 <= len(skipped) == report.skipped_steps < 10
    assert all(line["content_ids"] == [content_of(3).hex()] for line in lines if line.get("skipped"))
    assert all(np.isfinite(line["loss"]) for line in lines if not line.get("skipped"))
    assert any(f"step {skipped[0]} was skipped: the loss of {content_of(3).hex()}" in s for s in said.lines)
    assert_all_finite(tmp_path / "run")
    saved = checkpoints(tmp_path / "run")
    for step in [step for step in skipped if step > 1]:
        for file in ("adapter.safetensors", "unet.safetensors"):
            before, after = (load_file(saved[step - 2] / file), load_file(saved[step - 1] / file))
            assert all(torch.equal(before[name], after[name]) for name in before)
        states = [
            torch.load(saved[at] / "optimizer.pt", weights_only=True)["optimizer"]["state"]
            for at in (step - 2, step - 1)
        ]
        for index, state in states[0].items():
            assert all(torch.equal(state[key], states[1][index][key]) for key in state)


def test_skipped_steps_resume_to_the_bit_too(spoilt: FitData, base: Base, tmp_path: Path) -> None:
    config = replace(SMALL, max_train_steps=8, use_ema=True, logging_steps=1)
    fit(spoilt, base, config, run_dir=tmp_path / "whole")
    skips = [line["step"] for line in read_metrics(tmp_path / "whole") if line.get("skipped")]
    for steps in range(1, 9):
        part = replace(config, max_train_steps=steps)
        (go_on if steps > 1 else fit)(spoilt, base, part, run_dir=tmp_path / "cut")
    ours, theirs = weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole")
    assert skips
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_more_skipped_steps_in_a_row_than_allowed_end_the_run(
    spoilt: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, train_batch_size=30, gradient_accumulation_steps=3, max_skipped_steps=2)
    with pytest.raises(RunError, match=r"3 steps in a row, up to step 3, had no finite gradient"):
        fit(spoilt, base, replace(config, logging_steps=3), run_dir=tmp_path / "run")
    assert [line["skipped"] for line in read_metrics(tmp_path / "run")] == [True] * 3


def test_a_picture_that_cannot_be_drawn_is_said_and_training_goes_on(
    spoilt: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, validation_split=0.9, num_validation_images=30, max_train_steps=2)
    said = Said()
    report = fit(spoilt, base, config, run_dir=tmp_path / "run", progress=said)
    assert report.last_step == 2
    assert report.validation_loss is not None  # of the other images
    assert any("no picture of the images held out at step 2" in line for line in said.lines)


def test_a_healthy_run_skips_nothing(data: FitData, base: Base, tmp_path: Path) -> None:
    assert fit(data, base, SMALL, run_dir=tmp_path / "a").skipped_steps == 0
    fit(data, base, replace(SMALL, max_skipped_steps=0), run_dir=tmp_path / "b")
    assert_same_run(tmp_path / "a", tmp_path / "b")
