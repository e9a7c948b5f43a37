"""A family that says more of a text than its context is a fit's and a generate's without a change to either.

It is SDXL in miniature: diffusers' own XL pipeline and a UNet with added embeddings, told a pooled vector.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor

from pfgdata.errors import ModelError, RunError
from pfgdata.hub import SD1, FamilyFacts
from pfgtrain.base import FAMILIES, Base, ClipText, Family, HasParts, LdmFacts, TextModels, family_named
from pfgtrain.checkpoint import RunRecord
from pfgtrain.condition import Condition
from pfgtrain.fit import fit
from pfgtrain.generate import GenerateOptions, load_run
from tests.doubles import CheapTagger
from tests.pfgtrain.fit.small_fit import SMALL, make_data
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base

THIRD = replace(SD1, name="third", title="Third")


@dataclass(frozen=True, kw_only=True)
class Pooled(Condition):
    """What this family's texts give."""

    pooled: Tensor  # [n, D]: the context at the text's end


@dataclass(frozen=True, kw_only=True)
class PooledText:
    """CLIP's text models, with the last position beside all of them."""

    clip: ClipText

    def encode(self, texts: Sequence[str], *, layer: int | None) -> Pooled:
        context = self.clip.encode(texts, layer=layer).context
        return Pooled(context=context, pooled=context[:, -1])

    def lost(self, text: str) -> str | None:
        return self.clip.lost(text)


@dataclass(frozen=True, kw_only=True)
class Third:
    """The made-up family."""

    facts: FamilyFacts = THIRD
    ldm: LdmFacts = FAMILIES[0].ldm

    def recognises(self, folder: Path) -> bool:
        return bool(json.loads((folder / "unet" / "config.json").read_text()).get("addition_embed_type"))

    def load_text(self, parts: HasParts, *, dtype: torch.dtype) -> TextModels:
        clip = ClipText(tokenizer=parts.load_tokenizer(), text_encoder=parts.load_text_encoder(dtype=dtype))
        return PooledText(clip=clip)

    def unet_arguments(self, condition: Condition) -> dict[str, Any]:
        assert isinstance(condition, Pooled)
        sizes = torch.tensor([64.0, 64, 0, 0, 64, 64], device=condition.pooled.device)
        added = {"text_embeds": condition.pooled, "time_ids": sizes.expand(len(condition), 6)}
        return {"encoder_hidden_states": condition.context, "added_cond_kwargs": added}

    def pipeline(self) -> tuple[Any, dict[str, Any]]:
        left_out = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        return StableDiffusionXLPipeline, {**dict.fromkeys(left_out), "add_watermarker": False}

    def pipeline_arguments(self, prompt: Condition, negative: Condition) -> dict[str, Any]:
        assert isinstance(prompt, Pooled)
        assert isinstance(negative, Pooled)
        return {
            "prompt_embeds": prompt.context,
            "negative_prompt_embeds": negative.context,
            "pooled_prompt_embeds": prompt.pooled,
            "negative_pooled_prompt_embeds": negative.pooled,
        }


def third_base(folder: Path) -> Base:
    """A base of the family: its parts are the tiny base's but for the UNet."""
    known = Base.load(str(build_tiny_base(folder / "known")))
    shutil.copytree(known.folder, folder / "third")
    shutil.rmtree(folder / "third" / "unet")
    torch.manual_seed(0)
    options = dict(known.load_unet().config)
    for name in [name for name in options if name.startswith("_")]:
        del options[name]
    options |= {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": WIDTH + 6 * 4,
    }
    UNet2DConditionModel(**options).save_pretrained(folder / "third" / "unet")
    family: Family = Third()
    return replace(known, name=str(folder / "third"), folder=folder / "third", family=family)


def pooled_seen_by(unet: Any, seen: list[Tensor]) -> Any:
    def look(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["added_cond_kwargs"]["text_embeds"])

    return unet.register_forward_pre_hook(look, with_kwargs=True)


@pytest.mark.parametrize("caption", [None, "tags"])
def test_a_pooled_vector_goes_from_the_text_to_the_unet_in_fit_and_in_generate(
    caption: str | None, tmp_path: Path
) -> None:
    base, tagger = third_base(tmp_path), CheapTagger()
    data = make_data(tmp_path / "feats", base, tagger=tagger, feature_dim=tagger.feature_dim)
    config = replace(SMALL, max_train_steps=2, prompt="a cat", caption=caption, validation_split=0.3)
    report = fit(data, base, config, run_dir=tmp_path / "run")
    assert report.last_step == 2
    assert (tmp_path / "run" / "pictures" / "held-out-step-00000002.png").is_file()
    assert RunRecord.read(tmp_path / "run").base_family == "third"

    model, seen = load_run(tmp_path / "run", base=base, tagger=tagger, device="cpu"), list[Tensor]()
    pooled_seen_by(model.pipeline.unet, seen)
    options = GenerateOptions(num_inference_steps=2, width=64, height=64, negative_prompt="blurry")
    (picture,) = model.paint(torch.ones(1, tagger.feature_dim), seeds=[0], options=options)
    assert np.asarray(picture).shape == (64, 64, 3)
    text = base.load_text().encode(["blurry", "a cat"], layer=None)
    assert isinstance(text, Pooled)
    torch.testing.assert_close(seen[0], text.pooled)


def test_a_folder_or_a_run_of_a_family_that_is_not_known_is_refused(tmp_path: Path) -> None:
    base = third_base(tmp_path)
    with pytest.raises(ModelError, match="added embeddings"):
        Base.load(str(base.folder))
    with pytest.raises(RunError, match="family 'third', which this pfgtrain does not know"):
        family_named("third")
