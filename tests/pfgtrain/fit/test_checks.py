"""What does not fit together is found before the first step: latents of another VAE, want of memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pfgdata.errors import ConfigError, IdentityError, RunError
from pfgdata.latents import probe_image
from pfgdata.vaes import Vae, load_autoencoder
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord
from pfgtrain.fit import FitData, fit
from pfgtrain.fit.checks import require_same_vae, require_whole_model
from pfgtrain.generate import load_run
from tests.doubles import CheapTagger
from tests.pfgtrain.fit.small_fit import NUMBERS, SMALL, Said, data_of
from tests.pfgtrain.small_store import build_latents, build_store


def with_vae(base: Base, folder: Path, change: Any) -> Base:
    """A copy of the base whose VAE `change` has altered."""
    shutil.copytree(base.folder, folder)
    vae = load_autoencoder(folder / "vae")
    with torch.no_grad():
        change(vae)
    vae.save_pretrained(folder / "vae")
    return Base.load(str(folder))


def data_with_probe(path: Path, base: Base, *, tagger: CheapTagger | None = None) -> FitData:
    """A store whose latent set knows what the base's VAE makes of the probe image."""
    tagger = tagger or CheapTagger()
    store = build_store(path, NUMBERS, shard_rows=30, tagger=tagger, feature_dim=tagger.feature_dim)
    vae = Vae.load(str(base.folder))
    probe = vae.encode(probe_image(vae.factor)[None])[0][0]
    nested = tuple(tuple(tuple(map(float, row)) for row in channel) for channel in probe)
    build_latents(store, NUMBERS, vae_digest=vae.digest, shard_rows=30, base_name=base.name, probe=nested)
    return data_of(store)


def round_to_half(vae: Any) -> None:
    for parameter in vae.parameters():
        parameter.copy_(parameter.half().float())


def fine_tune_the_decoder(vae: Any) -> None:
    vae.decoder.conv_out.weight.mul_(1.1)


def fine_tune_the_encoder(vae: Any) -> None:
    vae.encoder.conv_out.weight.mul_(1.1)


@pytest.mark.parametrize("change", [round_to_half, fine_tune_the_decoder])
def test_a_vae_of_the_same_effect_will_do_and_is_told_of(change: Any, base: Base, tmp_path: Path) -> None:
    tagger = CheapTagger()
    data = data_with_probe(tmp_path / "feats", base, tagger=tagger)
    other, said = with_vae(base, tmp_path / "other", change), Said()
    config = replace(SMALL, max_train_steps=1)
    fit(data, other, config, run_dir=tmp_path / "run", progress=said)
    assert any("other weights than the one the latents are of, and the same effect" in s for s in said.lines)
    assert RunRecord.read(tmp_path / "run").vae_digest == Vae.load(str(other.folder)).digest
    assert load_run(tmp_path / "run", tagger=tagger, device="cpu").base.name == other.name


def test_a_vae_of_another_effect_is_refused(base: Base, tmp_path: Path) -> None:
    data = data_with_probe(tmp_path / "feats", base)
    other = with_vae(base, tmp_path / "other", fine_tune_the_encoder)
    with pytest.raises(
        IdentityError, match=r"made by the VAE of .*; use --base .*, or make latents: pfgdata"
    ):
        require_same_vae(data, other)


def test_the_same_vae_that_computes_otherwise_is_refused(base: Base, tmp_path: Path) -> None:
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=30)
    vae = Vae.load(str(base.folder))
    probe = vae.encode(probe_image(vae.factor)[None])[0][0] + np.float32(1.0)
    nested = tuple(tuple(tuple(map(float, row)) for row in channel) for channel in probe)
    build_latents(store, NUMBERS, vae_digest=vae.digest, shard_rows=30, probe=nested)
    with pytest.raises(IdentityError, match="its probe image comes out otherwise here"):
        require_same_vae(data_of(store), base)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"train_batch_size": 10**13},
            "try train_batch_size 10000000000000 -> 5000000000000 with",
        ),  # numpy's
        ({"num_tokens": 10**11, "train_batch_size": 1}, "try a smaller --resolution of latents; "),  # torch's
    ],
)
def test_want_of_memory_says_what_to_lower(
    keys: dict[str, Any], said: str, data: FitData, base: Base, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="main memory is too small for this fit") as caught:
        fit(data, base, replace(SMALL, **keys), run_dir=tmp_path / "run")
    message = str(caught.value)
    assert said in message
    assert 'gradient_checkpointing = true; train = "lora" or "adapter"' in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("variable", "splitter"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")]
)
def test_a_model_split_over_processes_is_refused_with_what_to_take_instead(
    variable: str, splitter: str
) -> None:
    for value in ("true", "True", "1"):
        with pytest.raises(ConfigError, match=rf"^{splitter} is asked for.*DDP.*adafactor"):
            require_whole_model({variable: value})
    require_whole_model({variable: "false", "ACCELERATE_USE_CPU": "true"})


def test_a_fit_that_is_launched_to_split_its_model_says_so_and_writes_nothing(
    base: Base, tmp_path: Path
) -> None:
    data = data_with_probe(tmp_path / "feats", base)
    words = ["--shards", str(data.path), "--base", str(base.folder), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "pfgtrain", "fit", *words],
        env={**os.environ, "ACCELERATE_USE_FSDP": "true", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1 and not (tmp_path / "run").exists()
    assert "error: FSDP is asked for" in done.stderr and "Traceback" not in done.stderr
