"""The demo models as they travel in the package: whole, small, trained, each with its card."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from pfgdata.hub import resolve
from pfgdata.taggers import OnnxTagger
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord
from pfgtrain.config import load_config
from pfgtrain.generate import GenerateOptions, load_run
from pipelines.demo_corpus import load_corpora
from pipelines.demo_models import load_split
from pipelines.demo_models.stages import RUN_RECIPE
from pipelines.recipe import find_recipe, read_recipe

BASE = resolve("demo", what="base").folder
RUN = resolve("demo", what="run").folder
KINDS = ("tagger", "judge", "base", "run")
GUIDE = find_recipe("demo").parent / "demo" / "guides" / "lorelei" / "00" / "lorelei-g0000-v0.webp"


def test_all_demo_models_together_are_at_most_40_megabytes() -> None:
    files = [
        file for kind in KINDS for file in resolve("demo", what=kind).folder.rglob("*") if file.is_file()
    ]
    assert sum(file.stat().st_size for file in files) <= 40_000_000


@pytest.mark.parametrize("folder", [*KINDS, "base/vae", "base/text_encoder"])
def test_each_has_a_card_with_data_licence_numbers_and_how_to_make_it_again(folder: str) -> None:
    kind, *part = folder.split("/")
    place = resolve("demo", what=kind).folder.joinpath(*part)
    card = (place / "README.md").read_text()
    for words in ("## Numbers", "## Data and licence", "CC BY 4.0", "## How to make it again"):
        assert words in card
    assert "{" not in card and not (place / "UNTRAINED").exists()


def test_the_base_is_a_whole_stable_diffusion_folder_in_float16() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(BASE, local_files_only=True)
    assert pipeline.safety_checker is None
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.text_encoder.config.hidden_size == pipeline.unet.config.cross_attention_dim
    assert pipeline.vae.config.scaling_factor == 1.0
    for file in BASE.rglob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            assert {tensors.get_slice(key).get_dtype() for key in tensors.keys()} == {"F16"}, file  # noqa: SIM118


def test_no_block_of_the_unet_is_as_wide_as_its_context() -> None:
    config = json.loads((BASE / "unet" / "config.json").read_text())
    assert config["cross_attention_dim"] not in config["block_out_channels"]  # see the hook form of PFG


def test_the_tokenizer_cuts_known_words_as_clip_does() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(BASE / "tokenizer", local_files_only=True)
    ids = tokenizer("Illustration of UMAMUSUME", padding="max_length", truncation=True).input_ids
    pieces = tokenizer.convert_ids_to_tokens(ids)
    # CLIP itself: 6052, 539, 1622, 548, 2019(8), 614 between its start and end
    assert pieces[:8] == [
        "<|startoftext|>", "illustration</w>", "of</w>", "um", "am", "usu", "me</w>", "<|endoftext|>"
    ]  # fmt: skip
    assert len(ids) == 77 and set(pieces[7:]) == {"<|endoftext|>"}
    assert tokenizer.decode(ids[:8]).strip() == "<|startoftext|>illustration of umamusume <|endoftext|>"


def test_the_run_is_of_the_base_and_tagger_beside_it_and_names_no_folder() -> None:
    record, base, tagger = RunRecord.read(RUN), Base.load("demo"), OnnxTagger.load("demo")
    assert (record.base_name, record.base_fingerprint) == ("demo", base.fingerprint)
    assert record.tagger.weights_sha256 == tagger.identity.weights_sha256
    assert "/" not in record.store


def test_the_run_draws_an_unseen_guide_and_another_guide_differently() -> None:
    model = load_run(RUN)
    assert model.untrained == ()
    options = GenerateOptions(num_inference_steps=8, guidance_scale=2.0)
    other = next(GUIDE.parents[2].rglob("pixel-art-g0000-v0.webp"))
    features = [model.feature(np.asarray(Image.open(path).convert("RGB"))) for path in (GUIDE, other)]
    pictures = [
        np.asarray(model.paint(feature[None], seeds=[0], options=options)[0], np.float64)
        for feature in features
    ]
    assert pictures[0].shape == (128, 128, 3)
    assert np.abs(pictures[0] - pictures[1]).mean() > 10  # of 255, from the same noise


def test_tagger_base_and_run_learnt_from_no_guide_and_from_the_split_alone() -> None:
    first, last = load_split().ranges["portraits"]["train"]
    assert load_split().ranges["crowd"]["train"] == (0, load_corpora()["crowd"].characters - 1)
    crowd = load_config(RUN_RECIPE.with_name("demo_crowd.toml"), {}).where  # no recipe: its [fit] alone
    chosen = [crowd]
    for name in ("demo_stage1", "demo_run"):
        recipe = read_recipe(RUN_RECIPE.with_name(f"{name}.toml"))
        assert recipe.fit is not None and recipe.latents is not None
        chosen += [recipe.fit.where, recipe.latents.where]
    for where in chosen:
        limit = re.search(r"<= (\d+)$", where or "")
        assert first == 0 and limit and int(limit[1]) == last
    assert RunRecord.read(RUN).selection_expression == crowd
