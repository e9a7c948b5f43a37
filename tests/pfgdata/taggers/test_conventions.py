"""Each convention of the catalog, and of the files that others publish, against its authors' own description.

The references are written from those descriptions in Pillow and numpy, and know nothing of our steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pfgdata.conventions import WD, Convention, Labels
from pfgdata.errors import ConfigError, GraphError, ModelError, VocabularyError
from pfgdata.images import square
from pfgdata.taggers import CATALOG, OnnxTagger
from tests.pfgdata.taggers.seers import RATINGS, Seer, seen, write_labels, write_seer

Reference = Callable[[Image.Image], npt.NDArray[Any]]
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def on_white(picture: Image.Image) -> Image.Image:
    """As every author does first."""
    if picture.mode == "RGB":
        return picture
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    return ground.convert("RGB")


def padded(picture: Image.Image, colour: str) -> Image.Image:
    side = max(picture.size)
    ground = Image.new("RGB", (side, side), colour)
    ground.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return ground


def normal(picture: Image.Image, mean: Any = 0.5, std: Any = 0.5) -> npt.NDArray[np.float32]:
    """to_tensor and normalize: [3, H, W]."""
    numbers = (np.asarray(picture, np.float32) / 255 - np.array(mean)) / np.array(std)
    return np.asarray(numbers.transpose(2, 0, 1), np.float32)


def smilingwolf(picture: Image.Image) -> npt.NDArray[Any]:
    """wd-tagger's app.py: pad to a white square, bicubic to 448, BGR 0..255, [H, W, 3]."""
    return np.asarray(padded(on_white(picture), "white").resize((448, 448), BICUBIC), np.float32)[:, :, ::-1]


def pixai_0_9(picture: Image.Image) -> npt.NDArray[Any]:
    """imgutils.tagging.pixai with its preprocess.json: stretched bilinear, RGB -1..1, [3, H, W]."""
    return normal(on_white(picture).resize((448, 448), BILINEAR))


def pixai_1_0(picture: Image.Image) -> npt.NDArray[Any]:
    """RescalePadProcessor: fit into 1008 by int(), zeros around, RGB -1..1."""
    picture = on_white(picture)
    ratio = min(1008 / picture.height, 1008 / picture.width)
    height, width = int(picture.height * ratio), int(picture.width * ratio)
    ground = Image.new("RGB", (1008, 1008))
    ground.paste(picture.resize((width, height), BILINEAR), ((1008 - width) // 2, (1008 - height) // 2))
    return normal(ground)


def cl_1(picture: Image.Image) -> npt.NDArray[Any]:
    """The author's space: white square, bicubic 448, to tensor, the channels turned, -1..1."""
    return normal(padded(on_white(picture), "white").resize((448, 448), BICUBIC))[::-1]


def animetimm(picture: Image.Image) -> npt.NDArray[Any]:
    """eva02_large's preprocess.json, test: pad_to_size 512, resize 448, center_crop, ImageNet's numbers."""
    picture = on_white(picture)
    ratio = min(512 / picture.width, 512 / picture.height)
    inside = round(picture.width * ratio), round(picture.height * ratio)
    ground = Image.new("RGB", (512, 512), "white")
    ground.paste(picture.resize(inside, BILINEAR), ((512 - inside[0]) // 2, (512 - inside[1]) // 2))
    return normal(ground.resize((448, 448), BICUBIC), *IMAGENET)


def timm(picture: Image.Image) -> npt.NDArray[Any]:
    """create_transform for input 56, crop_pct 0.875, bicubic: Resize(64), CenterCrop(56)."""
    picture = on_white(picture)
    short = min(picture.size)
    picture = picture.resize((int(64 * picture.width / short), int(64 * picture.height / short)), BICUBIC)
    left, top = round((picture.width - 56) / 2), round((picture.height - 56) / 2)
    return normal(picture.crop((left, top, left + 56, top + 56)), *IMAGENET)


PREPROCESS = {
    "test": [
        {"type": "pad_to_size", "size": [512, 512], "background_color": "white", "interpolation": "bilinear"},
        {"type": "resize", "size": 448, "interpolation": "bicubic", "max_size": None, "antialias": True},
        {"type": "center_crop", "size": [448, 448]},
        {"type": "maybe_to_tensor"},
        {"type": "normalize", "mean": IMAGENET[0], "std": IMAGENET[1]},
    ]
}
PIXAI_STAGES = {
    "stages": [
        {"type": "resize", "size": [448, 448], "interpolation": "bilinear", "antialias": True},
        {"type": "to_tensor"},
        {"type": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    ]
}
TIMM = {
    "architecture": "vit",
    "pretrained_cfg": {
        "input_size": [3, 56, 56],
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": IMAGENET[0],
        "std": IMAGENET[1],
    },
}
CATEGORIES = ((0, "general"), (1, "artist"), (3, "copyright"), (4, "character"), (5, "meta"), (9, "rating"))
ANIMETIMM = Convention(
    size=448,
    layout="NCHW",
    channels="RGB",
    mean=IMAGENET[0],
    std=IMAGENET[1],
    square=("fit 512 bilinear #ffffff round", "shorter 448 bicubic", "crop 448"),
    labels=Labels(categories=CATEGORIES),
)
TIMMS = replace(ANIMETIMM, size=56, square=("shorter 64 bicubic", "crop 56"))


def of_catalog(name: str) -> Convention:
    convention = CATALOG[name].convention
    assert convention is not None
    return convention


CASES: dict[str, tuple[Convention, Reference]] = {
    "wd": (WD.with_square("smilingwolf"), smilingwolf),
    "pixai-tagger-v0.9": (of_catalog("pixai-tagger-v0.9"), pixai_0_9),
    "pixai-tagger-v1.0": (of_catalog("pixai-tagger-v1.0"), pixai_1_0),
    "cl-tagger-v1": (of_catalog("cl-tagger-v1"), cl_1),
    "z3d-e621-convnext": (of_catalog("z3d-e621-convnext"), smilingwolf),
    "animetimm": (ANIMETIMM, animetimm),
    "timm": (TIMMS, timm),
}


def pictures(mini: Path) -> list[Image.Image]:
    """A wide one, a tall one, one with alpha, and one of the tagger's own side: all with fine detail."""
    paths = sorted(mini.rglob("*.jpg"))[:3]
    wide, tall, own = (Image.open(path).convert("RGB") for path in paths)
    rng = np.random.default_rng(1)
    found = [wide.resize((701, 333)), tall.resize((307, 640)), own.resize((448, 448))]
    found = [
        Image.fromarray(
            (np.asarray(one) // 2 + rng.integers(0, 128, (one.height, one.width, 3))).astype(np.uint8)
        )
        for one in found
    ]
    clear = found[0].convert("RGBA")
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (333, 701), np.uint8)))
    return [*found, clear]


def seer_of(convention: Convention) -> Seer:
    """A graph that takes it."""
    tags = {"1girl": "general", "saber": "character"}
    if convention.is_wd:
        tags |= dict.fromkeys(RATINGS, "rating")
    scale = 128.0 if convention.mean is None else 1.0
    return Seer(
        layout=convention.layout or "NHWC",
        size=convention.size or 448,
        output=convention.output,
        scale=scale,
        tags=tags,
    )


def loaded(folder: Path, convention: Convention) -> OnnxTagger:
    seer = seer_of(convention)
    write_seer(folder, seer)
    write_labels(folder, seer, convention.labels)
    return OnnxTagger.load(str(folder), preprocess=convention, device="cpu", threads=1)


def feature(tagger: OnnxTagger, picture: Image.Image, preprocess: str | None = None) -> npt.NDArray[Any]:
    """What the tagger sees, by its own convention or another's square."""
    tile = square(
        np.asarray(picture), preprocess=preprocess or tagger.identity.preprocess, size=tagger.image_size
    )
    return tagger.predict(tile[None])[1][0]


def level(convention: Convention) -> float:
    """One of 256 steps in the numbers that the graph takes."""
    return 1.0 if convention.std is None else 1 / 255 / min(convention.std)


@pytest.mark.parametrize("name", CASES)
def test_a_graph_sees_what_its_authors_fed_it(name: str, mini: Path, tmp_path: Path) -> None:
    convention, reference = CASES[name]
    tagger = loaded(tmp_path, convention)
    for picture in pictures(mini):
        expected = seen(reference(picture), seer_of(convention).layout)
        off = np.abs(feature(tagger, picture) - expected).max() / level(convention)
        assert off < 1e-3, f"{picture.size} is off by {off:.2f} of 255"


def spoilt(convention: Convention) -> dict[str, Convention]:
    """It with each one thing wrong."""
    turned = replace(convention, channels="RGB" if convention.channels == "BGR" else "BGR")
    half = (0.5, 0.5, 0.5)
    other = (
        replace(convention, mean=half, std=half)
        if convention.mean != half
        else replace(convention, mean=IMAGENET[0], std=IMAGENET[1])
    )
    squares = {
        "smilingwolf": ("kohya",),
        "stretch 448 bilinear": ("stretch 448 bicubic",),
        "fit 1008 bilinear #000000 floor": ("fit 1008 bilinear #ffffff floor",),
        "pad #ffffff": ("pad #000000", "stretch 448 bicubic"),
        "fit 512 bilinear #ffffff round": ("pad #ffffff", "stretch 448 bicubic"),
        "shorter 64 bicubic": ("stretch 56 bicubic",),
    }
    drawn = replace(convention, square=squares[convention.square[0]])
    return {"channels": turned, "range": other, "square": drawn}


@pytest.mark.parametrize("name", CASES)
def test_the_graphs_see_a_wrong_channel_range_pad_or_filter(name: str, mini: Path, tmp_path: Path) -> None:
    convention, reference = CASES[name]
    for what, wrong in spoilt(convention).items():
        tagger = loaded(tmp_path / what, wrong)
        off = max(
            np.abs(feature(tagger, picture) - seen(reference(picture), seer_of(convention).layout)).max()
            for picture in pictures(mini)
        )
        assert off > 3 * level(convention), what


def beside(folder: Path, convention: Convention, **files: Any) -> Path:
    """A folder with a graph, its tags, and JSON files (preprocess= is preprocess.json)."""
    seer = seer_of(convention)
    write_seer(folder, seer)
    write_labels(folder, seer, convention.labels)
    for name, record in files.items():
        (folder / f"{name}.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("convention", "files"),
    [
        (ANIMETIMM, {"preprocess": PREPROCESS}),
        (TIMMS, {"config": TIMM}),
        (replace(TIMMS, output="logits"), {"config": TIMM}),
        (
            replace(TIMMS, square=("stretch 64 bicubic", "crop 56")),
            {
                "config": {"pretrained_cfg": {**TIMM["pretrained_cfg"], "crop_mode": "squash"}}  # type: ignore[dict-item]
            },
        ),
        (
            of_catalog("pixai-tagger-v0.9"),
            {
                "preprocess": PIXAI_STAGES,
                "categories": [{"category": 0, "name": "general"}, {"category": 4, "name": "character"}],
            },
        ),
        (
            replace(of_catalog("pixai-tagger-v0.9"), labels=Labels(file="tag_mapping.json")),
            {"preprocess": PIXAI_STAGES},
        ),
    ],
)
def test_the_files_beside_a_model_say_its_convention(
    convention: Convention, files: dict[str, Any], tmp_path: Path
) -> None:
    tagger = OnnxTagger.load(str(beside(tmp_path, convention, **files)), device="cpu", threads=1)
    assert tagger.stated.convention == convention
    assert tagger.stated.source == f"{next(iter(files))}.json"
    assert Convention.of(tagger.identity.preprocess) == convention


def test_a_convention_beside_its_model_comes_first(tmp_path: Path) -> None:
    folder = beside(tmp_path, ANIMETIMM, preprocess=PIXAI_STAGES)
    (folder / "convention.json").write_text(json.dumps(ANIMETIMM.as_record()))
    assert OnnxTagger.load(str(folder), device="cpu", threads=1).stated.convention == ANIMETIMM


def test_a_wd_folder_stays_what_it_was_whatever_else_lies_there(tmp_path: Path) -> None:
    """SmilingWolf's repositories hold timm's config.json, of other weights, beside an NHWC model.onnx."""
    loaded(tmp_path, WD)
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    tagger = OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
    assert (tagger.stated.convention, tagger.identity.preprocess) == (WD, "kohya")


def test_what_nobody_states_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    convention = of_catalog("cl-tagger-v1")
    folder = str(beside(tmp_path, convention))
    with pytest.raises(
        ModelError, match=r"tag_mapping\.json does not say how .* pass --convention FILE with"
    ):
        OnnxTagger.load(folder)
    (tmp_path / "preprocess.json").write_text('{"stages": [{"type": "rotate"}]}')
    with pytest.raises(ModelError, match=r"preprocess\.json: says no .* \(stage rotate; known are resize"):
        OnnxTagger.load(folder)
    (tmp_path / "preprocess.json").write_text("[")
    with pytest.raises(ModelError, match=r"preprocess\.json: says no convention"):
        OnnxTagger.load(folder)


def test_a_convention_of_another_layout_or_size_is_refused(tmp_path: Path) -> None:
    folder = str(beside(tmp_path, of_catalog("pixai-tagger-v0.9")))
    wrong = replace(of_catalog("pixai-tagger-v0.9"), layout="NHWC")
    with pytest.raises(GraphError, match="layout is NCHW, its convention says NHWC"):
        OnnxTagger.load(folder, preprocess=wrong)
    wrong = replace(wrong, layout="NCHW", size=224, square=("stretch 224 bilinear",))
    with pytest.raises(GraphError, match="size is 448, its convention says 224"):
        OnnxTagger.load(folder, preprocess=wrong)


def test_logits_are_held_to_the_same_proof_and_a_head_of_queries_is_refused(tmp_path: Path) -> None:
    convention = replace(of_catalog("cl-tagger-v1"), size=32, square=("pad #ffffff", "stretch 32 bicubic"))
    tagger = loaded(tmp_path, convention)
    tile = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    scores, features = tagger.predict(tile)
    assert ((scores > 0) & (scores < 1)).all()
    assert features.shape == (2, 147) and tagger.identity.feature_node == "seen"
    write_seer(tmp_path, replace(seer_of(convention), output="queries"))
    with pytest.raises(
        GraphError, match=r"no output \(logits of 2\) is made by a dense layer .*one query a tag"
    ):
        OnnxTagger.load(str(tmp_path), preprocess=convention)


def test_a_named_square_can_take_the_place_of_a_conventions_own(tmp_path: Path) -> None:
    convention = of_catalog("pixai-tagger-v0.9")
    folder = beside(tmp_path, convention, preprocess=PIXAI_STAGES)
    tagger = OnnxTagger.load(str(folder), preprocess="webui", device="cpu", threads=1)
    assert tagger.stated.convention.square == ("webui",) and tagger.stated.convention.channels == "RGB"
    picture = np.random.default_rng(0).integers(0, 256, (99, 50, 3), np.uint8)
    ours = square(picture, preprocess=tagger.identity.preprocess, size=448)
    assert np.array_equal(ours, square(picture, preprocess="webui", size=448))


def test_float16_is_close_by_a_convention_of_a_range(tmp_path: Path, mini: Path) -> None:
    convention, reference = CASES["cl-tagger-v1"]
    loaded(tmp_path, convention)
    tagger = OnnxTagger.load(
        str(tmp_path), preprocess=convention, device="cpu", precision="float16", threads=1
    )
    picture = pictures(mini)[0]
    np.testing.assert_allclose(feature(tagger, picture), seen(reference(picture), "NCHW"), atol=2e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"1": {"tag": "a", "category": "General"}}', "no tag has the number 0"),
        ('{"0": {"tag": "a", "category": "Mood"}}', "no category mood; known are artist"),
        ('{"0": {"tag": "a"}}', "is not as such files are"),
        ('{"tags": ["a", "b"], "tags_split": [["general", 1]]}', "does not add up"),
        ("{}", "names no tags in a form that is known"),
        ("[", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"tags": ["a"], "tags_split": [["general", 1e400]]}', "cannot be read"),
        ('{"0": {"tag": 5, "category": "General"}}', "the tag 5 is no text"),
        ('{"0": {"tag": null, "category": "General"}}', "the tag None is no text"),
        (r'{"0": {"tag": "\ud800", "category": "General"}}', "is no text"),
    ],
)
def test_a_file_of_tags_that_is_not_as_published_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    convention = of_catalog("cl-tagger-v1")
    folder = beside(tmp_path, convention)
    (folder / "tag_mapping.json").write_text(text)
    with pytest.raises(VocabularyError, match=message) as caught:
        OnnxTagger.load(str(folder), preprocess=convention)
    assert "tag_mapping.json" in str(caught.value) and "\n" not in str(caught.value)


def test_tags_are_spelt_as_danbooru_spells_them_in_every_form(tmp_path: Path) -> None:
    tags = ["long hair", "saber", "saber", "rating:e", "rating:g", "rating:s", "rating:q"]
    kinds = ["general", "character", "artist", "rating", "rating", "rating", "rating"]
    forms = {
        "table": {
            str(n): {"tag": t, "category": k.title()}
            for n, (t, k) in enumerate(zip(tags, kinds, strict=True))
        },
        "split": {
            "tags": tags,
            "tags_split": [["general", 1], ["character", 1], ["artist", 1], ["rating", 4]],
        },
    }
    convention = replace(of_catalog("cl-tagger-v1"), size=32, square=("stretch 32 bilinear",))
    for name, record in forms.items():
        folder = tmp_path / name
        write_seer(folder, replace(seer_of(convention), tags=dict.fromkeys(map(str, range(7)), "general")))
        (folder / "tag_mapping.json").write_text(json.dumps(record))
        vocabulary = OnnxTagger.load(str(folder), preprocess=convention, device="cpu", threads=1).vocabulary
        assert vocabulary.names == (
            *("long_hair", "saber", "saber_(artist)", "explicit", "general", "sensitive", "questionable"),
        )
        assert [vocabulary.names[index] for index in vocabulary.rating_ids] == list(RATINGS)


def test_a_misspelt_preprocessing_is_answered_before_a_model_is_looked_for() -> None:
    with pytest.raises(ConfigError, match="kohya, webui"):
        OnnxTagger.load("nobody/nothing", preprocess="kohia")
