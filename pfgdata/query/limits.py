"""What a query may take: seconds and memory, watched from outside while another thread runs it.

A signal reaches Python only in its main thread and between two bytecodes, so that thread must not be inside
DuckDB: it waits, and Ctrl-C finds it at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pfgdata.errors import QueryError

__all__ = ["DEFAULT_LIMITS", "Limits", "answered", "too_much_memory", "unfinished"]

T = TypeVar("T")
_TICK = 0.02  # seconds between two looks at the memory; a thread fills some 20 MB meanwhile (measured)
_GRACE = 0.5  # seconds that an interrupted query gets to end; with them Ctrl-C works within one
_NAME = "pfgdata-query"
_STATM = Path("/proc/self/statm")  # Linux; elsewhere DuckDB's own limit is the only one of memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one query may take and give; `memory` in bytes, None for half of the machine's or container's.

    `rows` is how many rows `run_query` shows at most; it does not cut what is selected or counted.
    """

    seconds: float = 60.0
    rows: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise QueryError(f"{self.seconds:g} seconds for a query; give it more than 0")


DEFAULT_LIMITS = Limits()


def answered(
    running: Future[T], work: Callable[[], T], *, seconds: float, memory: int, interrupt: Callable[[], None]
) -> T:
    """What `work()` answers in a thread of its own; `interrupt` is called where it has to end early.

    Raises QueryError after `seconds`, or when this process has grown by `memory` bytes; whatever else ends
    the waiting, Ctrl-C too, interrupts. Work that does not heed it is left behind (see `unfinished`): then
    `running`, which is given because even a start can be interrupted, is not done.
    """
    start, before = time.monotonic(), _resident()
    try:
        threading.Thread(target=_settle, args=(running, work), name=_NAME).start()
        while not wait([running], timeout=_TICK).done:
            if time.monotonic() - start > seconds:
                raise QueryError(
                    f"the query took longer than {seconds:g} s; put its expression more simply, or allow "
                    "more: pfgdata query --seconds"
                )
            if _resident() - before > memory:
                raise too_much_memory(memory)
    except BaseException:
        end = time.monotonic() + _GRACE
        while not running.done() and time.monotonic() < end:
            interrupt()  # again: between two statements DuckDB forgets it
            wait([running], timeout=_TICK)
        raise
    return running.result()


def too_much_memory(memory: int) -> QueryError:
    """The error of a query that needs more than `memory` bytes."""
    return QueryError(
        f"the query needs more than {memory / 2**20:,.0f} MiB of memory; put its expression more simply, "
        "or ask for fewer rows or columns"
    )


def unfinished() -> bool:
    """Whether a query that was given up still runs in DuckDB: a program that exits would wait for it."""
    return any(thread.name == _NAME for thread in threading.enumerate())


def _settle(running: Future[T], work: Callable[[], T]) -> None:
    try:
        running.set_result(work())
    except BaseException as problem:  # raised again where it is waited for
        running.set_exception(problem)


def _resident() -> int:
    """Bytes of this process that lie in memory; 0 where the kernel does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
