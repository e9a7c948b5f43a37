"""What learns, and what of it is saved: the UNet, blocks of it, a LoRA on it, the adapter; their average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pfgdata.errors import ConfigError
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, checkpoints, read_metrics
from pfgtrain.fit import FitData, fit
from pfgtrain.generate import CheckpointJob, load_run
from pfgtrain.lora import read_lora
from tests.conftest import modes
from tests.doubles import CheapTagger
from tests.pfgtrain.fit.small_fit import SMALL, make_data
from tests.pfgtrain.small_store import FEATURE_DIM


def trained(data: FitData, base: Base, run: Path, **keys: Any) -> Path:
    """The last checkpoint of a small fit."""
    return Path(fit(data, base, replace(SMALL, **keys), run_dir=run).checkpoint)


@pytest.mark.parametrize("blocks", ["all", "cross_attention", "up_blocks"])
def test_only_the_chosen_blocks_of_the_unet_move_and_are_saved(
    blocks: Any, data: FitData, base: Base, tmp_path: Path
) -> None:
    saved = trained(data, base, tmp_path / "run", unet_blocks=blocks)
    state, own = load_file(saved / "unet.safetensors"), base.load_unet().state_dict()
    chosen = {
        "all": set(own),
        "cross_attention": {name for name in own if ".attn2." in name},
        "up_blocks": {name for name in own if name.startswith("up_blocks.")},
    }[blocks]
    assert set(state) == chosen
    moved = {name for name in chosen if not torch.equal(state[name], own[name])}
    assert len(moved) > 0.9 * len(chosen)
    unet = base.load_unet(weights=saved).state_dict()
    assert all(torch.equal(unet[name], state.get(name, own[name])) for name in own)


def test_a_lora_learns_beside_the_adapter_and_the_base_stays(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    keys = {"train": "lora", "r": 3, "lora_alpha": 1.5, "lora_learning_rate": 1e-2}
    saved = trained(data, base, tmp_path / "run", **keys)
    lora = read_lora(saved / "lora.safetensors")
    assert sorted(file.name for file in saved.iterdir()) == [
        "adapter.safetensors",
        "lora.safetensors",
        "optimizer.pt",
        "state.json",
    ]
    assert (lora.r, lora.lora_alpha) == (3, 1.5)
    assert {name.rsplit(".", 1)[-1] for name in lora.modules} == {"to_q", "to_k", "to_v", "0"}
    assert all(lora.state[f"{name}.lora_B.weight"].abs().max() > 0 for name in lora.modules)
    merged, own = base.load_unet(weights=saved).state_dict(), base.load_unet().state_dict()
    for name in lora.modules:
        a, b = (lora.state[f"{name}.lora_{letter}.weight"] for letter in "AB")
        expected = own[f"{name}.weight"] + (b @ a) * (1.5 / 3)
        torch.testing.assert_close(merged[f"{name}.weight"], expected)
    rest = set(own) - {f"{name}.weight" for name in lora.modules}
    assert all(torch.equal(merged[name], own[name]) for name in rest)


def test_a_lora_may_be_laid_on_cross_attention_alone_and_on_no_unknown_layer(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    saved = trained(data, base, tmp_path / "a", train="lora", unet_blocks="cross_attention", num_tokens=0)
    lora = read_lora(saved / "lora.safetensors")
    assert lora.modules and all(".attn2." in name for name in lora.modules)
    with pytest.raises(ConfigError, match=r'target_modules = \["to_x"\] name no layer'):
        fit(data, base, replace(SMALL, train="lora", target_modules=["to_x"]), run_dir=tmp_path / "b")
    assert not (tmp_path / "b" / "run.json").exists()  # so that the same folder can be tried again


def test_parts_learn_at_rates_of_their_own(data: FitData, base: Base, tmp_path: Path) -> None:
    for train, names in [("lora", {"lora_learning_rate"}), ("unet", {"learning_rate"}), ("adapter", set())]:
        run = tmp_path / train
        trained(data, base, run, train=train, max_train_steps=1)
        (line,) = read_metrics(run)
        rates = {name for name in line if name.endswith("learning_rate")}
        assert rates == names | {"adapter_learning_rate"}
        assert np.isfinite(line["grad_norm"])


RISES: dict[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "diffusers' default": ({"ema_decay": 0.25}, lambda step: min((1 + step) / (10 + step), 0.25)),
    "warm-up": (
        {"ema_decay": 0.5, "use_ema_warmup": True, "ema_inv_gamma": 2.0, "ema_power": 0.75},
        lambda step: min(1 - (1 + step / 2.0) ** -0.75, 0.5),
    ),
}


@pytest.mark.parametrize("rise", RISES)
def test_the_average_is_that_of_diffusers_over_all_that_learns(
    rise: str, data: FitData, base: Base, tmp_path: Path
) -> None:
    keys, decay_of = RISES[rise]
    keys = {"use_ema": True, "checkpointing_steps": 1, "max_train_steps": 5, **keys}
    trained(data, base, tmp_path / "run", **keys)
    saved = checkpoints(tmp_path / "run")
    for file in ("adapter.safetensors", "unet.safetensors"):
        average = {name: value.double() for name, value in load_file(saved[0] / "ema" / file).items()}
        for step, folder in enumerate(saved[1:], start=1):
            decay = decay_of(step)
            for name, value in load_file(folder / file).items():
                average[name] += (1 - decay) * (value.double() - average[name])
            found = load_file(folder / "ema" / file)
            assert found.keys() == average.keys()
            for name, value in found.items():
                torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-6)


def test_generate_uses_the_average_unless_told_otherwise(data: FitData, base: Base, tmp_path: Path) -> None:
    tagger = CheapTagger()
    made = make_data(tmp_path / "feats", base, tagger=tagger, feature_dim=tagger.feature_dim)
    saved = trained(made, base, tmp_path / "run", use_ema=True)
    for ema, folder in ((True, saved / "ema"), (False, saved)):
        model = load_run(tmp_path / "run", tagger=tagger, device="cpu", which=CheckpointJob(no_ema=not ema))
        adapter = model.pipeline.adapter
        assert adapter is not None
        weights = load_file(folder / "adapter.safetensors")
        assert torch.equal(adapter.state_dict()["pfg_linear.weight"], weights["pfg_linear.weight"])
        unet = load_file(folder / "unet.safetensors")
        assert torch.equal(model.pipeline.unet.conv_in.weight, unet["conv_in.weight"])


def test_standardized_features_have_the_spread_of_the_images_trained_on(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    saved = trained(data, base, tmp_path / "run", standardize_features=True, max_train_steps=1)
    state = load_file(saved / "adapter.safetensors")
    features = data.snapshot.features(data.selection).astype(np.float64)
    assert state["feature_mean"].shape == (FEATURE_DIM,)
    np.testing.assert_allclose(state["feature_mean"], features.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["feature_std"], features.std(0), rtol=1e-5)


def test_the_last_weights_of_frozen_layers_are_held_in_the_mixed_dtype(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    keys = {"unet_blocks": "cross_attention", "mixed_precision": "bf16", "max_train_steps": 2}
    saved = trained(data, base, tmp_path / "run", **keys)
    assert {value.dtype for value in load_file(saved / "unet.safetensors").values()} == {torch.float32}
    assert all(np.isfinite(line["loss"]) for line in read_metrics(tmp_path / "run"))
    assert RunRecord.read(tmp_path / "run").train == "unet"


def test_the_same_fit_writes_the_same_bytes_for_whom_the_umask_says(
    data: FitData, base: Base, tmp_path: Path, shared_umask: int
) -> None:
    config = replace(SMALL, train="lora", use_ema=True, max_train_steps=1)
    one, other = (Path(fit(data, base, config, run_dir=tmp_path / name).checkpoint) for name in "ab")
    for file in ("lora.safetensors", "adapter.safetensors", "ema/lora.safetensors"):
        assert (one / file).read_bytes() == (other / file).read_bytes()
    assert set(modes(tmp_path).values()) == {shared_umask}, modes(tmp_path)
