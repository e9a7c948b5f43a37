"""The pure measures against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pfgtrain.evaluate.measures import (
    cosines,
    derangement,
    pair_distance,
    quotient,
    ranks,
    ratio,
    resamples,
)

DRAWN = resamples(4, count=2000, seed=0)


def test_cosines_are_taken_after_the_mean() -> None:
    found = cosines([[2, 1], [1, 3]], [[3, 1], [1, 1]], mean_F=[1, 1])
    assert found.tolist() == [[1, 0], [0, 0]]  # a vector equal to the mean is like nothing


def test_the_own_entry_is_first_only_if_it_is_nearer_than_all_others() -> None:
    near = np.array([[0.9, 0.5, 0.1], [0.5, 0.9, 0.1], [0.1, 0.1, 0.9]])
    assert ranks(near, own=0).tolist() == [1, 2, 3]


@pytest.mark.parametrize("gap", [0.0, 1e-7])
def test_equal_entries_count_as_a_miss(gap: float) -> None:
    assert ranks(np.array([[0.5 + gap, 0.5, 0.1]]), own=0).tolist() == [2]


def test_a_zero_vector_finds_nothing() -> None:
    assert ranks(np.zeros((1, 5)), own=2).tolist() == [5]


def test_what_is_no_number_finds_nothing() -> None:
    assert ranks(np.array([[np.nan] * 3, [np.nan, 0.5, 0.1]]), own=1).tolist() == [3, 2]


def test_a_resample_draws_as_many_guides_as_there_are() -> None:
    assert DRAWN.shape == (2000, 4)
    assert (DRAWN.sum(axis=1) == 4).all()
    assert len(np.unique(DRAWN, axis=0)) == 35  # all multisets of 4 out of 4
    assert np.array_equal(DRAWN, resamples(4, count=2000, seed=0))
    assert not np.array_equal(DRAWN, resamples(4, count=2000, seed=1))


def test_a_ratio_is_of_the_sums() -> None:
    found = ratio([1, 0, 2, 3], [2, 1, 2, 7], DRAWN)
    assert found is not None
    assert found.value == 6 / 12
    assert found.guides == 4


def test_an_interval_is_that_of_the_resampled_ratios() -> None:
    above, below = np.array([1.0, 0, 2, 3]), np.array([2.0, 1, 2, 7])
    found = ratio(above, below, DRAWN)
    by_hand = sorted((row @ above) / (row @ below) for row in DRAWN)
    assert found is not None
    assert found.low == pytest.approx(by_hand[49], abs=0.02)
    assert found.high == pytest.approx(by_hand[1949], abs=0.02)
    assert found.low < found.value < found.high


def test_equal_guides_have_no_interval() -> None:
    found = ratio(np.full(4, 0.5), np.ones(4), DRAWN)
    assert found is not None
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_guides_without_a_number_are_left_out_of_value_interval_and_count() -> None:
    found = ratio([0.5, np.nan, 0.5, 0.5], [1, 1, np.nan, 1], DRAWN)
    assert found is not None
    assert (found.value, found.low, found.high, found.guides) == (0.5, 0.5, 0.5, 2)


@pytest.mark.parametrize(
    ("above", "below"), [([np.nan] * 4, [1.0] * 4), ([0.0] * 4, [0.0] * 4), ([1.0] * 4, [-1.0] * 4)]
)
def test_a_ratio_to_nothing_is_none(above: list[float], below: list[float]) -> None:
    assert ratio(above, below, DRAWN) is None


def test_a_quotient_is_of_two_ratios_over_the_guides_that_have_both() -> None:
    ours, theirs = ([1, 2, np.nan, 1], [2, 2, 1, 4]), ([3, 0, 9, 1], [3, 1, 9, 4])
    found = quotient(ours, theirs, DRAWN)
    assert found is not None
    assert found.value == pytest.approx((4 / 8) / (4 / 8))
    assert found.guides == 3
    assert found.low < found.value < found.high


def test_a_ratio_over_itself_is_1_in_every_resample() -> None:
    one = ([1, 0, 2, 3], [2, 1, 2, 7])
    found = quotient(one, one, DRAWN)
    assert found is not None
    assert (found.value, found.low, found.high) == (1, 1, 1)


@pytest.mark.parametrize(
    "theirs", [([0.0] * 4, [1.0] * 4), ([np.nan] * 4, [1.0] * 4)], ids=["of nothing", "no number"]
)
def test_a_quotient_over_nothing_is_none(theirs: tuple[list[float], list[float]]) -> None:
    assert quotient(([1.0] * 4, [1.0] * 4), theirs, DRAWN) is None


@pytest.mark.parametrize("count", [2, 3, 5, 40])
def test_a_derangement_leaves_nothing_in_its_place(count: int) -> None:
    for seed in range(50):
        order = derangement(count, seed=seed)
        assert sorted(order) == list(range(count))
        assert not (order == np.arange(count)).any()
        assert np.array_equal(order, derangement(count, seed=seed))


def test_pictures_that_share_nothing_are_1_apart_and_one_picture_has_no_diversity() -> None:
    assert pair_distance([[1, 0], [0, 1]], mean_F=[0, 0]) == pytest.approx(1)
    assert pair_distance([[1, 0], [2, 0], [-1, 0]], mean_F=[0, 0]) == pytest.approx(4 / 3)
    assert np.isnan(pair_distance([[1, 0]], mean_F=[0, 0]))
