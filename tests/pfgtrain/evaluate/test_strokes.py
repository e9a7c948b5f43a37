"""What pixels say of a drawing, on pictures whose energies follow from what is drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from pfgtrain.evaluate.measures import resamples
from pfgtrain.evaluate.pixels import pixel_rows
from pfgtrain.evaluate.strokes import Strokes, colour_error, strokes

SIDE = 128
DRAWN = resamples(2, count=20, seed=0)


def ground(colour: tuple[int, int, int] = (255, 255, 255)) -> npt.NDArray[np.uint8]:
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


def lined(*, width: int = 1, grey: int = 0) -> npt.NDArray[np.uint8]:
    """A line from top to bottom, `width` pixels wide."""
    picture = ground()
    picture[:, 60 : 60 + width] = grey
    return picture


def halves() -> npt.NDArray[np.uint8]:
    picture = ground()
    picture[:, :64] = 0
    return picture


def blurred(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1.5)))


def test_a_plain_ground_has_neither_edges_nor_lines() -> None:
    found = strokes(ground())
    assert (found.edges, found.lines) == (0, 0)
    assert found.flat_C3.shape == (256, 3)
    assert np.unique(found.flat_C3).tolist() == [255]


def test_an_edge_is_one_step_in_each_row_and_no_line() -> None:
    found = strokes(halves())
    assert found.edges == pytest.approx(1 / (SIDE - 1))
    assert found.lines == 0


def test_a_line_is_two_steps_in_each_row_and_stands_apart_from_both_sides() -> None:
    found = strokes(lined())
    assert found.edges == pytest.approx(2 / (SIDE - 1))
    assert found.lines == pytest.approx(1 / (SIDE - 4))  # looked for where there are 2 px on both sides
    assert strokes(lined(width=2)).lines == pytest.approx(2 / (SIDE - 4))
    assert strokes(lined(width=5)).lines == 0  # a stripe: two edges


def test_energies_go_with_the_square_of_the_contrast() -> None:
    full, half = strokes(lined()), strokes(lined(grey=255 - 51))
    assert (half.edges / full.edges, half.lines / full.lines) == pytest.approx((0.04, 0.04))


def test_a_picture_turned_has_the_same_strokes() -> None:
    one, other = strokes(lined()), strokes(lined().swapaxes(0, 1).copy())
    assert (one.edges, one.lines) == pytest.approx((other.edges, other.lines))


@pytest.mark.parametrize("picture", [lined(), lined(width=2), halves()], ids=["line", "two", "edge"])
def test_a_blurred_copy_has_less_of_both(picture: npt.NDArray[np.uint8]) -> None:
    sharp, soft = strokes(picture), strokes(blurred(picture))
    assert 0 < soft.edges < 0.5 * sharp.edges
    assert soft.lines <= 0.5 * sharp.lines


def test_a_picture_twice_as_large_has_the_same_lines() -> None:
    large = lined(width=2).repeat(2, axis=0).repeat(2, axis=1)
    assert strokes(large).lines == pytest.approx(strokes(lined(width=2)).lines)


def test_a_line_is_lost_where_it_is_broken() -> None:
    broken = lined()
    broken[::2] = 255
    whole_lines, broken_lines = strokes(lined()).lines, strokes(broken).lines
    assert broken_lines == pytest.approx(whole_lines / 2)


def test_tiny_pictures_have_strokes_too() -> None:
    found = strokes(np.zeros((1, 3, 3), np.uint8))
    assert (found.edges, found.lines) == (0, 0)


def test_the_same_colours_elsewhere_are_no_error() -> None:
    left, right = halves(), halves()[:, ::-1].copy()
    assert colour_error(strokes(left), strokes(right)) == 0


def test_a_ground_of_another_colour_is_off_by_as_much_on_that_half_both_ways() -> None:
    off = halves()
    off[:, 64:] = (255, 225, 195)  # white, off by 0, 30 and 60 in its channels
    assert colour_error(strokes(halves()), strokes(off)) == pytest.approx(30 / 2)


def test_a_colour_too_many_counts_from_one_side_only() -> None:
    spot = ground()
    spot[:64] = (255, 255, 55)
    assert colour_error(strokes(ground()), strokes(spot)) == pytest.approx(200 / 3 / 2 / 2)


def test_noise_is_not_flat_and_two_pictures_without_flat_cells_have_no_error() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    assert len(strokes(noise).flat_C3) == 0
    assert np.isnan(colour_error(strokes(noise), strokes(ground())))


def kept(pictures: npt.NDArray[np.uint8]) -> dict[tuple[int, str], list[Strokes]]:
    """Two guides, a line and an edge; the run drew `pictures` for both."""
    guides = [lined(width=2), halves()]
    made = {(k, kind): [strokes(guide)] for k, guide in enumerate(guides) for kind in ("guide", "vae")}
    return made | {(k, "results"): [strokes(pictures)] * 2 for k in (0, 1)}


def test_a_row_is_measured_in_units_of_the_guides_through_the_vae() -> None:
    rows = pixel_rows(kept(lined(width=2)), 2, seed=0, resamples_RK=DRAWN)
    assert list(rows) == ["pfg", "shuffled", "ceiling", "guide"]
    for name, value in {"pfg": 4 / 3, "ceiling": 1.0, "guide": 1.0}.items():
        edges = rows[name].edges
        assert edges is not None
        assert edges.value == pytest.approx(value), name  # 2 + 2 steps of 2 + 1
    assert rows["pfg"].lines is not None
    assert rows["pfg"].lines.value == pytest.approx(2)


def test_colours_are_measured_against_the_guide_or_in_the_shuffled_row_against_another() -> None:
    pictures = kept(lined(width=2)) | {(1, "results"): [strokes(halves())]}
    rows = pixel_rows(pictures, 2, seed=0, resamples_RK=DRAWN)
    assert rows["pfg"].colour is not None and rows["shuffled"].colour is not None
    assert rows["pfg"].colour.value == 0
    assert rows["shuffled"].colour.value == pytest.approx(255 / 2 / 2, rel=0.1)


def test_a_row_without_pictures_is_left_out_and_a_guide_without_is_no_number() -> None:
    pictures = kept(halves()) | {(1, "copy"): [strokes(halves())]}
    rows = pixel_rows(pictures, 2, seed=0, resamples_RK=DRAWN)
    assert "no_pfg" not in rows
    assert rows["copier"].edges is not None
    assert (rows["copier"].edges.value, rows["copier"].edges.guides) == (1, 1)
