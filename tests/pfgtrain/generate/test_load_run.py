"""Loading a run: its newest checkpoint brings all that it fixed; another tagger, base or VAE is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pfgdata.errors import ConfigError, IdentityError, RunError
from pfgdata.records import NoProgress
from pfgdata.taggers import OnnxTagger
from pfgdata.vaes import state_digest
from pfgtrain.adapter import PFGLinear, save_adapter
from pfgtrain.base import Base
from pfgtrain.base.prompts import encode_prompts
from pfgtrain.checkpoint import CheckpointState, RunRecord, save_checkpoint
from pfgtrain.generate import GenerateJob, GenerateOptions, generate, load_run, run_model
from tests.doubles import CheapTagger, Watched
from tests.pfgdata.taggers.graphs import FEATURE_DIM, SIDE, Form, write_tagger
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base

TOKENS = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture
def make_run(base: Base, tmp_path: Path) -> Callable[..., Path]:
    """Write a run of one checkpoint, as fit leaves it; `changes` go to its record."""

    def make(*, tagger: CheapTagger | OnnxTagger, **changes: Any) -> Path:
        fields: dict[str, Any] = {
            "tagger": tagger.identity,
            "feature_dim": 768,
            "base_name": base.name,
            "base_revision": None,
            "base_family": base.family.facts.name,
            "base_fingerprint": base.fingerprint,
            "latents_id": "x",
            "vae_digest": state_digest(base.load_vae().state_dict()),
            "scaling_factor": 0.18215,
            "resolution": 64,
            "prompt": "illustration of *",
            "caption": None,
            "captions_digest": None,
            "text_layer": base.text_layer,
            "uncond": "eos",
            "num_tokens": TOKENS,
            "adapter_kind": "linear",
            "cross_attention_dim": WIDTH,
            "prediction_type": "v_prediction",
            "train": "unet",
            "use_ema": False,
            "store": "feats",
            "selection_digest": "x",
            "selection_count": 1,
            "selection_expression": None,
            "thresholds": {},
            "trained_digest": "x",
            "trained_count": 1,
            "held_out_count": 0,
            "versions": {},
            "created": "2026-11-24T00:00:00Z",
        }
        run = tmp_path / "run"
        run.mkdir()
        RunRecord(**{**fields, **changes}).write(run)

        def write(folder: Path) -> None:
            adapter = PFGLinear(
                changes.get("feature_dim", 768), TOKENS, WIDTH, generator=torch.Generator().manual_seed(9)
            )
            save_adapter(adapter, folder / "adapter.safetensors")
            if changes.get("train") == "adapter":
                return
            unet = base.load_unet()
            with torch.no_grad():
                unet.conv_out.bias.add_(0.5)
            save_file(unet.state_dict(), folder / "unet.safetensors")

        state = CheckpointState(step=50, epoch=0, position=50, probe_start=1.0, validation_loss=None)
        save_checkpoint(run, state, write=write)
        return run

    return make


def test_a_run_brings_its_own_unet_prompt_pad_and_prediction_type(
    make_run: Callable[..., Path], base: Base, tmp_path: Path
) -> None:
    tagger = CheapTagger()
    model = load_run(make_run(tagger=tagger), tagger=tagger, device="cpu")
    trained, own = model.pipeline.unet.conv_out.bias, base.load_unet().conv_out.bias
    torch.testing.assert_close(trained, own + 0.5)
    assert (model.prompt, model.uncond, model.resolution) == ("illustration of *", "eos", 64)
    assert model.pipeline.scheduler.config.prediction_type == "v_prediction"
    noise = np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "guide.png")
    report = generate(
        model, [tmp_path / "guide.png"], tmp_path / "out", options=GenerateOptions(num_inference_steps=1)
    )
    with Image.open(report.pictures[0].path) as image:
        settings = json.loads(image.info["pfg"])
    assert (settings["prompt"], settings["uncond"]) == ("illustration of *", "eos")
    assert settings["weights"] == "step-00000050"


def test_a_run_s_text_layer_is_read(make_run: Callable[..., Path], base: Base) -> None:
    tagger = CheapTagger()
    model = load_run(make_run(tagger=tagger, text_layer=1), tagger=tagger, device="cpu")
    (ours,) = model.texts("a cat", progress=NoProgress())
    assert torch.equal(ours.context, encode_prompts(base, ["a cat"], text_layer=1).context)
    assert not torch.equal(ours.context, encode_prompts(base, ["a cat"]).context)


def test_a_run_of_another_tagger_or_preprocessing_is_refused_naming_both(
    make_run: Callable[..., Path],
) -> None:
    run = make_run(tagger=CheapTagger(preprocess="kohya"))
    with pytest.raises(IdentityError, match=r"cheap \(kohya\).*cheap \(webui\)"):
        load_run(run, tagger=CheapTagger(preprocess="webui"))


def test_a_base_whose_vae_is_another_than_that_of_the_runs_latents_is_refused(
    make_run: Callable[..., Path],
) -> None:
    tagger = CheapTagger()
    with pytest.raises(IdentityError, match="not the VAE of the run's latents"):
        load_run(make_run(tagger=tagger, vae_digest="0" * 64), tagger=tagger)


def test_a_base_whose_vae_scales_otherwise_than_the_runs_is_refused(make_run: Callable[..., Path]) -> None:
    tagger = CheapTagger()
    with pytest.raises(IdentityError, match=r"latents of scaling_factor 0\.13; .* scaling_factor 0\.18215"):
        load_run(make_run(tagger=tagger, scaling_factor=0.13), tagger=tagger)


def test_an_adapter_of_another_number_of_tokens_than_the_runs_is_refused(
    make_run: Callable[..., Path],
) -> None:
    tagger = CheapTagger()
    with pytest.raises(RunError, match=r"the run says 4 tokens, .* holds 3"):
        load_run(make_run(tagger=tagger, num_tokens=4), tagger=tagger)


def test_a_device_that_is_not_here_is_said_before_anything_is_loaded(make_run: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="device 'foo': no device; here there is cpu"):
        load_run(make_run(tagger=CheapTagger(name="absent")), device="foo")


def test_a_base_of_another_width_than_the_runs_is_refused(make_run: Callable[..., Path]) -> None:
    tagger = CheapTagger()
    with pytest.raises(IdentityError, match=r"768 wide; base .* is 16 wide"):
        load_run(make_run(tagger=tagger, cross_attention_dim=768), tagger=tagger)


def test_an_adapter_run_takes_the_unet_of_its_base(make_run: Callable[..., Path], base: Base) -> None:
    tagger = CheapTagger()
    model = load_run(make_run(tagger=tagger, train="adapter"), tagger=tagger, device="cpu")
    assert torch.equal(model.pipeline.unet.conv_out.bias, base.load_unet().conv_out.bias)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here"):
        load_run(tmp_path, tagger=CheapTagger())


def test_what_takes_seconds_of_loading_a_run_is_shown(make_run: Callable[..., Path]) -> None:
    tagger, watched = CheapTagger(), Watched()
    load_run(make_run(tagger=tagger), tagger=tagger, progress=watched)
    assert watched.ended == ["hash: 2/2 files", "load: 2/2 models"]


def test_a_run_opens_its_tagger_by_its_own_record_whatever_lies_beside_the_model_since(
    make_run: Callable[..., Path], base: Base, tmp_path: Path
) -> None:
    folder = tmp_path / "tagger"
    write_tagger(folder, Form(layout="NCHW"))
    tagger = OnnxTagger.load(str(folder), device="cpu", threads=1)
    run = make_run(tagger=tagger, feature_dim=FEATURE_DIM, train="adapter")
    (folder / "convention.toml").unlink()
    of_another = {"input_size": [3, SIDE, SIDE], "interpolation": "bicubic", "mean": 0.5, "std": 0.5}
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": of_another}))
    assert OnnxTagger.load(str(folder), device="cpu", threads=1).identity != tagger.identity
    for named in (None, str(folder)):
        model = run_model(run, GenerateJob(tagger=named, device="cpu"), progress=NoProgress())
        assert model.tagger.identity == tagger.identity
