"""Generation: pictures follow from guide, seed and settings alone, and say what made them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pfgdata.errors import AccessError, ConfigError, ContentError, IdentityError, RunError
from pfgdata.records import NoProgress
from pfgdata.taggers import OnnxTagger
from pfgdata.vaes import base_geometry
from pfgtrain.adapter import PFGLinear, Uncond, conditional_rows, save_adapter
from pfgtrain.base import Base
from pfgtrain.generate import GenerateOptions, PFGModel, generate, load_adapter_on_base
from tests.doubles import CheapTagger, Watched
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base

TOKENS = 3
QUICK = GenerateOptions(images_per_guide=2, num_inference_steps=2, prompt="a cat", batch_size=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture(scope="module")
def adapter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "x-n3.pt"
    adapter = PFGLinear(768, TOKENS, WIDTH, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        adapter.pfg_linear.weight.mul_(20)  # loud enough for a guide to show in 8 bits
    save_adapter(adapter, path)
    return path


@pytest.fixture(scope="module")
def model(base: Base, adapter_file: Path) -> PFGModel:
    return load_adapter_on_base(adapter_file, base, tagger=CheapTagger(preprocess="webui"), device="cpu")


@pytest.fixture(scope="module")
def guides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An opaque and a half transparent image of noise."""
    folder = tmp_path_factory.mktemp("guides")
    draw = np.random.default_rng(5)
    Image.fromarray(draw.integers(0, 256, (40, 30, 3), np.uint8)).save(folder / "one.png")
    Image.fromarray(draw.integers(0, 256, (25, 50, 4), np.uint8)).save(folder / "two.png")
    return [folder / "one.png", folder / "two.png"]


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int16)


def contexts_of(model: PFGModel, options: GenerateOptions, features: Tensor | None) -> Tensor:
    """What the UNet is given as context at the first step: unconditional rows, then conditional ones."""
    seen: list[Tensor] = []

    def look(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["encoder_hidden_states"])

    handle = model.pipeline.unet.register_forward_pre_hook(look, with_kwargs=True)
    try:
        model.paint(features, seeds=[0, 1], options=options)
    finally:
        handle.remove()
    return seen[0]


def with_(**changes: Any) -> GenerateOptions:
    return dataclasses.replace(QUICK, **changes)


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_pictures(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    first = generate(model, guides, tmp_path / "a", options=QUICK)
    again = generate(model, guides, tmp_path / "b", options=QUICK)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 5
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert [picture.seed for picture in first.pictures] == [0, 1, 0, 1]
    assert [picture.guide for picture in first.pictures] == [guides[0]] * 2 + [guides[1]] * 2
    assert again.seconds > 0
    assert not np.array_equal(pixels(first.pictures[0].path), pixels(first.pictures[1].path))


def test_a_picture_depends_on_its_guide_and_seed_and_not_on_the_batch_it_was_in(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    together = generate(model, guides, tmp_path / "a", options=with_(images_per_guide=3, batch_size=4))
    alone = generate(model, guides[1:], tmp_path / "b", options=with_(images_per_guide=2, batch_size=1))
    later = generate(model, guides[1:], tmp_path / "c", options=with_(images_per_guide=1, seed=1))
    third = [picture.path for picture in together.pictures if picture.guide == guides[1]]
    assert [path.name for path in third[:2]] == [picture.path.name for picture in alone.pictures]
    for ours, theirs in zip(third, [picture.path for picture in alone.pictures], strict=False):
        assert np.abs(pixels(ours) - pixels(theirs)).max() <= 1  # float32 kernels differ by batch shape
    assert np.abs(pixels(third[1]) - pixels(later.pictures[0].path)).max() <= 1


def test_the_guide_shows_in_the_picture_and_pfg_scale_0_hides_it(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    def pair(folder: str, **changes: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        report = generate(model, guides, tmp_path / folder, options=with_(images_per_guide=1, **changes))
        return pixels(report.pictures[0].path), pixels(report.pictures[1].path)

    guided, unguided, bare = pair("a"), pair("b", pfg_scale=0.0), pair("c", no_pfg=True)
    assert not np.array_equal(*guided)
    assert np.array_equal(*unguided)
    assert np.array_equal(*bare)
    assert not np.array_equal(unguided[0], bare[0])  # zero tokens still take softmax mass


def test_many_prompts_do_not_keep_every_encoded_text(model: PFGModel) -> None:
    first = model.texts("a cat", "", progress=NoProgress())
    for number in range(12):
        model.texts(f"cat {number}", "", progress=NoProgress())
    assert len(model._texts) == 8
    again = model.texts("a cat", "", progress=NoProgress())
    assert all(torch.equal(one.context, two.context) for one, two in zip(first, again, strict=True))


@pytest.mark.parametrize("uncond", ["zeros", "eos"])
def test_generates_unconditional_row_is_the_row_that_training_drops_to(
    model: PFGModel, uncond: Uncond
) -> None:
    features = torch.randn(2, 768, generator=torch.Generator().manual_seed(8))
    seen = contexts_of(model, with_(uncond=uncond), features)
    prompt, empty = model.texts("a cat", "", progress=NoProgress())
    tokens = model.pipeline.adapter(features)

    def training(keep: bool) -> Tensor:
        keep_B = torch.full((2,), keep)
        return conditional_rows(
            prompt, tokens, empty=empty, keep_text_B=keep_B, keep_tokens_BK=keep_B[:, None], uncond=uncond
        ).context

    assert seen.shape == (4, 77 + TOKENS, WIDTH)
    assert torch.equal(seen[:2], training(keep=False))
    assert torch.equal(seen[2:], training(keep=True))


def test_pfg_scale_multiplies_the_tokens_and_the_negative_prompt_leads_the_unconditional_row(
    model: PFGModel,
) -> None:
    features = torch.ones(2, 768)
    seen = contexts_of(model, with_(pfg_scale=0.5, negative_prompt="blurry"), features)
    torch.testing.assert_close(seen[2:, 77:], model.pipeline.adapter(features) * 0.5)
    assert torch.equal(seen[0, :77], model.texts("blurry", progress=NoProgress())[0].context[0])


def test_without_pfg_the_tokens_are_left_out_on_both_sides(model: PFGModel) -> None:
    assert contexts_of(model, QUICK, None).shape == (4, 77, WIDTH)


def test_rescaled_guidance_gives_back_the_deviation_that_guidance_added(model: PFGModel) -> None:
    def latents(**changes: Any) -> Tensor:
        seen = list[Tensor]()
        layer = model.pipeline.vae.post_quant_conv
        hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        options = with_(num_inference_steps=1, **changes)
        model.paint(torch.full((1, 768), 0.5), seeds=[3], options=options, progress=NoProgress())
        hook.remove()
        return seen[0]

    alone = latents(guidance_scale=1.0)
    burnt, half, whole = (latents(guidance_scale=40.0, guidance_rescale=share) for share in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, (burnt + whole) / 2)
    assert (whole - alone).norm() < (burnt - alone).norm() / 2


def test_a_png_carries_its_settings_for_a1111_and_as_json(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    options = with_(prompt="a cat, sitting", negative_prompt="blurry", seed=7)
    report = generate(model, guides, tmp_path, options=options)
    with Image.open(report.pictures[1].path) as image:
        text = dict(image.info)
    lines = text["parameters"].splitlines()
    assert lines[:2] == ["a cat, sitting", "Negative prompt: blurry"]
    assert lines[2].startswith(
        "Steps: 2, Sampler: DPM++ 2M, Schedule type: Simple, CFG scale: 7.5, Seed: 8, "
    )
    settings = json.loads(text["pfg"])
    assert (settings["seed"], settings["guide"], settings["num_tokens"]) == (8, "one.png", TOKENS)
    assert settings["tagger"]["recipe"] == "webui"
    assert str(tmp_path.parent) not in text["pfg"] + text["parameters"]


def test_a_png_tells_a1111_of_rescaled_guidance_where_there_is_any(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    told = []
    for share in (0.0, 0.7):
        report = generate(model, guides[:1], tmp_path, options=with_(guidance_rescale=share))
        with Image.open(report.pictures[0].path) as image:
            told.append(image.info["parameters"])
    assert "rescale" not in told[0]
    assert ", PFG guidance rescale: 0.7, Seed: " in told[1]


def test_other_settings_never_replace_a_picture(model: PFGModel, guides: list[Path], tmp_path: Path) -> None:
    names: set[Path] = set()
    for options in (QUICK, with_(pfg_scale=0.9), with_(guidance_rescale=0.5), with_(width=32)):
        names |= {picture.path for picture in generate(model, guides, tmp_path, options=options).pictures}
    assert len(names) == 16
    assert len(list(tmp_path.iterdir())) == 16 + 4


def test_guides_of_one_name_in_two_folders_keep_their_own_pictures(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    twin = tmp_path / "guides" / guides[0].name
    twin.parent.mkdir()
    twin.write_bytes(guides[1].read_bytes())
    report = generate(model, [guides[0], twin], tmp_path / "out", options=QUICK)
    assert len({picture.path for picture in report.pictures}) == 4


def test_the_sheet_has_a_row_a_guide_with_the_guide_on_the_left(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    report = generate(model, guides, tmp_path, options=with_(width=64, height=32))
    with Image.open(report.contact_sheet) as sheet:
        assert sheet.size == (3 * (64 + 4) + 4, 2 * (32 + 4) + 4)
        cell = np.asarray(sheet.crop((4 + 68, 4, 4 + 68 + 64, 4 + 32)))
    assert np.array_equal(cell, pixels(report.pictures[0].path))


def test_a_guide_whose_name_is_no_text_still_gets_its_pictures(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    odd = Path(str(tmp_path / ("\udcff" + "あ" * 80 + ".png")))
    odd.write_bytes(guides[0].read_bytes())
    report = generate(model, [odd], tmp_path / "out", options=with_(images_per_guide=1))
    name = report.pictures[0].path.name
    assert name.startswith("あ")
    assert len(name.encode()) < 130


def test_progress_counts_steps_and_says_what_is_assumed(
    base: Base, adapter_file: Path, guides: list[Path], tmp_path: Path
) -> None:
    progress = Watched()
    untrained = dataclasses.replace(base, untrained=True)
    model = load_adapter_on_base(
        adapter_file, untrained, tagger=CheapTagger(preprocess="webui"), progress=progress
    )
    report = generate(model, guides, tmp_path, options=QUICK, progress=progress)
    assert progress.ended == [
        "load: 2/2 models",
        "guides: 2/2 images",
        "prompts: 2/2 texts",
        "generate: 8/8 steps",
    ]
    assert "does not record its training: tagger cheap, preprocessing webui; " in progress.said[0]
    assert "assumed: an empty prompt, the pad zeros (the article's weights: --uncond eos)" in progress.said[0]
    assert "untrained" in progress.said[1]
    assert report.untrained == (f"base {base.name}",)


def test_a_guide_that_cannot_be_used_is_named_before_any_picture_is_made(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for bad, error in ((broken, ContentError), (tmp_path / "absent.png", AccessError)):
        with pytest.raises(error, match=bad.name) as caught:
            generate(model, [guides[0], bad], tmp_path / "out", options=QUICK)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"images_per_guide": 0},
        {"num_inference_steps": 0},
        {"seed": -1},
        {"uncond": "none"},
        {"batch_size": 0},
        {"width": 0},
        {"height": 0, "width": 64},
        {"guidance_scale": float("nan")},
        {"guidance_rescale": 1.5},
        {"guidance_rescale": float("nan")},
        {"pfg_scale": float("inf")},
        {"prompt": "a\udcff"},
        {"negative_prompt": "a\0b"},
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GenerateOptions(**wrong)


def test_the_vae_decodes_in_float32_and_its_pixels_are_those_of_the_plain_pipeline(
    base: Base, adapter_file: Path
) -> None:
    model = load_adapter_on_base(adapter_file, base, tagger=CheapTagger(), device="cpu")
    assert model.pipeline.vae.dtype == torch.float32
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    ours = model.pipeline.decode(latents)
    with torch.no_grad():
        decoded = model.pipeline.vae.decode(latents / model.pipeline.vae.config.scaling_factor).sample
    theirs = model.pipeline.image_processor.postprocess(decoded, output_type="pil")
    assert [image.tobytes() for image in ours] == [image.tobytes() for image in theirs]
    close = model.pipeline.decode(latents.bfloat16())
    assert np.abs(np.asarray(close[0], np.int16) - np.asarray(ours[0], np.int16)).max() <= 8


@pytest.mark.parametrize(("part", "name"), [("unet", "conv_out"), ("vae", "decoder.conv_out")])
def test_a_picture_of_numbers_that_are_not_finite_is_one_line_and_no_file(
    base: Base, adapter_file: Path, guides: list[Path], tmp_path: Path, part: str, name: str
) -> None:
    model = load_adapter_on_base(adapter_file, base, tagger=CheapTagger(), device="cpu")
    with torch.no_grad():
        getattr(model.pipeline, part).get_submodule(name).bias.fill_(float("nan"))
    with pytest.raises(RunError, match=f"(?i)the output of the {part} is not finite .float32.") as caught:
        generate(model, guides, tmp_path / "out", options=QUICK)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_more_steps_than_the_schedule_has_are_refused_by_name(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"1001 \(--steps\), and the base's schedule has 1000; use fewer"):
        generate(model, guides, options=with_(num_inference_steps=1001), out_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_size_the_unet_cannot_make_is_refused_with_its_step(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="multiples of 16"):
        generate(model, guides, tmp_path, options=with_(width=40))


def test_an_adapter_of_another_feature_width_is_refused(base: Base, tmp_path: Path) -> None:
    save_adapter(PFGLinear(1024, TOKENS, WIDTH), tmp_path / "x.pt")
    with pytest.raises(IdentityError, match="1024 wide, tagger cheap gives 768"):
        load_adapter_on_base(tmp_path / "x.pt", base, tagger=CheapTagger())


def test_the_demo_models_make_a_picture_with_an_adapter_of_ones_own(
    guides: list[Path], tmp_path: Path
) -> None:
    demo, tagger = Base.load("demo"), OnnxTagger.load("demo", preprocess="webui")
    save_adapter(PFGLinear(tagger.feature_dim, 5, demo.cross_attention_dim), tmp_path / "x-n5.pt")
    model = load_adapter_on_base(tmp_path / "x-n5.pt", demo, tagger=tagger, device="cpu")
    report = generate(model, guides[:1], tmp_path / "out", options=with_(images_per_guide=1))
    side = base_geometry(demo.folder).resolution
    assert pixels(report.pictures[0].path).shape == (side, side, 3)
    assert report.untrained == ()


def test_pictures_too_large_for_the_machine_are_one_line(
    model: PFGModel, guides: list[Path], tmp_path: Path
) -> None:
    side = 2**25  # of their latents alone 2^48 bytes, beyond what addresses reach
    options = dataclasses.replace(QUICK, width=side, height=side, images_per_guide=1, batch_size=1)
    with pytest.raises(RunError, match="main memory is too small for a picture; try a smaller size"):
        generate(model, guides[:1], tmp_path / "out", options=options)
