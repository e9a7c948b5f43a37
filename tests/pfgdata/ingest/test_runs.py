"""Sorted runs answer as a dict does, whatever comes in which order, and are few."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pfgdata.ingest.runs import SortedRuns, keys_in

VALUE = np.dtype([("value", np.int64)])


def values(numbers: list[int]) -> npt.NDArray[np.void]:
    """Values as runs hold them."""
    return np.array([(number,) for number in numbers], VALUE)


def key(number: int) -> bytes:
    """One of few keys: many share a half."""
    return (number % 7).to_bytes(8, "little") + (number // 7).to_bytes(8, "little")


@pytest.mark.parametrize("seed", range(40))
def test_runs_answer_as_a_dict_does(seed: int) -> None:
    chance = np.random.default_rng(seed)
    runs, known = SortedRuns(VALUE), dict[bytes, int]()
    for step in range(30):
        numbers = chance.integers(0, 200, chance.integers(0, 12)).tolist()
        added = [1000 * step + at for at in range(len(numbers))]
        runs.add(keys_in(b"".join(map(key, numbers))), values(added))
        known |= {key(number): value for number, value in reversed([*zip(numbers, added, strict=True)])}
    asked = [key(number) for number in range(250)]
    found, there = runs.find(keys_in(b"".join(asked)))
    assert there.tolist() == [one in known for one in asked]
    assert found["value"].tolist() == [known.get(one, 0) for one in asked]
    ones = [runs.find_one(one) for one in asked]
    assert [None if one is None else one["value"] for one in ones] == [known.get(one) for one in asked]


def test_of_many_that_come_at_once_the_last_part_counts_and_in_it_the_first() -> None:
    runs = SortedRuns(VALUE)
    size = 400_000  # so that three parts are more than are sorted at a time
    parts = [
        (keys_in(b"".join(n.to_bytes(16, "little") for n in range(size))), values([at] * size))
        for at in range(3)
    ]
    parts.append((keys_in(2 * bytes(16)), values([7, 8])))
    runs.fill(parts)
    found, there = runs.find(parts[0][0])
    assert there.all() and found["value"].tolist() == [7, *[2] * (size - 1)]
    assert runs.find_one(bytes(16))["value"] == 7 and runs.find_one(b"x" * 16) is None


def test_runs_are_few_and_a_branch_learns_apart() -> None:
    runs = SortedRuns(VALUE)
    for number in range(1000):
        runs.add(keys_in(number.to_bytes(16, "little")), values([number]))
    assert len(runs) == 1000 and max(map(len, runs._parts)) < 7
    branch = runs.branch()
    one, other = b"1" * 16, b"2" * 16
    branch.add(keys_in(one), values([5]))
    runs.add(keys_in(other), values([6]))
    assert branch.find_one(one)["value"] == 5 and branch.find_one(other) is None
    assert runs.find_one(one) is None and branch.find_one((77).to_bytes(16, "little"))["value"] == 77
