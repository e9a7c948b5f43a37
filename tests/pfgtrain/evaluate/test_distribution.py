"""KID against closed forms: sets of one point, Gaussians, a set with itself, pictures of one character."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pfgtrain.evaluate import Figure
from pfgtrain.evaluate.distribution import PictureSet, kernel, kernel_distance
from pfgtrain.evaluate.measures import resamples

COUNT, WIDTH = 400, 8
DRAWN = resamples(COUNT, count=300, seed=0)


def one_each(features_MF: npt.ArrayLike) -> PictureSet:
    """A picture of each character."""
    array = np.asarray(features_MF)
    return PictureSet(features_MF=array, owners_M=np.arange(len(array)))


def gaussian(mean_F: npt.NDArray[np.float64], *, seed: int) -> PictureSet:
    return one_each(np.random.default_rng(seed).normal(size=(COUNT, WIDTH)) + mean_F)


def found(made: PictureSet, real: PictureSet, drawn: npt.NDArray[np.int64] = DRAWN) -> Figure:
    figure = kernel_distance(made, real, resamples_RK=drawn)
    assert figure is not None
    return figure


def expected_kernel(left_F: npt.NDArray[np.float64], right_F: npt.NDArray[np.float64], unit: float) -> float:
    """E (x.y / unit + 1)^3 of independent x, y of unit covariance around two means, term by term."""
    c, d = float(left_F @ right_F), len(left_F)
    spread = float(left_F @ left_F + right_F @ right_F) + d
    second, third = c**2 + spread, c**3 + 3 * c * spread + 6 * c
    return third / unit**3 + 3 * second / unit**2 + 3 * c / unit + 1


def test_the_kernel_is_the_cube_of_one_more_than_the_product() -> None:
    assert kernel([[1, 2]], [[3, 1], [0, 0]], unit=5).tolist() == [[8, 1]]


def test_two_points_are_apart_by_their_kernels() -> None:
    left, right = np.array([1.0, 0.0]), np.array([0.0, 2.0])
    drawn = resamples(5, count=50, seed=1)
    figure = found(one_each([left] * 5), one_each([right] * 5), drawn)
    assert figure.value == pytest.approx((1 / 4 + 1) ** 3 + 2**3 - 2)  # the unit is 4, of the real ones
    assert (figure.low, figure.high) == pytest.approx((figure.value, figure.value))
    assert figure.guides == 5


def test_sets_of_one_distribution_are_about_nothing_apart_on_either_side() -> None:
    zero = np.zeros(WIDTH)
    values = [found(gaussian(zero, seed=2 * n), gaussian(zero, seed=2 * n + 1)).value for n in range(12)]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values)) < 0.02


def test_a_set_is_about_nothing_apart_from_itself() -> None:
    one = gaussian(np.ones(WIDTH), seed=3)
    assert abs(found(one, one).value) < 1e-12  # the same pairs thrice


def test_shifted_gaussians_are_apart_by_the_closed_form() -> None:
    here, there = np.zeros(WIDTH), np.full(WIDTH, 0.7)
    real = gaussian(here, seed=4)
    unit = float(np.mean(np.sum(np.square(real.features_MF), axis=1)))
    wanted = (
        expected_kernel(there, there, unit)
        + expected_kernel(here, here, unit)
        - 2 * expected_kernel(there, here, unit)
    )
    figure = found(gaussian(there, seed=5), real)
    assert figure.low < wanted < figure.high
    assert figure.value == pytest.approx(wanted, rel=0.15)
    assert found(gaussian(2 * there, seed=5), real).value > figure.high


def test_more_pictures_of_each_character_change_nothing() -> None:
    """They are more alike than those of two: counted as pairs they would look like another distribution."""
    made, real = gaussian(np.zeros(WIDTH), seed=6), gaussian(np.zeros(WIDTH), seed=7)
    twice = PictureSet(
        features_MF=np.concatenate([made.features_MF, made.features_MF]),
        owners_M=np.concatenate([made.owners_M, made.owners_M]),
    )
    assert found(twice, real).value == pytest.approx(found(made, real).value)


def test_a_character_that_one_set_lacks_is_left_out_of_that_set_alone() -> None:
    made, real = gaussian(np.zeros(WIDTH), seed=8), gaussian(np.zeros(WIDTH), seed=9)
    rows = np.arange(0, COUNT, 2)
    half = PictureSet(features_MF=np.asarray(made.features_MF)[rows], owners_M=rows)
    figure = found(half, real)
    assert figure.guides == COUNT // 2
    assert abs(figure.value) < 0.1


def test_characters_of_the_gallery_change_nothing() -> None:
    made, real = gaussian(np.zeros(WIDTH), seed=12), gaussian(np.full(WIDTH, 0.5), seed=13)
    gallery = np.random.default_rng(14).normal(size=(50, WIDTH)) * 9
    wider = PictureSet(
        features_MF=np.concatenate([real.features_MF, gallery]),
        owners_M=np.concatenate([real.owners_M, COUNT + np.arange(50)]),
    )
    assert found(made, wider) == found(made, real)


def test_features_of_any_size_give_the_same_figure() -> None:
    made, real = gaussian(np.full(WIDTH, 0.5), seed=10), gaussian(np.zeros(WIDTH), seed=11)
    larger = [one_each(np.asarray(one.features_MF) * 30) for one in (made, real)]
    assert found(larger[0], larger[1]).value == pytest.approx(found(made, real).value)


@pytest.mark.parametrize("characters", [0, 1])
def test_there_is_no_distance_between_fewer_than_two_characters(characters: int) -> None:
    few = one_each(np.ones((characters, 3)))
    assert kernel_distance(few, few, resamples_RK=resamples(4, count=5, seed=0)) is None


def test_pictures_that_are_all_nothing_have_no_distance() -> None:
    none = one_each(np.zeros((4, 3)))
    assert kernel_distance(none, none, resamples_RK=resamples(4, count=5, seed=0)) is None
