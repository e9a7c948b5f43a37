"""Where a fit starts from: a run as its base (two stages), the weights of another run or file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pfgdata.errors import ConfigError, IdentityError, ModelError, PfgError, RunError
from pfgdata.hub import write_tensors
from pfgtrain.adapter import PFGMLP, PFGLinear, save_adapter
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, checkpoints
from pfgtrain.config import FitConfig
from pfgtrain.fit import FitData, base_of, fit, go_on, plan_fit
from tests.doubles import CheapTagger
from tests.pfgtrain.fit.small_fit import SMALL, Said, fitted, make_data
from tests.pfgtrain.small_store import FEATURE_DIM
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base

STAGE_1 = replace(SMALL, num_tokens=0, caption="tags", use_ema=True, max_train_steps=2)
STILL: dict[str, Any] = {
    "learning_rate": 0.0,
    "adapter_learning_rate": 0.0,
    "lora_learning_rate": 0.0,
    "max_train_steps": 1,
}


@pytest.fixture(scope="module")
def _stage_1(data: FitData, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(data, base, STAGE_1, tmp_path_factory.mktemp("stage_1"))


@pytest.fixture
def one(_stage_1: Path, tmp_path: Path) -> Path:
    """A run of STAGE_1, the test's own copy: a run that starts from it is written down in it."""
    return shutil.copytree(_stage_1, tmp_path / "one")


def test_the_second_stage_starts_from_the_average_of_the_first(
    one: Path, data: FitData, base: Base, tmp_path: Path
) -> None:
    first = checkpoints(one)[-1]
    assert not (first / "adapter.safetensors").exists()
    config = replace(SMALL, base=str(one), **STILL)
    stage_1 = base_of(data, config)
    second = Path(fit(data, stage_1, config, run_dir=tmp_path / "two").checkpoint)
    average = load_file(first / "ema" / "unet.safetensors")
    own = load_file(second / "unet.safetensors")
    assert all(torch.equal(own[name], average[name]) for name in average)
    record = RunRecord.read(tmp_path / "two")
    assert (record.base_name, record.base_revision) == (str(one), "step-00000002")
    assert (record.caption, record.num_tokens) == (None, 2)


def test_a_run_is_its_base_as_it_was_then(one: Path, data: FitData, base: Base, tmp_path: Path) -> None:
    config = replace(SMALL, base=str(one), max_train_steps=1, train="adapter")
    fit(data, base_of(data, config), config, run_dir=tmp_path / "two")
    on = replace(STAGE_1, max_train_steps=4, checkpoints_total_limit=1)
    go_on(data, base, on, run_dir=one)
    kept = one / "checkpoints" / "step-00000002" / "kept-for.txt"
    assert kept.read_text() == f"{tmp_path / 'two'}\n"  # or the limit would have taken it
    again = base_of(data, config, run_dir=tmp_path / "two")
    assert again.revision == "step-00000002"
    longer = replace(config, max_train_steps=2)
    assert go_on(data, again, longer, run_dir=tmp_path / "two").last_step == 2
    with pytest.raises(RunError, match="cannot go on with another base_fingerprint"):
        go_on(data, base_of(data, config), longer, run_dir=tmp_path / "two")
    shutil.rmtree(one / "checkpoints" / "step-00000002")
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
    other = make_data(tmp / "feats", base, tagger=CheapTagger(preprocess="webui"))
    fit(other, base, replace(SMALL, max_train_steps=1), run_dir=tmp / "one")
    return replace(SMALL, init=str(tmp / "one"))


def told_of_another_tagger(data: FitData, base: Base, tmp: Path) -> FitConfig:
    save_adapter(PFGLinear(FEATURE_DIM, 2, WIDTH), tmp / "x.pt")
    (tmp / "x.json").write_text(json.dumps({"tagger": CheapTagger(preprocess="webui").identity.as_dict()}))
    return replace(SMALL, init=str(tmp / "x.pt"))


def told_of_another_tagger_one_folder_up(data: FitData, base: Base, tmp: Path) -> FitConfig:
    config = told_of_another_tagger(data, base, tmp)
    (tmp / "x-to-copy").mkdir()
    return replace(config, init=str((tmp / "x.pt").rename(tmp / "x-to-copy" / "x.pt")))


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


def of_another_unet(data: FitData, base: Base, tmp: Path) -> FitConfig:
    other = replace(SMALL, unet_blocks="up_blocks", max_train_steps=1)
    fit(data, base, other, run_dir=tmp / "one")
    return replace(SMALL, init=str(tmp / "one"))


def of_a_layer_that_is_not_there(data: FitData, base: Base, tmp: Path) -> FitConfig:
    return replace(SMALL, train="lora", target_modules=["nowhere"])


def of_another_hidden_width(data: FitData, base: Base, tmp: Path) -> FitConfig:
    save_adapter(PFGMLP(FEATURE_DIM, 2, WIDTH, hidden_dim=3), tmp / "x.safetensors")
    return replace(SMALL, adapter_kind="mlp", init=str(tmp / "x.safetensors"))


def of_another_base(data: FitData, base: Base, tmp: Path) -> FitConfig:
    save_adapter(PFGLinear(FEATURE_DIM, 2, WIDTH + 1), tmp / "x.pt")
    return replace(SMALL, init=str(tmp / "x.pt"))


class NeverLoaded(Base):
    """A base whose models nobody is to load."""

    def load_unet(self, **options: Any) -> Any:
        raise AssertionError("the UNet was loaded")

    def load_text_encoder(self, part: str = "text_encoder", **options: Any) -> Any:
        raise AssertionError("the text encoder was loaded")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_another_tagger, r"cheap \(webui\), not cheap \(kohya\)"),
        (told_of_another_tagger, r"made with tagger cheap \(webui\), the store is of cheap \(kohya\)"),
        (told_of_another_tagger_one_folder_up, r"x\.pt: made with tagger cheap \(webui\), the store is of"),
        (of_another_kind, r"is of kind mlp, the adapter of this fit linear; pass --adapter-kind mlp$"),
        (of_another_width, r"makes 3 tokens, this fit has 2; pass --tokens 3 \(num_tokens = 3\), or leave"),
        (of_another_hidden_width, "its layers are of other sizes"),
        (of_another_base, "34 rows are no whole number of tokens of width 16; it was made for another base"),
        (of_nothing_that_learns, r"has nothing of what learns here \(unet\)"),
        (of_a_unet_that_is_held_still, 'trained its unet, which train = "adapter" does not go on with'),
        (of_another_unet, "holds other weights than this run's unet has"),
        (of_a_lora_of_another_scale, "has r = 2 and lora_alpha = 16, this fit r = 2 and lora_alpha = 8; set"),
        (of_a_layer_that_is_not_there, "name no layer of unet_blocks"),
        (of_no_file, "no such file of weights"),
    ],
)
def test_a_start_that_does_not_fit_is_one_line_before_models_are_loaded_and_leaves_no_folder(
    make: Callable[[FitData, Base, Path], FitConfig], said: str, data: FitData, base: Base, tmp_path: Path
) -> None:
    config = make(data, base, tmp_path)
    never = NeverLoaded(**{field.name: getattr(base, field.name) for field in fields(base)})
    for ask in (
        lambda: fit(data, never, config, run_dir=tmp_path / "run"),
        lambda: plan_fit(data, never, config),
    ):
        with pytest.raises(PfgError, match=said) as caught:
            ask()
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("made", ["x-n7.pt", "X-N7.PT", "x.safetensors", "a run"])
def test_init_says_how_many_tokens_where_nobody_else_does(
    made: str, data: FitData, base: Base, tmp_path: Path
) -> None:
    if made == "a run":
        fit(data, base, replace(SMALL, num_tokens=7, max_train_steps=1), run_dir=tmp_path / made)
    else:
        save_adapter(PFGLinear(FEATURE_DIM, 7, WIDTH), tmp_path / made.lower())
        (tmp_path / made.lower()).rename(tmp_path / made)
    config = replace(SMALL, num_tokens=None, init=str(tmp_path / made), **STILL)
    fit(data, base, config, run_dir=tmp_path / "two")
    assert RunRecord.read(tmp_path / "two").num_tokens == 7
    longer = replace(config, max_train_steps=2)
    assert go_on(data, base, longer, run_dir=tmp_path / "two").last_step == 2


def test_without_an_init_that_has_tokens_there_are_five(
    one: Path, data: FitData, base: Base, tmp_path: Path
) -> None:
    for init in (None, str(one)):
        config = replace(SMALL, num_tokens=None, init=init, max_train_steps=1)
        fit(data, base, config, run_dir=tmp_path / f"two {bool(init)}")
        assert RunRecord.read(tmp_path / f"two {bool(init)}").num_tokens == 5


def test_a_fit_that_fails_while_loading_leaves_no_folder_but_what_others_put_there(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    folder = shutil.copytree(base.folder, tmp_path / "tiny")
    weights = folder / "text_encoder" / "model.safetensors"
    state = load_file(weights)
    del state["encoder.layers.0.mlp.fc1.bias"]
    write_tensors(weights, state, header={"format": "pt"})
    damaged = Base.load(str(folder))
    with pytest.raises(ModelError, match="1 weights are not in the file"):
        fit(data, damaged, SMALL, run_dir=tmp_path / "runs" / "a")
    assert not (tmp_path / "runs" / "a").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ModelError):
        fit(data, damaged, SMALL, run_dir=tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_the_names_of_2023_are_read_as_the_mlp_they_were(data: FitData, base: Base, tmp_path: Path) -> None:
    mlp = PFGMLP(FEATURE_DIM, 2, WIDTH, hidden_dim=24, generator=torch.Generator().manual_seed(5))
    names = {"pfg_mlp.0": "pfg_linear_1", "pfg_mlp.2": "pfg_linear_2"}
    old = {
        f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": v for key, v in mlp.state_dict().items()
    }
    assert "pfg_linear_2.bias" in old
    torch.save(old, tmp_path / "x-n2.pt")
    config = replace(SMALL, adapter_kind="mlp", adapter_hidden_dim=24, num_tokens=None, **STILL)
    report = fit(data, base, replace(config, init=str(tmp_path / "x-n2.pt")), run_dir=tmp_path / "run")
    own = load_file(Path(report.checkpoint) / "adapter.safetensors")
    assert own.keys() == mlp.state_dict().keys()
    assert all(torch.equal(own[key], value) for key, value in mlp.state_dict().items())
