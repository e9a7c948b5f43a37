"""A convention as a value: its text, its table, and what cannot be one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfgdata.conventions import PREPROCESSINGS, WD, Convention, read_convention
from pfgdata.errors import ConfigError
from pfgdata.images import square
from pfgdata.taggers import CATALOG, convention_named

TABLE: dict[str, Any] = {
    "size": 64,
    "layout": "NCHW",
    "channels": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "square": ["pad #808080", "stretch 64 box"],
    "output": "logits",
    "labels": "tags.csv",
    "columns": ["tag", "kind", "posts"],
    "categories": {"0": "general", "5": "species"},
}
KNOWN = [entry.convention for entry in CATALOG.values() if entry.convention is not None]


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_what_wd14_takes_is_on_record_as_it_always_was(name: str) -> None:
    assert WD.with_square(name).text == name
    assert Convention.of(name) == WD.with_square(name)
    assert replace(WD, channels="RGB", square=(name,)).text != name


@pytest.mark.parametrize("convention", [*KNOWN, Convention.from_record(TABLE, where="here")])
def test_text_and_table_give_the_convention_back(convention: Convention, tmp_path: Path) -> None:
    assert Convention.of(convention.text) == convention
    assert "\n" not in convention.text
    (tmp_path / "how.json").write_text(json.dumps(convention.as_record()))
    assert read_convention(tmp_path / "how.json") == convention


def test_the_name_of_a_tagger_in_the_catalog_is_a_convention_and_so_is_a_file(tmp_path: Path) -> None:
    assert convention_named("cl-tagger-v1") == CATALOG["cl-tagger-v1"].convention
    (tmp_path / "how.json").write_text(json.dumps(TABLE))
    assert convention_named(str(tmp_path / "how.json")).labels.category == "kind"
    with pytest.raises(ConfigError, match="No such file"):
        convention_named("animetimm-caformer_b36")  # its own files say it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": "rgb"}, "channels 'rgb': is RGB or BGR"),
        ({"layout": "CHW"}, "layout 'CHW': is NHWC or NCHW"),
        ({"output": "softmax"}, "output 'softmax': is probabilities or logits"),
        ({"mean": [0.5]}, "has three numbers"),
        ({"std": [0.5, 0.5, float("nan")]}, "has three numbers"),
        ({"std": [0.5, 0, 0.5]}, "is above 0"),
        ({"mean": None}, "object is not iterable"),
        ({"square": []}, "has no steps"),
        ({"square": ["kohya", "crop 64"]}, "a name stands alone"),
        ({"square": ["rotate 90"]}, "no step 'rotate 90' of a square"),
        ({"square": ["fit 64 bilinear white round"]}, "a colour is written #rrggbb"),
        ({"square": ["stretch 64 sinc"]}, "filter 'sinc': is nearest or"),
        ({"square": ["stretch 0 box"]}, "a size is 1 to 8192 pixels"),
        ({"square": ["pad #ffffff"]}, "must end with a square of 64 pixels"),
        ({"square": ["shorter 64 box"]}, "must end with a square of 64 pixels"),
        ({"square": ["stretch 32 box"]}, "must end with a square of 64 pixels"),
        ({"labels": "../tags.csv"}, "is no name of a .csv or .json file"),
        ({"columns": ["a b", "c", "d"]}, "is no column of one word"),
        ({"categories": {"300": "general"}}, "a number of 0 to 255"),
        ({"size": 64.5, "extra": 1}, "does not know extra"),
    ],
)
def test_what_cannot_be_a_convention_is_one_line_that_names_the_file(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Convention.from_record({**TABLE, **change}, where="how.toml")
    assert message in str(caught.value) and str(caught.value).startswith("how.toml: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "how.toml").write_text("channels =")
    with pytest.raises(ConfigError, match=r"how\.toml: cannot be read"):
        read_convention(tmp_path / "how.toml")
    (tmp_path / "how.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"how\.json: is no table"):
        read_convention(tmp_path / "how.json")


@pytest.mark.parametrize(
    "text", ["", "channels RGB", "channels RGB; square kohya; output logits", f"{KNOWN[-1].text}; colour red"]
)
def test_a_text_that_is_none_is_answered_with_the_names(text: str) -> None:
    with pytest.raises(ConfigError, match="kohya, webui"):
        Convention.of(text)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (65, 64), (64, 64), (3, 129)])
@pytest.mark.parametrize(
    "steps",
    [
        ("pad #0000ff", "stretch 64 lanczos"),
        ("fit 64 bilinear #0000ff round",),
        ("fit 64 bilinear #0000ff floor",),
        ("stretch 64 box",),
        ("shorter 64 bicubic", "crop 64"),
        ("crop 64",),
    ],
)
def test_any_shape_becomes_a_square(steps: tuple[str, ...], shape: tuple[int, int]) -> None:
    convention = replace(Convention.from_record(TABLE, where="here"), square=steps)
    tile = square(np.full((*shape, 3), 255, np.uint8), preprocess=convention.text, size=64)
    assert tile.shape == (64, 64, 3) and tile.dtype == np.uint8
    assert tile[..., 0].max() > 0, "the picture has not vanished"


def test_a_strip_too_long_for_memory_is_shrunk_before_it_is_padded() -> None:
    convention = replace(
        Convention.from_record(TABLE, where="here"), square=("pad #ffffff", "stretch 64 bicubic")
    )
    tile = square(np.zeros((60_000, 3000, 3), np.uint8), preprocess=convention.text, size=64)
    columns = np.flatnonzero(tile.min(axis=(0, 2)) < 128)
    assert abs(len(columns) - 3) <= 1  # 3,000 of 60,000


def test_of_a_strip_that_is_cropped_only_the_middle_is_enlarged() -> None:
    convention = replace(
        Convention.from_record(TABLE, where="here"), square=("shorter 64 bicubic", "crop 64")
    )
    for shape in ((1, 65_501, 3), (65_501, 1, 3)):
        strip = np.zeros(shape, np.uint8)
        strip.reshape(-1, 3)[32_750] = 255
        tile = square(strip, preprocess=convention.text, size=64)
        assert tile.mean() > 200  # the middle pixel fills it
