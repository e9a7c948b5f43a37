"""Pictures as files: names that hold on every disk, text that A1111 reads back, sheets that stay small."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pfgdata.errors import RunError
from pfgtrain.generate.pictures import (
    SHEET_PIXELS,
    cell_size,
    contact_sheet,
    parameters_text,
    picture_name,
    png_bytes,
    settings_digest,
    thumbnail,
    without_folders,
    write_png,
)

A1111_FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')  # of its infotext reader


@pytest.fixture
def settings() -> dict[str, Any]:
    return {
        "prompt": "一枚, illustration",
        "negative_prompt": "blurry",
        "num_inference_steps": 20,
        "sampler": "DPM++ 2M",
        "schedule": "Simple",
        "guidance_scale": 7.5,
        "guidance_rescale": 0.0,
        "seed": 3,
        "width": 512,
        "height": 768,
        "base": "org/name",
        "guide": 'a, "b": c.png',
        "pfg_scale": 1.0,
        "num_tokens": 5,
        "uncond": "zeros",
        "adapter": "0123",
        "tagger": {"name": "wd-v1-4-vit-tagger-v2"},
    }


def test_a1111_reads_the_parameters_back(settings: dict[str, Any]) -> None:
    *_, last = parameters_text(settings).splitlines()
    fields = dict(A1111_FIELD.findall(last))
    assert fields["Size"] == "512x768"
    assert (fields["Sampler"], fields["Schedule type"]) == ("DPM++ 2M", "Simple")
    assert fields["Seed"] == "3"
    assert fields["PFG guide"] == r'"a, \"b\": c.png"'
    assert fields["Tagger"] == "wd-v1-4-vit-tagger-v2"


def test_a_png_keeps_text_of_any_script(settings: dict[str, Any]) -> None:
    data = png_bytes(Image.new("RGB", (8, 8)), settings=settings)
    assert data == png_bytes(Image.new("RGB", (8, 8)), settings=settings)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["parameters"].startswith("一枚, illustration\nNegative prompt: blurry\nSteps: 20")


def test_a_picture_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/x\.png: cannot be written") as caught:
        write_png(tmp_path / "file" / "x.png", Image.new("RGB", (8, 8)))
    assert "\n" not in str(caught.value)


def test_the_digest_stands_for_every_setting_whatever_their_order(settings: dict[str, Any]) -> None:
    turned = dict(reversed(settings.items()))
    assert settings_digest(settings) == settings_digest(turned)
    assert settings_digest(settings) != settings_digest({**settings, "seed": 4})


def test_a_name_is_short_utf8_and_never_empty() -> None:
    assert picture_name(Path("x/guide.v2.jpeg"), digest="d", index=3) == "guide.v2-d-03.png"
    assert picture_name(Path("\udcff.png"), digest="d", index=0) == "guide-d-00.png"
    assert len(picture_name(Path("あ" * 200), digest="d", index=0).encode()) <= 110


def test_a_thumbnail_shows_the_whole_image_centred_on_white() -> None:
    wide = Image.new("RGBA", (40, 20), (255, 0, 0, 255))
    page = np.asarray(thumbnail(wide, cell=(20, 20)))
    assert (page[:5] == 255).all()
    assert (page[-5:] == 255).all()
    assert (page[5:15] == (255, 0, 0)).all()
    clear = np.asarray(thumbnail(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), cell=(20, 20)))
    assert (clear == 255).all()


def test_a_picture_in_a_cell_of_its_own_size_is_unchanged() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    assert np.array_equal(np.asarray(thumbnail(Image.fromarray(noise), cell=(32, 24))), noise)


def test_a_large_sheet_is_scaled_down_and_a_small_one_is_not() -> None:
    assert cell_size(512, 768, rows=2, columns=5) == (512, 768)
    width, height = cell_size(512, 768, rows=200, columns=5)
    assert width * height * 1000 <= SHEET_PIXELS
    assert width / height == pytest.approx(2 / 3, rel=0.02)


def test_rows_of_unequal_length_share_one_sheet() -> None:
    cell = Image.new("RGB", (10, 20))
    assert contact_sheet([[cell, cell], [cell]]).size == (2 * 14 + 4, 2 * 24 + 4)


def test_a_name_that_is_no_text_travels_as_its_bytes() -> None:
    assert without_folders("/home/someone/t\udcffg") == without_folders("t\udcffg") == r"t\xffg"
    assert without_folders("org/名前") == "org/名前"


def test_an_absolute_path_leaves_its_folders_behind() -> None:
    assert without_folders("/home/someone/models/base") == "base"
    assert without_folders("org/name") == "org/name"
    assert without_folders("s3://someones-bucket/feats") == "feats"  # a run given away names no bucket
