"""Fits of a tiny base on a small real store: exact to the bit over cuts, accumulation and processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pfgdata.errors import ConfigError, IdentityError, RunError
from pfgdata.store import Store
from pfgdata.vaes import Vae
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, checkpoints, read_metrics
from pfgtrain.config import FitConfig, load_config
from pfgtrain.fit import FitData, FitReport, fit, plan_fit
from tests.doubles import CheapTagger
from tests.pfgtrain.small_store import add_images, build_latents, build_store
from tests.pfgtrain.tiny_base import build_tiny_base

NUMBERS = list(range(30))
SMALL = FitConfig(
    max_train_steps=6,
    train_batch_size=8,
    num_tokens=2,
    learning_rate=1e-3,
    adapter_learning_rate=1e-2,
    condition_dropout=0.3,
    snr_gamma=5.0,
    logging_steps=2,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    return Base.load(str(build_tiny_base(folder, prediction_type="v_prediction")))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, base: Base) -> FitData:
    return make_data(tmp_path_factory.mktemp("store") / "feats", base)


def make_data(path: Path, base: Base, *, shard_rows: int = 8, tagger: CheapTagger | None = None) -> FitData:
    store = build_store(path, NUMBERS, shard_rows=shard_rows, tagger=tagger)
    digest = Vae.load(str(base.folder)).digest
    build_latents(store, NUMBERS, vae_digest=digest, shard_rows=shard_rows, base_name=base.name)
    return data_of(store)


def data_of(store: Store) -> FitData:
    snapshot = store.snapshot()
    (latent_set,) = store.latent_sets()
    return FitData(
        path=store.path,
        store=store.identity,
        snapshot=snapshot,
        latent_set=latent_set,
        selection=snapshot.everything,
    )


@dataclass
class StopAfter:
    """Asks a fit to stop after so many steps."""

    steps: int

    def __call__(self) -> bool:
        self.steps -= 1
        return self.steps <= 0


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    newest = checkpoints(run)[-1]
    state = load_file(newest / "adapter.safetensors")
    if (newest / "unet").exists():
        state |= load_file(newest / "unet" / "diffusion_pytorch_model.safetensors")
    return state


def losses_of(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(run)]


def assert_same_run(one: Path, other: Path) -> None:
    assert losses_of(one) == losses_of(other)
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("train", ["unet", "adapter"])
def test_a_fit_cut_after_any_step_and_resumed_equals_the_uncut_one(
    train: Any, data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, train=train, gradient_accumulation_steps=2, lr_scheduler="cosine")
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "cut", stop=StopAfter(1))
    for steps in (3, 10):
        report = fit(data, base, config, run_dir=tmp_path / "cut", resume=True, stop=StopAfter(steps))
    assert (report.first_step, report.last_step, report.interrupted) == (4, 6, False)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert [step for step, _ in losses_of(tmp_path / "cut")] == [1, 2, 3, 4, 5, 6]


def test_steps_lost_to_a_crash_are_trained_again_and_logged_once(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, checkpointing_steps=2)
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "crashed", stop=StopAfter(5))
    lost = checkpoints(tmp_path / "crashed")[-1]
    lost.rename(lost.with_name(".tmp-gone"))  # as if killed before it was saved
    report = fit(data, base, config, run_dir=tmp_path / "crashed", resume=True)
    assert report.first_step == 4
    assert_same_run(tmp_path / "whole", tmp_path / "crashed")


def test_a_run_killed_before_its_first_checkpoint_is_begun_again(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, max_train_steps=2)
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "killed", stop=StopAfter(1))
    shutil.rmtree(tmp_path / "killed" / "checkpoints")
    fit(data, base, config, run_dir=tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


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


def test_a_resumed_run_reports_the_start_of_the_whole_run(data: FitData, base: Base, tmp_path: Path) -> None:
    first = fit(data, base, SMALL, run_dir=tmp_path / "run", stop=StopAfter(3))
    second = fit(data, base, SMALL, run_dir=tmp_path / "run", resume=True)
    assert second.probe_start == first.probe_start != second.probe_end
    assert (first.interrupted, first.probe_end) == (True, None)
    third = fit(data, base, SMALL, run_dir=tmp_path / "run", resume=True)  # nothing left to do
    assert (third.first_step, third.last_step, third.last_loss) == (6, 6, None)
    longer = fit(data, base, replace(SMALL, max_train_steps=7), run_dir=tmp_path / "run", resume=True)
    assert longer.last_step == 7


def test_with_train_adapter_the_unet_stays_as_it_was(data: FitData, base: Base, tmp_path: Path) -> None:
    report = fit(data, base, replace(SMALL, train="adapter"), run_dir=tmp_path / "run")
    assert report.trainable == {"adapter": (12 + 1) * 2 * base.cross_attention_dim}
    assert not (Path(report.checkpoint) / "unet").exists()
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
    config = replace(SMALL, condition_dropout=1.0, train="adapter", adam_weight_decay=0.0)
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
    assert record.tagger == data.store.tagger
    assert (record.prompt, record.uncond, record.num_tokens) == ("a 猫", "eos", 2)
    assert (record.prediction_type, record.base_name) == ("v_prediction", str(base.folder))
    assert (record.latents_id, record.selection_digest) == (data.latent_set.id, data.selection.digest)
    assert record.versions["torch"].startswith(torch.__version__.split("+")[0])
    made = {"base": str(base.folder), "latents": data.latent_set.id, "mixed_precision": "no"}
    asked = replace(SMALL, prompt="a 猫", uncond="eos")
    assert load_config(tmp_path / "run" / "config.toml", {}) == replace(asked, **made)  # type: ignore[arg-type]


def test_checkpoints_fall_at_their_steps_and_the_limit_holds(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, checkpointing_steps=2, checkpoints_total_limit=2)
    fit(data, base, config, run_dir=tmp_path / "run", stop=StopAfter(5))
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-00000004", "step-00000005"]


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, learning_rate=1e18, max_grad_norm=0.0, checkpointing_steps=1)
    with pytest.raises(RunError, match=r"the loss of step \d is (nan|inf).*lower learning_rate"):
        fit(data, base, config, run_dir=tmp_path / "run")
    assert all(np.isfinite(loss) for _, loss in losses_of(tmp_path / "run"))


def refuse_taken(data: FitData, base: Base, run: Path) -> None:
    fit(data, base, SMALL, run_dir=run)


def refuse_seed(data: FitData, base: Base, run: Path) -> None:
    fit(data, base, replace(SMALL, seed=1, num_tokens=3), run_dir=run, resume=True)


def refuse_selection(data: FitData, base: Base, run: Path) -> None:
    fewer = replace(data, selection=data.selection.take(np.arange(9)))
    fit(fewer, base, SMALL, run_dir=run, resume=True)


def refuse_none(data: FitData, base: Base, run: Path) -> None:
    fit(data, base, SMALL, run_dir=run / "none", resume=True)


def refuse_fp16(data: FitData, base: Base, run: Path) -> None:
    fit(data, base, replace(SMALL, mixed_precision="fp16"), run_dir=run / "fp16")


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (refuse_taken, "holds a run; go on with it by --resume"),
        (refuse_seed, "another num_tokens"),
        (refuse_selection, "another selection_digest, selection_count"),
        (refuse_none, "no run here"),
        (refuse_fp16, "needs a GPU"),
    ],
)
def test_what_is_no_way_to_go_on_is_one_line(
    attempt: Callable[[FitData, Base, Path], None], said: str, data: FitData, base: Base, tmp_path: Path
) -> None:
    if attempt is refuse_fp16 and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    fit(data, base, replace(SMALL, max_train_steps=1), run_dir=tmp_path / "run")
    with pytest.raises((RunError, ConfigError), match=said) as caught:
        attempt(data, base, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_another_tagger_is_refused_at_resume(data: FitData, base: Base, tmp_path: Path) -> None:
    fit(data, base, replace(SMALL, max_train_steps=1), run_dir=tmp_path / "run")
    other = make_data(tmp_path / "feats", base, tagger=CheapTagger(recipe="webui"))
    with pytest.raises(IdentityError, match=r"cheap \(kohya\), not cheap \(webui\)"):
        fit(other, base, SMALL, run_dir=tmp_path / "run", resume=True)


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


def test_a_fit_leaves_the_global_generator_alone(data: FitData, base: Base, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    report: FitReport = fit(data, base, SMALL, run_dir=tmp_path / "run")
    assert report.last_step == 6
    assert torch.equal(torch.rand(3), expected)
