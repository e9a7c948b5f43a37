"""Work that does not return: the pool goes on without its thread, a process of Isolated is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pfgdata.corpus import Isolated, OrderedPool, Timeout, background
from pfgdata.errors import ContentError


def pool_threads() -> int:
    return sum(thread.name.startswith("pfg-pool") for thread in threading.enumerate())


def test_stuck_work_is_left_behind_in_its_turn_and_its_late_end_changes_nothing() -> None:
    free = threading.Event()

    def work(number: int) -> int:
        if number in (3, 4, 9):
            free.wait(60)
        return number

    timeout: Timeout[int, int] = Timeout(seconds=lambda: 0.2, instead=lambda number: -number)
    with OrderedPool(range(20), work, threads=2, ahead=6, timeout=timeout) as pool:
        expected = [-number if number in (3, 4, 9) else number for number in range(20)]
        assert list(pool) == expected
        assert pool.abandoned == 3
    assert pool_threads() == 3
    free.set()
    while pool_threads():
        time.sleep(0.01)


def test_time_counts_from_when_the_work_on_an_item_began() -> None:
    def work(number: int) -> int:
        time.sleep(0.2)
        return number

    timeout: Timeout[int, int] = Timeout(seconds=lambda: 1.0, instead=lambda number: -1)
    with OrderedPool(range(8), work, threads=1, ahead=8, timeout=timeout) as pool:
        assert list(pool) == list(range(8))  # the last one waited for 1.4 s
        assert pool.abandoned == 0


STOPPED = """
import time
from pfgdata.corpus import OrderedPool, Timeout

def work(number):
    if number == 0:
        print("begun", flush=True)
    for _ in range(10):
        time.sleep(0.05)
    return number

timeout = Timeout(seconds=lambda: 1.0, instead=str)
with OrderedPool(range(4), work, threads=2, ahead=4, timeout=timeout) as pool:
    print(list(pool), pool.abandoned)
"""


def test_work_does_not_age_while_the_process_is_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)  # as Ctrl-Z does
        time.sleep(1.2)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "[0, 1, 2, 3] 0\n"


def test_after_cancel_what_has_begun_still_comes_out() -> None:
    begun, go = threading.Event(), threading.Event()

    def work(number: int) -> int:
        begun.set()
        go.wait(10)
        return number

    with OrderedPool(range(100), work, threads=1, ahead=10) as pool, ThreadPoolExecutor(1) as other:
        results = other.submit(list, pool)
        assert begun.wait(10)
        pool.cancel()
        go.set()
        assert results.result() == [0]


def test_closing_interrupts_a_background_thread_that_waits_for_stuck_work() -> None:
    free = threading.Event()
    timeout: Timeout[int, int] = Timeout(seconds=lambda: 600, instead=lambda number: -1)
    pool = OrderedPool(range(5), lambda n: n if n < 2 else free.wait(60), threads=1, ahead=3, timeout=timeout)
    items = background((number for number in pool), ahead=1, interrupt=pool.cancel)
    assert next(items) == 0
    threading.Timer(0.2, free.set).start()
    items.close()
    pool.close()
    assert pool_threads() == 0


def test_an_error_behind_background_comes_out_in_its_turn() -> None:
    def numbers() -> Generator[int]:
        yield 1
        raise OSError("no more")

    items = background(numbers(), ahead=4, interrupt=lambda: None)
    assert next(items) == 1
    with pytest.raises(OSError, match="no more"):
        next(items)


def answer(what: str) -> tuple[int, str]:
    """Do what a decoder may do, in a process."""
    if what == "sleep":
        time.sleep(600)
    if what == "raise":
        raise ContentError("broken jpeg: of its own doing")
    if what == "die":
        os._exit(1)
    return os.getpid(), what


def test_a_process_that_is_stuck_or_dies_is_replaced_and_errors_come_back() -> None:
    isolated = Isolated(answer, seconds=1)
    try:
        first, text = isolated("well")
        assert first != os.getpid() and text == "well"
        with pytest.raises(ContentError, match="of its own doing"):
            isolated("raise")
        assert isolated("again") == (first, "again")
        with pytest.raises(TimeoutError):
            isolated("sleep")
        second, _ = isolated("well")
        assert second != first
        with pytest.raises(EOFError):
            isolated("die")
    finally:
        isolated.close()
