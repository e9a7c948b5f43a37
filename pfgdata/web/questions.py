"""Questions one after the other, away from the event loop; one whose client has gone is stopped.

A page asks anew with each letter and each move of a slider, and lets go of what it asked before: without this
the answers that nobody waits for would stand in the way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

__all__ = ["Line", "waited"]

T = TypeVar("T")
_TICK = 0.02  # seconds between two interrupts


class Line:
    """Works in the order they come, each in one of `threads`."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"pfg-{name}")
        self._lock = threading.Lock()
        self._running: set[object] = set()
        self._stopping: set[asyncio.Future[None]] = set()

    def begin(self, work: Callable[[], object]) -> None:
        """Do a work that nobody waits for."""
        self._pool.submit(work)

    async def run(
        self, request: Request, work: Callable[[], T], *, interrupt: Callable[[], None] | None = None
    ) -> T:
        """What `work()` answers; `interrupt` is called while it runs and the client of `request` has gone.

        Raises ClientDisconnect then.
        """
        mine = object()

        def run() -> T:
            with self._lock:
                self._running.add(mine)
            try:
                return work()
            finally:
                with self._lock:
                    self._running.discard(mine)

        running = self._pool.submit(run)

        def let_go() -> None:
            if not running.cancel() and interrupt is not None:
                stopping = asyncio.ensure_future(self._stop(running, mine, interrupt))
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)

        return await waited(request, running, let_go)

    async def _stop(self, running: Future[T], mine: object, interrupt: Callable[[], None]) -> None:
        """Interrupt a work until it has ended: between two statements DuckDB forgets it."""
        while not running.done():
            with self._lock:  # so that what is interrupted is this one, and not the next
                if mine in self._running:
                    interrupt()
            await asyncio.sleep(_TICK)


async def waited(request: Request, running: Future[T], let_go: Callable[[], None]) -> T:
    """The result of `running`; where its client goes first, `let_go()` and ClientDisconnect."""
    answer = asyncio.wrap_future(running)
    gone = asyncio.ensure_future(_gone(request))
    try:
        both: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody looks at it
        let_go()
        raise ClientDisconnect
    finally:
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
