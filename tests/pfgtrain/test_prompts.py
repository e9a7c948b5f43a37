"""Prompts: what diffusers' own pipeline would encode, at all 77 positions, once."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

from pfgdata.records import NoProgress
from pfgtrain.base import Base
from pfgtrain.base.prompts import encode, encode_prompts
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base, tiny_text_encoder, tiny_tokenizer


class SayingProgress(NoProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")))


def test_texts_of_any_length_take_all_positions_in_float32(base: Base) -> None:
    embeddings = encode_prompts(base, ["", "a cat", "x" * 200]).context
    assert embeddings.shape == (3, 77, WIDTH)
    assert embeddings.dtype == torch.float32
    assert not embeddings.requires_grad
    assert not torch.equal(embeddings[0], embeddings[1])


def test_an_embedding_does_not_depend_on_the_texts_beside_it(base: Base) -> None:
    alone, beside = encode_prompts(base, ["a cat"]), encode_prompts(base, ["", "a cat", "a dog"])
    assert torch.equal(alone.context[0], beside.context[1])


def test_embeddings_are_those_of_the_diffusers_pipeline(base: Base) -> None:
    pipeline = StableDiffusionPipeline(
        vae=base.load_vae(),
        text_encoder=base.load_text_encoder(),
        tokenizer=base.load_tokenizer(),
        unet=base.load_unet(),
        scheduler=base.load_sampler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    prompt, negative = "illustration of *", "blurry"
    with torch.no_grad():
        theirs = pipeline.encode_prompt(prompt, "cpu", 1, True, negative)
    ours = encode_prompts(base, [prompt, negative]).context
    torch.testing.assert_close(ours[0], theirs[0][0])
    torch.testing.assert_close(ours[1], theirs[1][0])


def test_the_final_layer_norm_is_applied_to_the_last_layer_the_file_holds() -> None:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(1)
    text_encoder = tiny_text_encoder(layers=3)
    embedding = encode(["a cat"], tokenizer=tokenizer, text_encoder=text_encoder)[0]
    torch.testing.assert_close(embedding.mean(dim=1), torch.zeros(77), atol=1e-5, rtol=0)
    torch.testing.assert_close(embedding.var(dim=1, correction=0), torch.ones(77), atol=1e-3, rtol=0)


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_clip_skip_reads_a_text_encoder_that_ends_so_many_layers_earlier(clip_skip: int) -> None:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(1)
    whole = tiny_text_encoder(layers=3)
    cut = tiny_text_encoder(layers=4 - clip_skip)
    cut.load_state_dict(whole.state_dict(), strict=False)
    layer = whole.config.num_hidden_layers + 1 - clip_skip
    ours = encode(["a cat"], tokenizer=tokenizer, text_encoder=whole, text_layer=layer)
    assert torch.equal(ours, encode(["a cat"], tokenizer=tokenizer, text_encoder=cut))


def test_what_is_cut_from_a_long_prompt_is_said(base: Base) -> None:
    progress = SayingProgress()
    encode_prompts(base, ["short", "a" * 75, "b" * 75 + " lost words"], progress=progress)
    assert len(progress.said) == 1
    assert "84 tokens, 75 are read" in progress.said[0]
    assert "l o s t" in progress.said[0] or "lost" in progress.said[0]
