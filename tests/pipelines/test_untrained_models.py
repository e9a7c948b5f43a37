"""The committed demo models are what their builder makes, and are whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from pfgdata.hub import resolve
from pipelines.untrained_models.base import build_text_encoder, build_unet, build_vae

BASE = resolve("demo", what="base").folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rebuilding_the_parts_of_the_base_gives_the_same_weights(tmp_path: Path) -> None:
    build_vae(tmp_path / "vae")
    build_unet(tmp_path / "unet")
    tokens = json.loads((BASE / "tokenizer" / "vocab.json").read_text())
    build_text_encoder(tmp_path / "text_encoder", len(tokens))
    for part in ("vae", "unet", "text_encoder"):
        built, committed = contents(tmp_path / part), contents(BASE / part)
        assert built.keys() == committed.keys()
        for name, data in committed.items():
            if name.endswith(".safetensors"):  # measured scales may round otherwise on another processor
                weights, expected = load(built[name]), load(data)
                assert weights.keys() == expected.keys()
                for key, value in expected.items():
                    np.testing.assert_allclose(weights[key], value, rtol=2e-3, atol=1e-4, err_msg=key)
            else:
                assert built[name] == data, name


def test_the_base_stays_small() -> None:
    assert sum(len(data) for data in contents(BASE).values()) < 3_000_000


def test_the_base_is_a_whole_stable_diffusion_folder() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(BASE, local_files_only=True)
    assert pipeline.safety_checker is None
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.text_encoder.config.hidden_size == pipeline.unet.config.cross_attention_dim


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


def test_the_model_card_says_untrained_and_how_to_rebuild() -> None:
    card = (BASE / "README.md").read_text()
    assert card.startswith("# Untrained") and "python -m pipelines.untrained_models" in card
    assert (BASE / "UNTRAINED").read_text().count("\n") == 1
