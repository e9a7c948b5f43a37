"""The pool: order, bound, errors, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pfgdata.corpus import ordered_pool


def pool_threads() -> int:
    return sum(thread.name.startswith("pfg-pool") for thread in threading.enumerate())


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 5 == 0 else 0)
        return number * number

    results = list(ordered_pool(range(40), slow_first, threads=4, ahead=8))
    assert results == [number * number for number in range(40)]
    assert pool_threads() == 0


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (3, 1), (2, 5), (4, 100)])
def test_no_more_than_ahead_items_are_in_flight(threads: int, ahead: int) -> None:
    taken = yielded = most = 0

    def items() -> Iterator[int]:
        nonlocal taken, most
        for number in range(30):
            taken += 1
            most = max(most, taken - yielded)
            yield number

    for _ in ordered_pool(items(), lambda number: number, threads=threads, ahead=ahead):
        yielded += 1
    assert yielded == 30
    assert most <= ahead


def test_threads_work_at_the_same_time() -> None:
    meet = threading.Barrier(3, timeout=5)
    assert len(list(ordered_pool(range(3), lambda _: meet.wait(), threads=3, ahead=3))) == 3


def test_an_error_of_the_work_comes_in_its_turn_and_cancels_what_has_not_begun() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise KeyError("three")
        time.sleep(0.005)
        done.append(number)
        return number

    results: list[int] = []
    with pytest.raises(KeyError, match="three"):
        results.extend(ordered_pool(iter(range(1000)), work, threads=2, ahead=50))
    assert len(done) < 100
    assert pool_threads() == 0


def test_an_error_of_the_items_comes_out() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(ordered_pool(items(), lambda number: number, threads=2, ahead=1))
    assert pool_threads() == 0


def test_closing_stops_the_threads_and_drops_what_is_pending() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.01)
        return number

    results = ordered_pool(iter(range(10_000)), work, threads=2, ahead=200)
    assert next(results) == 0
    results.close()
    count = len(begun)
    assert count < 210
    assert pool_threads() == 0
    time.sleep(0.03)
    assert len(begun) == count


def test_nothing_to_do_is_done() -> None:
    assert list(ordered_pool([], lambda item: item, threads=2, ahead=4)) == []


def test_an_error_of_the_items_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("no more")

    def work(number: int) -> int:
        time.sleep(0.05)
        return number

    results: list[int] = []
    with pytest.raises(OSError, match="no more"):
        results.extend(ordered_pool(items(), work, threads=1, ahead=8))
    assert results == [0, 1, 2]
    assert pool_threads() == 0
