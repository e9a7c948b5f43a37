"""Where a fit starts from: a run as its base (two stages), the weights of another run or file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pfgdata.errors import ConfigError, IdentityError, PfgError, RunError
from pfgtrain.adapter import PFGMLP, PFGLinear, save_adapter
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord
from pfgtrain.config import FitConfig
from pfgtrain.fit import FitData, base_of, fit
from tests.doubles import CheapTagger
from tests.pfgtrain.fit.small_fit import SMALL, Said, make_data
from tests.pfgtrain.small_store import FEATURE_DIM
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base

STAGE_1 = replace(SMALL, num_tokens=0, caption="tags", use_ema=True, max_train_steps=2)
STILL: dict[str, Any] = {
    "learning_rate": 0.0,
    "adapter_learning_rate": 0.0,
    "lora_learning_rate": 0.0,
    "max_train_steps": 1,
}


def test_the_second_stage_starts_from_the_average_of_the_first(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    first = Path(fit(data, base, STAGE_1, run_dir=tmp_path / "one").checkpoint)
    assert not (first / "adapter.safetensors").exists()
    config = replace(SMALL, base=str(tmp_path / "one"), **STILL)
    stage_1 = base_of(data, config)
    second = Path(fit(data, stage_1, config, run_dir=tmp_path / "two").checkpoint)
    average = load_file(first / "ema" / "unet.safetensors")
    own = load_file(second / "unet.safetensors")
    assert all(torch.equal(own[name], average[name]) for name in average)
    record = RunRecord.read(tmp_path / "two")
    assert (record.base_name, record.base_revision) == (str(tmp_path / "one"), "step-00000002")
    assert (record.caption, record.num_tokens) == (None, 2)


def test_a_run_is_its_base_as_it_was_then(data: FitData, base: Base, tmp_path: Path) -> None:
    fit(data, base, STAGE_1, run_dir=tmp_path / "one")
    config = replace(SMALL, base=str(tmp_path / "one"), max_train_steps=1, train="adapter")
    fit(data, base_of(data, config), config, run_dir=tmp_path / "two")
    on = replace(STAGE_1, max_train_steps=4, checkpoints_total_limit=1)
    fit(data, base, on, run_dir=tmp_path / "one", resume=True)
    kept = tmp_path / "one" / "checkpoints" / "step-00000002" / "kept-for.txt"
    assert kept.read_text() == f"{tmp_path / 'two'}\n"  # or the limit would have taken it
    again = base_of(data, config, run_dir=tmp_path / "two")
    assert again.revision == "step-00000002"
    longer = replace(config, max_train_steps=2)
    assert fit(data, again, longer, run_dir=tmp_path / "two", resume=True).last_step == 2
    with pytest.raises(RunError, match="cannot go on with another base_fingerprint"):
        fit(data, base_of(data, config), longer, run_dir=tmp_path / "two", resume=True)
    shutil.rmtree(tmp_path / "one" / "checkpoints" / "step-00000002")
    with pytest.raises(RunError, match="no checkpoint step-00000002; there are latest, best, step-00000004"):
        base_of(data, config, run_dir=tmp_path / "two")


def test_a_base_that_is_a_lora_s_run_has_it_merged_in(data: FitData, base: Base, tmp_path: Path) -> None:
    config = replace(SMALL, train="lora", lora_learning_rate=1e-2)
    saved = Path(fit(data, base, config, run_dir=tmp_path / "one").checkpoint)
    merged = Base.load(str(tmp_path / "one"))
    ours, theirs = merged.load_unet().state_dict(), base.load_unet(weights=saved).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert merged.fingerprint != base.fingerprint


def test_a_run_whose_base_has_changed_is_no_base(data: FitData, tmp_path: Path) -> None:
    folder = build_tiny_base(tmp_path / "tiny", prediction_type="v_prediction")
    fit(data, Base.load(str(folder)), STAGE_1, run_dir=tmp_path / "one")
    unet = Base.load(str(folder)).load_unet()
    with torch.no_grad():
        unet.conv_in.weight.add_(0.1)
    unet.save_pretrained(folder / "unet")
    with pytest.raises(IdentityError, match=r"run .*one was trained on base .*has other weights"):
        Base.load(str(tmp_path / "one"))


def test_a_second_stage_reads_the_text_layer_of_the_first(data: FitData, base: Base, tmp_path: Path) -> None:
    fit(data, base, replace(STAGE_1, clip_skip=2, max_train_steps=1), run_dir=tmp_path / "one")
    config = replace(SMALL, base=str(tmp_path / "one"), max_train_steps=1)
    fit(data, base_of(data, config), config, run_dir=tmp_path / "two")
    assert RunRecord.read(tmp_path / "two").text_layer == base.text_layers - 1
    with pytest.raises(ConfigError, match=r"clip_skip = 9: the text encoder of .* has 2 layers"):
        fit(data, base, replace(SMALL, clip_skip=9), run_dir=tmp_path / "three")


@pytest.mark.parametrize("train", ["unet", "lora", "adapter"])
def test_init_takes_the_weights_of_a_run_and_none_of_its_steps(
    train: Any, data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(SMALL, train=train, use_ema=True, standardize_features=True)
    first = Path(fit(data, base, config, run_dir=tmp_path / "one").checkpoint)
    said, again = Said(), replace(SMALL, train=train, init=str(tmp_path / "one"), **STILL)
    report = fit(data, base, again, run_dir=tmp_path / "two", progress=said)
    assert (report.first_step, report.last_step) == (0, 1)
    names = {"unet": "adapter, unet", "lora": "adapter, lora", "adapter": "adapter"}
    assert f"starts from {tmp_path / 'one'}: {names[train]}" in said.lines
    if train != "adapter":
        ours = load_file(Path(report.checkpoint) / f"{train}.safetensors")
        theirs = load_file(first / "ema" / f"{train}.safetensors")
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    state = load_file(first / "ema" / "adapter.safetensors")
    own = load_file(Path(report.checkpoint) / "adapter.safetensors")
    folded = state["pfg_linear.weight"] / state["feature_std"]
    torch.testing.assert_close(own["pfg_linear.weight"], folded)


@pytest.mark.parametrize("name", ["x-n2.pt", "x-n2.safetensors"])
def test_init_takes_published_weights(name: str, data: FitData, base: Base, tmp_path: Path) -> None:
    adapter = PFGLinear(FEATURE_DIM, 2, WIDTH, generator=torch.Generator().manual_seed(4))
    save_adapter(adapter, tmp_path / name)
    config = replace(SMALL, init=str(tmp_path / name), **STILL)
    said = Said()
    report = fit(data, base, config, run_dir=tmp_path / "run", progress=said)
    own = load_file(Path(report.checkpoint) / "adapter.safetensors")
    assert torch.equal(own["pfg_linear.weight"], adapter.pfg_linear.weight)
    assert f"starts from {tmp_path / name}: adapter; fresh: unet" in said.lines


def of_another_tagger(data: FitData, base: Base, tmp: Path) -> FitConfig:
    other = make_data(tmp / "feats", base, tagger=CheapTagger(recipe="webui"))
    fit(other, base, replace(SMALL, max_train_steps=1), run_dir=tmp / "one")
    return replace(SMALL, init=str(tmp / "one"))


def told_of_another_tagger(data: FitData, base: Base, tmp: Path) -> FitConfig:
    save_adapter(PFGLinear(FEATURE_DIM, 2, WIDTH), tmp / "x.pt")
    (tmp / "x.json").write_text(json.dumps({"tagger": asdict(CheapTagger(recipe="webui").identity)}))
    return replace(SMALL, init=str(tmp / "x.pt"))


def of_another_kind(data: FitData, base: Base, tmp: Path) -> FitConfig:
    save_adapter(PFGMLP(FEATURE_DIM, 2, WIDTH, hidden_dim=3), tmp / "x.safetensors")
    return replace(SMALL, init=str(tmp / "x.safetensors"))


def of_another_width(data: FitData, base: Base, tmp: Path) -> FitConfig:
    save_adapter(PFGLinear(FEATURE_DIM, 3, WIDTH), tmp / "x.safetensors")
    return replace(SMALL, init=str(tmp / "x.safetensors"))


def of_nothing_that_learns(data: FitData, base: Base, tmp: Path) -> FitConfig:
    fit(data, base, replace(SMALL, train="adapter", max_train_steps=1), run_dir=tmp / "one")
    return replace(SMALL, num_tokens=0, init=str(tmp / "one"))


def of_a_unet_that_is_held_still(data: FitData, base: Base, tmp: Path) -> FitConfig:
    fit(data, base, replace(SMALL, max_train_steps=1), run_dir=tmp / "one")
    return replace(SMALL, train="adapter", init=str(tmp / "one"))


def of_a_lora_of_another_scale(data: FitData, base: Base, tmp: Path) -> FitConfig:
    fit(data, base, replace(SMALL, train="lora", r=2, max_train_steps=1), run_dir=tmp / "one")
    return replace(SMALL, train="lora", r=2, lora_alpha=8.0, init=str(tmp / "one"))


def of_no_file(data: FitData, base: Base, tmp: Path) -> FitConfig:
    return replace(SMALL, init=str(tmp / "none.pt"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_another_tagger, r"cheap \(webui\), not cheap \(kohya\)"),
        (told_of_another_tagger, r"made with tagger cheap \(webui\), the store is of cheap \(kohya\)"),
        (of_another_kind, "a mlp adapter of features 12 wide, this fit has a linear one"),
        (of_another_width, "the run says 2 tokens"),
        (of_nothing_that_learns, r"has nothing of what learns here \(unet\)"),
        (of_a_unet_that_is_held_still, 'trained its unet, which train = "adapter" does not go on with'),
        (of_a_lora_of_another_scale, "has r = 2 and lora_alpha = 16, this fit r = 2 and lora_alpha = 8; set"),
        (of_no_file, "no such file of weights"),
    ],
)
def test_an_init_that_does_not_fit_is_one_line_and_leaves_no_run(
    make: Callable[[FitData, Base, Path], FitConfig], said: str, data: FitData, base: Base, tmp_path: Path
) -> None:
    config = make(data, base, tmp_path)
    with pytest.raises(PfgError, match=said) as caught:
        fit(data, base, config, run_dir=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "run.json").exists()
