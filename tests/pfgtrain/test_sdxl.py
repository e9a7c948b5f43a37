"""SDXL: what its texts give, what its UNet is told in fit and in generate, pictures as diffusers draws."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pfgdata.corpus import read_image
from pfgdata.errors import ConfigError
from pfgdata.images import crop_to_bucket
from pfgtrain.adapter import unconditional_rows
from pfgtrain.base import Base, encode_prompts
from pfgtrain.checkpoint import RunRecord
from pfgtrain.evaluate import EvaluateSetup, evaluate, guides_of_folder
from pfgtrain.fit import FitData, fit, plan_fit
from pfgtrain.generate import GenerateOptions, load_run
from tests.doubles import CheapTagger
from tests.pfgtrain.evaluate.small_evaluation import OPTIONS, write_guides
from tests.pfgtrain.fit.small_fit import SMALL, fitted, make_data
from tests.pfgtrain.small_store import crop_of
from tests.pfgtrain.tiny_sdxl import POOLED, WIDTHS, build_tiny_sdxl

TAGGER = CheapTagger()
QUICK = GenerateOptions(num_inference_steps=3, width=64, height=48, guidance_scale=4.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_tiny_sdxl(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, base: Base) -> FitData:
    return make_data(
        tmp_path_factory.mktemp("store") / "feats", base, tagger=TAGGER, feature_dim=TAGGER.feature_dim
    )


@pytest.fixture(scope="module")
def run(data: FitData, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, its adapter alone, read only."""
    config = replace(SMALL, max_train_steps=2, train="adapter", prompt="a cat")
    return fitted(data, base, config, tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def stock(base: Base) -> StableDiffusionXLPipeline:
    """diffusers' own pipeline of the base's folder, with our sampler."""
    folder = base.folder
    pipeline = StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder").eval(),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2").eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet").eval(),
        scheduler=base.load_sampler(),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def watch(unet: Any, seen: list[dict[str, Tensor]]) -> None:
    """Put into `seen` what the UNet is called with from now on, beside latents and timesteps."""

    def look(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        seen.append({"context": kwargs["encoder_hidden_states"], **kwargs["added_cond_kwargs"]})

    unet.register_forward_pre_hook(look, with_kwargs=True)


@dataclass(frozen=True, kw_only=True)
class Watched(Base):
    """A base that says what the UNets it loads are called with."""

    seen: list[dict[str, Tensor]]

    @classmethod
    def of(cls, base: Base) -> Watched:
        return cls(**{field.name: getattr(base, field.name) for field in fields(base)}, seen=[])

    def load_unet(self, **options: Any) -> Any:
        unet = Base.load_unet(self, **options)
        watch(unet, self.seen)
        return unet


def noise(seeds: list[int]) -> Tensor:
    return torch.stack(
        [torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def test_a_base_is_told_by_its_unet_and_its_width_is_that_of_both_encoders(base: Base) -> None:
    assert (base.family.facts.name, base.cross_attention_dim) == ("sdxl", sum(WIDTHS))
    assert (base.text_layers, base.text_layer) == (2, 1)


def test_texts_are_those_of_diffusers_to_the_bit(base: Base, stock: StableDiffusionXLPipeline) -> None:
    for text in ("a cat", "", "x" * 200):
        context, _, pooled, _ = stock.encode_prompt(text, do_classifier_free_guidance=False)
        ours: Any = encode_prompts(base, [text], text_layer=base.text_layer)
        assert ours.context.shape == (1, 77, sum(WIDTHS))
        assert ours.pooled.shape == (1, POOLED)
        assert torch.equal(ours.context, context)
        assert torch.equal(ours.pooled, pooled)


def test_no_other_layer_of_its_encoders_is_trained_on(data: FitData, base: Base) -> None:
    plan_fit(data, base, replace(SMALL, clip_skip=2))
    with pytest.raises(
        ConfigError, match=r"clip_skip = 1: a base of SDXL is trained on what 2 reads, .*leave it"
    ):
        plan_fit(data, base, replace(SMALL, clip_skip=1))


@pytest.mark.parametrize(("uncond", "empty"), [("eos", "encoded"), ("zeros", "zeros")])
def test_a_dropped_row_is_to_the_bit_what_generate_passes_as_its_unconditional_row(
    empty: Any, uncond: Any, data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(
        SMALL, max_train_steps=1, prompt="a cat", empty_prompt=empty, uncond=uncond, condition_dropout=0.5
    )
    watched = Watched.of(base)
    fit(data, watched, config, run_dir=tmp_path / "run")
    trained = [call for call in watched.seen if len(call["context"]) == config.train_batch_size]

    model = load_run(tmp_path / "run", tagger=TAGGER, device="cpu")
    assert model.empty_prompt == RunRecord.read(tmp_path / "run").empty_prompt == empty
    seen: list[dict[str, Tensor]] = []
    watch(model.pipeline.unet, seen)
    model.paint(torch.ones(1, TAGGER.feature_dim), seeds=[0], options=QUICK)
    context, pooled = seen[0]["context"][0], seen[0]["text_embeds"][0]  # the unconditional one comes first
    assert bool((pooled == 0).all()) == (empty == "zeros") == bool((context[:77] == 0).all())
    dropped = [
        batch["context"][row]
        for batch in trained
        for row in range(config.train_batch_size)
        if torch.equal(batch["text_embeds"][row], pooled)
    ]
    assert dropped
    assert all(torch.equal(row, context) for row in dropped)


def test_a_fit_tells_how_each_image_was_cut_and_dropped_rows_keep_it(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    watched, config = Watched.of(base), replace(SMALL, max_train_steps=4, condition_dropout=1.0)
    fit(data, watched, config, run_dir=tmp_path / "run")
    known = {}
    for number in range(30):
        top, left, _, _, width, height = crop_of(number)
        known[(height, width)] = (height, width, top, left)
    told_rows = [tuple(row.tolist()) for call in watched.seen for row in call["time_ids"]]
    assert len(told_rows) > 30
    for row in told_rows:
        assert row[:4] == known[row[:2]]
        assert row[4:] in [(48, 32), (32, 48), (16, 64)]


def test_generate_tells_of_a_whole_picture_on_both_sides(run: Path) -> None:
    model = load_run(run, tagger=TAGGER, device="cpu")
    seen: list[dict[str, Tensor]] = []
    watch(model.pipeline.unet, seen)
    model.paint(torch.ones(2, TAGGER.feature_dim), seeds=[0, 1], options=QUICK)
    assert seen[0]["time_ids"].tolist() == [[48, 64, 0, 0, 48, 64]] * 4


def test_pictures_are_those_of_the_stock_pipeline_given_our_context(
    run: Path, base: Base, stock: StableDiffusionXLPipeline
) -> None:
    model = load_run(run, tagger=TAGGER, device="cpu")
    features = torch.randn(2, TAGGER.feature_dim, generator=torch.Generator().manual_seed(3))
    ours = model.paint(features, seeds=[5, 6], options=QUICK)
    prompt, empty = (row for row in encode_prompts(base, ["a cat", ""]).split())
    with torch.no_grad():
        tokens = model.pipeline.adapter(features)
    negative: Any = unconditional_rows(empty, num_tokens=2, uncond="zeros").expand(2)
    asked: Any = prompt.expand(2)
    theirs = stock(
        prompt_embeds=torch.cat([asked.context, tokens], dim=1),
        pooled_prompt_embeds=asked.pooled,
        negative_prompt_embeds=negative.context,
        negative_pooled_prompt_embeds=negative.pooled,
        latents=noise([5, 6]),
        num_inference_steps=3,
        guidance_scale=4.0,
        width=64,
        height=48,
    ).images
    assert all(_same(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("empty", ["encoded", "zeros"])
def test_without_tokens_pictures_are_those_of_the_stock_pipeline_given_the_prompt(
    empty: Any, run: Path, stock: StableDiffusionXLPipeline
) -> None:
    assert stock.config.force_zeros_for_empty_prompt
    model = replace(load_run(run, tagger=TAGGER, device="cpu"), empty_prompt=empty)
    (ours,) = model.paint(None, seeds=[5], options=QUICK)
    (theirs,) = stock(
        "a cat",
        negative_prompt="" if empty == "encoded" else None,
        latents=noise([5]),
        num_inference_steps=3,
        guidance_scale=4.0,
        width=64,
        height=48,
    ).images
    assert _same(ours, theirs)


def test_a_fit_with_captions_draws_its_held_out_images_and_is_of_the_family(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(
        SMALL,
        max_train_steps=2,
        caption="tags",
        train="lora",
        validation_split=0.3,
        num_validation_images=1,
    )
    assert fit(data, base, config, run_dir=tmp_path / "run").last_step == 2
    assert (tmp_path / "run" / "pictures" / "held-out-step-00000002.png").is_file()
    record = RunRecord.read(tmp_path / "run")
    assert (record.base_family, record.scaling_factor, record.text_layer) == ("sdxl", 0.13025, 1)


def test_a_run_is_evaluated_through_its_own_vae(run: Path, tmp_path: Path) -> None:
    write_guides(tmp_path / "guides", characters=2)
    model = replace(load_run(run, tagger=TAGGER, device="cpu"), resolution=64)
    setup = EvaluateSetup(guides=guides_of_folder(tmp_path / "guides"), options=OPTIONS)
    found = evaluate(model, setup, out_dir=tmp_path / "out")
    assert {"pfg", "no_pfg", "ceiling"} <= set(found.viewers["tagger"].rows)
    with Image.open(next((tmp_path / "out").rglob("0000-*-vae.png"))) as seen:
        drawn = np.asarray(seen).astype(np.float32)
    pixels = read_image(tmp_path / "guides" / "images" / "0000.png").pixels
    x = torch.from_numpy(crop_to_bucket(pixels, seen.size)[0].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        mean = model.pipeline.vae.encode(x).latent_dist.mean
        wanted = model.pipeline.vae.decode(mean).sample
    (expected,) = model.pipeline.image_processor.postprocess(wanted, output_type="np")
    assert np.abs(drawn - expected * 255).max() <= 1


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two pictures are equal within 1 of 255: a last bit may round a pixel the other way."""
    return bool(np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int)).max() <= 1)
