"""Calls that may never return, in a process that can be killed: one spawned process for each calling thread.

Spawned and not forked: a forked child would hold the store's lock for as long as it lives. A process starts
with the first call and stays for the next ones.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from pfgdata.errors import AccessError

__all__ = ["Isolated"]

P = ParamSpec("P")
R = TypeVar("R")


class Isolated:
    """Makes calls in child processes; a function, its arguments and its result must pickle."""

    START_SECONDS = 60.0  # for the interpreter and the imports of what is called, on a busy machine

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._own = threading.local()
        self._all: list[_Child] = []
        self._lock = threading.Lock()

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`function(*args, **kwargs)`, or its exception.

        Raises TimeoutError when it takes over `seconds`, EOFError when its process died of it; the next
        call has a new process. Raises AccessError where no process can be had.
        """
        child: _Child | None = getattr(self._own, "child", None)
        if child is None:
            child = self._own.child = self._start()
        try:
            return child.call(function, args, kwargs, self._seconds)
        except (TimeoutError, EOFError, BrokenPipeError, ConnectionResetError) as problem:
            self._own.child = None
            child.kill()
            if isinstance(problem, TimeoutError):
                raise
            raise EOFError("the process died") from problem

    def _start(self) -> _Child:
        child = _Child()
        with self._lock:
            self._all.append(child)
        try:
            child.wait(self.START_SECONDS)
        except (
            TimeoutError,
            EOFError,
        ) as problem:  # a script that spawns again when it is imported, no memory
            child.kill()
            raise AccessError("no process to decode it in could be started") from problem
        return child

    def close(self) -> None:
        """End every process."""
        with self._lock:
            for child in self._all:
                child.kill()
            self._all.clear()


class _Child:
    """One process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="pfg-isolated", daemon=True)
        self._process.start()
        theirs.close()

    def call(
        self, function: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float
    ) -> R:
        self._pipe.send((function, args, kwargs))
        result, error = self.wait(seconds)
        if error is not None:
            raise error
        return result

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def wait(self, seconds: float) -> Any:
        """What the process sends next: at its start None, then (result, error) of each call."""
        if not self._pipe.poll(seconds):
            raise TimeoutError
        return self._pipe.recv()


def _serve(pipe: Connection) -> None:
    """Answer calls until the pipe closes."""
    pipe.send(None)  # up and running: a call's time does not count from before
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            return
        answer: tuple[Any, Exception | None]
        try:
            answer = function(*args, **kwargs), None
        except Exception as problem:
            answer = None, problem
        pipe.send(answer)
