"""Small pictures for pages, and the frame that all pages share."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pfgdata.images import THUMBNAIL_SIDE, thumbnail_jpeg
from pfgdata.pages import page_html, stylesheet


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1000, 500, (128, 256)), (500, 1000, (256, 128)), (40, 30, (30, 40)), (5000, 2, (1, 256))],
)
def test_a_thumbnail_keeps_the_shape_and_is_never_enlarged(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    pixels = np.full((height, width, 3), 90, np.uint8)
    assert Image.open(io.BytesIO(thumbnail_jpeg(pixels))).size == expected


def test_a_thumbnail_has_the_colours_of_its_picture_and_white_where_it_is_clear() -> None:
    pixels = np.zeros((2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE, 4), np.uint8)
    pixels[:, :THUMBNAIL_SIDE] = (200, 40, 40, 255)
    small = np.asarray(Image.open(io.BytesIO(thumbnail_jpeg(pixels)))).astype(int)
    assert np.abs(small[:, :100] - (200, 40, 40)).max() < 12
    assert small[:, -100:].min() > 245


def test_a_page_takes_nothing_from_elsewhere_and_escapes_its_title() -> None:
    page = page_html("<b>&", "<main>x</main>", style=".own { color: red }\n")
    assert "<title>&lt;b&gt;&amp;</title>" in page and stylesheet() in page and ".own" in page
    assert "http" not in page and "<script" not in page
