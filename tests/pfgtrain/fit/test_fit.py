"""Fits of a tiny base on a small real store: what is learnt, planned, recorded and refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pfgdata.errors import IdentityError, ModelError, RunError
from pfgdata.store import Store
from pfgdata.vaes import Vae
from pfgtrain.base import Base
from pfgtrain.checkpoint import (
    ADAPTER_FILE,
    EMA_FOLDER,
    UNET_FILE,
    RunRecord,
    checkpoints,
    read_metrics,
    read_state,
)
from pfgtrain.config import AdamW, load_config
from pfgtrain.fit import FitData, FitReport, base_of, fit, plan_fit
from tests.pfgtrain.fit.small_fit import (
    NUMBERS,
    SMALL,
    Said,
    StopAfter,
    assert_all_finite,
    assert_same_run,
    data_of,
    losses_of,
    make_data,
)
from tests.pfgtrain.small_store import add_images, build_latents, build_store


def test_the_layout_of_shards_does_not_show_in_the_weights(data: FitData, base: Base, tmp_path: Path) -> None:
    fit(data, base, SMALL, run_dir=tmp_path / "one")
    fit(make_data(tmp_path / "feats", base, shard_rows=3), base, SMALL, run_dir=tmp_path / "other")
    assert_same_run(tmp_path / "one", tmp_path / "other")


def test_the_loss_of_fixed_rows_falls_and_start_stands_beside_end(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, max_train_steps=40, condition_dropout=0.0)
    report = fit(data, base, config, run_dir=tmp_path / "run")
    assert report.probe_end is not None
    assert report.probe_end < 0.9 * report.probe_start
    assert report.first_loss == losses_of(tmp_path / "run")[0][1]
    assert report.last_loss == losses_of(tmp_path / "run")[-1][1]
    assert report.trainable.keys() == {"adapter", "unet"}
    json.dumps(report.as_dict())


def test_with_train_adapter_the_unet_stays_as_it_was(data: FitData, base: Base, tmp_path: Path) -> None:
    report = fit(data, base, replace(SMALL, train="adapter"), run_dir=tmp_path / "run")
    assert report.trainable == {"adapter": (12 + 1) * 2 * base.cross_attention_dim}
    assert not (Path(report.checkpoint) / "unet.safetensors").exists()
    assert report.probe_end != report.probe_start


def test_each_part_has_its_own_learning_rate_and_the_schedule_counts_steps(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, lr_scheduler="linear", lr_warmup_steps=2, gradient_accumulation_steps=2)
    fit(data, base, config, run_dir=tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    shape = [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    assert [line["learning_rate"] for line in lines] == pytest.approx([1e-3 * s for s in shape])
    assert [line["adapter_learning_rate"] for line in lines] == pytest.approx([1e-2 * s for s in shape])


def test_a_dropped_row_does_not_see_its_feature(data: FitData, base: Base, tmp_path: Path) -> None:
    config = replace(SMALL, condition_dropout=1.0, train="adapter", adamw=AdamW(weight_decay=0.0))
    report = fit(data, base, config, run_dir=tmp_path / "run")
    assert report.probe_end == report.probe_start  # no gradient ever reached the adapter


def test_gradient_checkpointing_changes_no_loss(data: FitData, base: Base, tmp_path: Path) -> None:
    fit(data, base, SMALL, run_dir=tmp_path / "plain")
    fit(data, base, replace(SMALL, gradient_checkpointing=True), run_dir=tmp_path / "checkpointed")
    plain, checkpointed = losses_of(tmp_path / "plain"), losses_of(tmp_path / "checkpointed")
    assert [loss for _, loss in checkpointed] == pytest.approx([loss for _, loss in plain], rel=1e-4)


def test_epochs_are_counted_in_images_and_the_last_step_takes_what_is_left(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, max_train_steps=None, num_train_epochs=2, gradient_accumulation_steps=3)
    plan = plan_fit(data, base, config)
    assert plan.batches == 2 * plan.batches_per_epoch
    assert plan.steps == -(-plan.batches // 3)
    assert plan.batches % 3  # the last step is short
    report = fit(data, base, config, run_dir=tmp_path / "run")
    assert report.last_step == plan.steps
    assert report.plan.epochs == 2
    assert read_metrics(tmp_path / "run")[-1]["epoch"] == 1


def test_a_plan_counts_rows_images_and_buckets(base: Base, tmp_path: Path) -> None:
    made = make_data(tmp_path / "feats", base)
    store = Store.open(made.path)
    add_images(store, [0, 1, 100, 101], shard_rows=4, start=1000)
    plan = plan_fit(data_of(Store.open(made.path)), base, SMALL, processes=2)
    assert (plan.selected, plan.distinct, plan.images, plan.without_latent) == (34, 32, 30, 2)
    assert sum(plan.buckets.values()) == 30
    assert plan.effective_batch == 16


def test_a_run_records_what_it_was_made_with(data: FitData, base: Base, tmp_path: Path) -> None:
    fit(data, base, replace(SMALL, prompt="a 猫", uncond="eos"), run_dir=tmp_path / "run")
    record = RunRecord.read(tmp_path / "run")
    assert record.tagger == data.store.identity.tagger
    assert record.store == str(data.path.resolve())
    assert (record.prompt, record.uncond, record.num_tokens) == ("a 猫", "eos", 2)
    assert (record.prediction_type, record.base_name) == ("v_prediction", str(base.folder))
    assert (record.latents_id, record.selection_digest) == (data.latent_set.id, data.selection.digest)
    assert (record.versions["torch"] or "").startswith(torch.__version__.split("+")[0])
    made = {"base": str(base.folder), "latents": data.latent_set.id, "mixed_precision": "no"}
    asked = replace(SMALL, prompt="a 猫", uncond="eos")
    assert load_config(tmp_path / "run" / "config.toml", {}) == replace(asked, **made)  # type: ignore[arg-type]


def test_checkpoints_fall_at_their_steps_and_the_limit_holds(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, checkpointing_steps=2, checkpoints_total_limit=2)
    fit(data, base, config, run_dir=tmp_path / "run", stop=StopAfter(5))
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000004", "step-00000005"]


def test_the_checkpoint_of_the_start_stays_whatever_the_limit(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, checkpoint_at_start=True, checkpointing_steps=2, checkpoints_total_limit=1)
    fit(data, base, config, run_dir=tmp_path / "run")
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000000", "step-00000006"]


def test_a_checkpoint_before_the_first_step_holds_the_start_and_changes_no_step(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, checkpoint_at_start=True, use_ema=True, validation_split=0.2)
    report = fit(data, base, config, run_dir=tmp_path / "run")
    start, end = checkpoints(tmp_path / "run")
    assert (start.name, end.name) == ("step-00000000", "step-00000006")
    state = base.load_unet().state_dict()
    for folder in (start, start / EMA_FOLDER):
        kept = load_file(folder / UNET_FILE)
        assert kept.keys() == state.keys()
        assert all(torch.equal(kept[name], state[name]) for name in state)
        assert (folder / ADAPTER_FILE).is_file()
    assert read_state(start).validation_loss is not None
    assert read_state(start).probe_start == report.probe_start
    fit(data, base, replace(config, checkpoint_at_start=False), run_dir=tmp_path / "without")
    assert_same_run(tmp_path / "run", tmp_path / "without")


def test_too_many_steps_without_a_finite_gradient_end_the_run(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, learning_rate=1e18, max_grad_norm=0.0, max_skipped_steps=1, checkpointing_steps=1)
    with pytest.raises(
        RunError, match=r"2 steps in a row, up to step \d, had no finite .*lower learning_rate"
    ):
        fit(data, base, config, run_dir=tmp_path / "run")
    assert all(np.isfinite(line["loss"]) for line in read_metrics(tmp_path / "run") if "loss" in line)
    assert_all_finite(tmp_path / "run")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_base_that_is_not_finite_is_named_and_not_the_learning_rate(
    data: FitData, base: Base, tmp_path: Path, part: str
) -> None:
    shutil.copytree(base.folder, tmp_path / "base")
    (file,) = (tmp_path / "base" / part).glob("*.safetensors")
    tensors = load_file(file)
    name = max(name for name, value in tensors.items() if value.ndim == 1)  # a bias of the end
    tensors[name][0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"base .*: .* is not finite, before any step; get a whole copy"):
        fit(data, Base.load(str(tmp_path / "base")), SMALL, run_dir=tmp_path / "run")
    assert not checkpoints(tmp_path / "run")


def test_a_first_step_into_nowhere_saves_nothing(data: FitData, base: Base, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a weight after step 1 is not finite; no checkpoint was made yet"):
        fit(data, base, replace(SMALL, max_train_steps=1, learning_rate=1e38), run_dir=tmp_path / "run")
    assert not checkpoints(tmp_path / "run")


def test_probe_losses_do_not_depend_on_the_batch_size(data: FitData, base: Base, tmp_path: Path) -> None:
    starts = []
    for size in (3, 8, 32):
        config = replace(SMALL, max_train_steps=1, train_batch_size=size)
        starts.append(fit(data, base, config, run_dir=tmp_path / str(size)).probe_start)
    assert starts == pytest.approx([starts[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("tokens", [20, 21])
def test_more_tokens_than_a_web_ui_takes_are_warned_of(
    tokens: int, data: FitData, base: Base, tmp_path: Path
) -> None:
    said = Said()
    config = replace(SMALL, max_train_steps=1, num_tokens=tokens)
    fit(data, base, config, run_dir=tmp_path / "run", progress=said)
    assert any("takes at most 20" in line for line in said.lines) == (tokens > 20)


def test_the_base_of_the_latents_is_the_default(data: FitData, base: Base) -> None:
    found = base_of(data, replace(SMALL, prediction_type="epsilon"))
    assert (found.name, found.prediction_type) == (base.name, "epsilon")


def test_latents_of_another_vae_or_of_a_finer_step_are_refused(base: Base, tmp_path: Path) -> None:
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=8)
    build_latents(store, NUMBERS, vae_digest="another", shard_rows=8, base_name="some/base")
    with pytest.raises(IdentityError, match=r"VAE of some/base.*use --base some/base"):
        plan_fit(data_of(store), base, SMALL)
    store = build_store(tmp_path / "fine", NUMBERS, shard_rows=8)
    digest = Vae.load(str(base.folder)).digest
    build_latents(store, NUMBERS, vae_digest=digest, shard_rows=8, step=8)
    with pytest.raises(IdentityError, match=r"in steps of 8 pixels.*needs 16"):
        plan_fit(data_of(store), base, SMALL)


def test_latents_of_another_scale_than_the_base_s_are_refused(base: Base, tmp_path: Path) -> None:
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=8)
    digest = Vae.load(str(base.folder)).digest
    build_latents(store, NUMBERS, vae_digest=digest, shard_rows=8, scaling_factor=0.13025)
    with pytest.raises(
        IdentityError, match=r"scaling_factor 0\.13025, base .* has scaling_factor 0\.18215; use --base"
    ):
        plan_fit(data_of(store), base, SMALL)


def test_a_fit_leaves_the_global_generator_alone(data: FitData, base: Base, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    report: FitReport = fit(data, base, SMALL, run_dir=tmp_path / "run")
    assert report.last_step == 6
    assert torch.equal(torch.rand(3), expected)
