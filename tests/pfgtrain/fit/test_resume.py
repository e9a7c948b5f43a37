"""A run goes on where it was cut, to the bit, and only as what it was begun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pfgdata.errors import ConfigError, IdentityError, RunError, StoreLockedError
from pfgdata.files import Disk
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, checkpoints, read_state, save_checkpoint
from pfgtrain.config import FitConfig, load_config
from pfgtrain.fit import FitData, fit, go_on, plan_fit
from tests.doubles import CheapTagger
from tests.pfgtrain.fit.small_fit import (
    SMALL,
    Said,
    StopAfter,
    assert_all_finite,
    assert_same_run,
    fitted,
    losses_of,
    make_data,
)
from tests.pfgtrain.small_store import content_of

pytestmark = pytest.mark.resume
MODES: dict[str, dict[str, Any]] = {
    "unet": {"use_ema": True, "ema_decay": 0.9},
    "unet, cross-attention": {"unet_blocks": "cross_attention", "use_ema": True, "use_ema_warmup": True},
    "unet, up blocks, mlp": {"unet_blocks": "up_blocks", "adapter_kind": "mlp", "standardize_features": True},
    "unet without tokens, captions": {
        "num_tokens": 0,
        "caption": "tags",
        "shuffle_caption": True,
        "caption_dropout_rate": 0.3,
        "use_ema": True,
        "offload_ema": True,
    },
    "adapter": {"train": "adapter", "standardize_features": True, "use_ema": True},
    "lora": {"train": "lora", "r": 2, "lora_alpha": 1.0, "use_ema": True, "lora_learning_rate": 1e-2},
    "lora, captions and tokens": {
        "train": "lora",
        "unet_blocks": "cross_attention",
        "caption": "tags",
        "pfg_dropout": 0.2,
        "clip_skip": 2,
    },
}

ONE_STEP = replace(SMALL, max_train_steps=1, use_ema=True)
TWO_STEPS = replace(ONE_STEP, max_train_steps=2)
EIGHT_STEPS = replace(ONE_STEP, max_train_steps=8, gradient_accumulation_steps=2, validation_split=0.2)


@pytest.fixture(scope="module")
def whole_run(data: FitData, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of EIGHT_STEPS that was never cut, read only."""
    return fitted(data, base, EIGHT_STEPS, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def _one_step_run(data: FitData, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(data, base, ONE_STEP, tmp_path_factory.mktemp("one_step"))


@pytest.fixture
def begun(_one_step_run: Path, tmp_path: Path) -> Path:
    """A run of ONE_STEP, the test's own copy."""
    return shutil.copytree(_one_step_run, tmp_path / "run")


@pytest.mark.parametrize("mode", MODES)
def test_a_fit_cut_twice_and_resumed_equals_the_uncut_one(
    mode: str, data: FitData, base: Base, tmp_path: Path
) -> None:
    _cut_twice(data, base, replace(SMALL, **MODES[mode]), tmp_path)


@pytest.mark.parametrize("mode", ["unet", "adapter", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_fit_of_sdxl_cut_twice_and_resumed_equals_the_uncut_one(
    mode: str, sdxl_data: FitData, sdxl: Base, tmp_path: Path
) -> None:
    _cut_twice(sdxl_data, sdxl, replace(SMALL, **MODES[mode]), tmp_path)


def _cut_twice(data: FitData, base: Base, config: FitConfig, tmp_path: Path) -> None:
    config = replace(config, gradient_accumulation_steps=2, lr_scheduler="cosine")
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "cut", stop=StopAfter(1))
    for steps in (3, 10):
        report = go_on(data, base, config, run_dir=tmp_path / "cut", stop=StopAfter(steps))
    assert (report.first_step, report.last_step, report.interrupted) == (4, 6, False)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert [step for step, _ in losses_of(tmp_path / "cut")] == [1, 2, 3, 4, 5, 6]


def test_a_fit_killed_after_the_checkpoint_of_its_start_goes_on_from_it(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, checkpoint_at_start=True, checkpointing_steps=3, use_ema=True)
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "killed", stop=StopAfter(2))
    lost = checkpoints(tmp_path / "killed")[-1]
    lost.rename(lost.with_name(".tmp-gone"))  # as if killed before it was saved
    assert go_on(data, base, config, run_dir=tmp_path / "killed").first_step == 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert [path.name for path in checkpoints(tmp_path / "killed")] == [
        f"step-0000000{step}" for step in (0, 3, 6)
    ]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6, 7])
def test_it_may_be_cut_at_any_step_of_an_epoch(
    cut: int, whole_run: Path, data: FitData, base: Base, tmp_path: Path
) -> None:
    plan = plan_fit(data, base, EIGHT_STEPS)
    assert 2 * plan.batches_per_epoch < plan.batches  # cuts fall into every part of more than two epochs
    fit(data, base, EIGHT_STEPS, run_dir=tmp_path / "cut", stop=StopAfter(cut))
    go_on(data, base, EIGHT_STEPS, run_dir=tmp_path / "cut")
    assert_same_run(whole_run, tmp_path / "cut")


def test_steps_lost_to_a_crash_are_trained_again_and_logged_once(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, checkpointing_steps=2)
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "crashed", stop=StopAfter(5))
    lost = checkpoints(tmp_path / "crashed")[-1]
    lost.rename(lost.with_name(".tmp-gone"))  # as if killed before it was saved
    report = go_on(data, base, config, run_dir=tmp_path / "crashed")
    assert report.first_step == 4
    assert_same_run(tmp_path / "whole", tmp_path / "crashed")


def test_a_run_killed_before_its_first_checkpoint_is_begun_again(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, max_train_steps=2)
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "killed", stop=StopAfter(1))
    shutil.rmtree(tmp_path / "killed" / "checkpoints")
    said = Said()
    go_on(data, base, config, run_dir=tmp_path / "killed", progress=said)
    assert any("begins at step 1" in line for line in said.lines)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    go_on(data, base, config, run_dir=tmp_path / "killed", progress=said)
    assert any("goes on at step 3" in line for line in said.lines)


def test_a_resumed_run_reports_the_start_of_the_whole_run(data: FitData, base: Base, tmp_path: Path) -> None:
    first = fit(data, base, SMALL, run_dir=tmp_path / "run", stop=StopAfter(3))
    second = go_on(data, base, SMALL, run_dir=tmp_path / "run")
    assert second.probe_start == first.probe_start != second.probe_end
    assert (first.interrupted, first.probe_end) == (True, None)
    third = go_on(data, base, SMALL, run_dir=tmp_path / "run")  # nothing left to do
    assert (third.first_step, third.last_step, third.last_loss) == (6, 6, None)
    longer = go_on(data, base, replace(SMALL, max_train_steps=7), run_dir=tmp_path / "run")
    assert longer.last_step == 7
    assert load_config(tmp_path / "run" / "config.toml", {}).max_train_steps == 7


def _copied(saved: Path, folder: Path) -> None:
    shutil.copytree(saved, folder, dirs_exist_ok=True)


@pytest.mark.parametrize("rate", [1e38, 1e30])  # past the largest float32, and before it
def test_weights_gone_wrong_do_not_push_out_the_last_good_checkpoint(
    rate: float, data: FitData, base: Base, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    fit(data, base, replace(SMALL, max_train_steps=1, checkpoints_total_limit=1), run_dir=run)
    text = (run / "config.toml").read_text().replace("learning_rate = 0.001", f"learning_rate = {rate}")
    (run / "config.toml").write_text(text)
    saved = checkpoints(run)[-1].rename(tmp_path / "saved")
    state = torch.load(saved / "optimizer.pt", weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        group["lr"] = rate
    state["lr_scheduler"]["base_lrs"] = [rate, rate]
    torch.save(state, saved / "optimizer.pt")
    where = read_state(saved)
    (saved / "state.json").unlink()
    save_checkpoint(run, where, write=lambda folder: _copied(saved, folder))
    worse = replace(SMALL, max_train_steps=2, checkpoints_total_limit=1, learning_rate=rate)
    with pytest.raises(RunError, match=r"after step 2 is .*the newest checkpoint is step-00000001"):
        go_on(data, base, worse, run_dir=run)
    assert [path.name for path in checkpoints(run)] == ["step-00000001"]
    assert_all_finite(run)


def test_a_longer_run_equals_one_that_was_planned_so(data: FitData, base: Base, tmp_path: Path) -> None:
    config = replace(SMALL, max_train_steps=3, gradient_accumulation_steps=2)
    fit(data, base, replace(config, max_train_steps=5), run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "longer")
    go_on(data, base, replace(config, max_train_steps=5), run_dir=tmp_path / "longer")
    assert_same_run(tmp_path / "whole", tmp_path / "longer")


def test_a_run_whose_last_step_was_short_is_not_made_longer(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, max_train_steps=None, num_train_epochs=1, gradient_accumulation_steps=4)
    plan = plan_fit(data, base, config)
    short = plan.batches % 4
    assert short
    fit(data, base, config, run_dir=tmp_path / "run")
    with pytest.raises(RunError, match=f"ended by a step of {short} instead of 4 batches"):
        go_on(data, base, replace(config, num_train_epochs=2), run_dir=tmp_path / "run")
    again = go_on(data, base, config, run_dir=tmp_path / "run")
    assert again.last_step == plan.steps


def test_two_fits_in_one_folder_are_refused(begun: Path, data: FitData, base: Base) -> None:
    with (
        Disk().exclusive(begun / "lock", what="the test"),
        pytest.raises(StoreLockedError, match=r"run .*/run is being written by process \d+"),
    ):
        go_on(data, base, TWO_STEPS, run_dir=begun)
    assert go_on(data, base, TWO_STEPS, run_dir=begun).last_step == 2


def test_the_base_is_taken_at_the_revision_the_run_was_begun_with(
    begun: Path, data: FitData, base: Base, tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "models--org--tiny"
    for commit in ("a" * 40, "b" * 40):
        shutil.copytree(base.folder, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("b" * 40)
    record = replace(RunRecord.read(begun), base_name="org/tiny", base_revision="a" * 40)
    record.write(begun)
    script = (
        "import sys; from pathlib import Path; from pfgdata.store import Store\n"
        "from pfgtrain.config import FitConfig\n"
        "from pfgtrain.fit import base_of, data_of\n"
        "data, config = data_of(Store.open(Path(sys.argv[1])), FitConfig()), FitConfig(base='org/tiny')\n"
        "for run in (None, Path(sys.argv[2])): print(base_of(data, config, run_dir=run).revision)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, data.path, begun],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["b" * 40, "a" * 40], done.stderr


def test_a_run_goes_on_with_its_base_where_that_is_now(data: FitData, base: Base, tmp_path: Path) -> None:
    moved = Base.load(str(shutil.copytree(base.folder, tmp_path / "moved")))
    fit(data, base, SMALL, run_dir=tmp_path / "whole")
    fit(data, base, SMALL, run_dir=tmp_path / "cut", stop=StopAfter(2))
    go_on(data, moved, SMALL, run_dir=tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    scheduler = tmp_path / "moved" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.013"))
    with pytest.raises(RunError, match="another base_fingerprint"):
        go_on(data, Base.load(moved.name), SMALL, run_dir=tmp_path / "cut")


@pytest.mark.parametrize(
    "name", ["adapter.safetensors", "unet.safetensors", "ema/unet.safetensors", "optimizer.pt"]
)
def test_a_flipped_bit_in_a_checkpoint_is_found(name: str, begun: Path, data: FitData, base: Base) -> None:
    file = checkpoints(begun)[-1] / name
    whole = bytearray(file.read_bytes())
    whole[len(whole) * 3 // 4] ^= 1
    file.write_bytes(whole)
    with pytest.raises(RunError, match=f"{name}: missing, or not as it was saved; copy it back, or delete"):
        go_on(data, base, TWO_STEPS, run_dir=begun)


def test_a_caption_column_that_has_changed_is_another_run(base: Base, tmp_path: Path) -> None:
    data = make_data(tmp_path / "feats", base)
    config = replace(SMALL, caption="told", max_train_steps=1)
    for text, resume in (("one", False), ("another", True)):
        ids = [content_of(number) for number in range(30)]
        table = pa.table({"content_id": pa.array(ids, pa.binary(16)), "value": [text] * 30})
        data.store.write_column("told", table, replace=resume)
        if not resume:
            fit(data, base, config, run_dir=tmp_path / "run")
    with pytest.raises(RunError, match="cannot go on with another captions_digest"):
        go_on(data, base, config, run_dir=tmp_path / "run")


def refuse_taken(data: FitData, base: Base, run: Path) -> None:
    fit(data, base, SMALL, run_dir=run)


def refuse_seed(data: FitData, base: Base, run: Path) -> None:
    go_on(data, base, replace(TWO_STEPS, seed=1, num_tokens=3), run_dir=run)


def refuse_selection(data: FitData, base: Base, run: Path) -> None:
    fewer = replace(data, selection=data.selection.take(np.arange(9)))
    go_on(fewer, base, TWO_STEPS, run_dir=run)


def refuse_none(data: FitData, base: Base, run: Path) -> None:
    go_on(data, base, TWO_STEPS, run_dir=run / "none")


def refuse_fp16(data: FitData, base: Base, run: Path) -> None:
    fit(data, base, replace(SMALL, mixed_precision="fp16"), run_dir=run / "fp16")


def refuse_bytes(data: FitData, base: Base, run: Path) -> None:
    fit(data, base, SMALL, run_dir=run / os.fsdecode(b"\xff"))


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (refuse_bytes, "is not a UTF-8 path; rename the folder to train there"),
        (refuse_taken, "holds a run; go on with it by --resume"),
        (refuse_seed, "another num_tokens"),
        (refuse_selection, "another selection_digest, selection_count"),
        (refuse_none, "no run here"),
        (refuse_fp16, "needs a GPU"),
    ],
)
def test_what_is_no_way_to_go_on_is_one_line(
    attempt: Callable[[FitData, Base, Path], None], said: str, begun: Path, data: FitData, base: Base
) -> None:
    if attempt is refuse_fp16 and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises((RunError, ConfigError), match=said) as caught:
        attempt(data, base, begun)
    assert "\n" not in str(caught.value)


def test_another_tagger_is_refused_at_resume(begun: Path, base: Base, tmp_path: Path) -> None:
    other = make_data(tmp_path / "feats", base, tagger=CheapTagger(preprocess="webui"))
    with pytest.raises(IdentityError, match=r"cheap \(kohya\), not cheap \(webui\)"):
        go_on(other, base, TWO_STEPS, run_dir=begun)
