"""Calls that may never return, in a process that can be killed: one spawned process for each calling thread.

Spawned and not forked: a forked child would hold the store's lock for as long as it lives. A process starts
with the first call and stays for the next ones.
"""

from __future__ import annotations

import math
import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from pfgdata.errors import AccessError

__all__ = ["Isolated"]

_SLICE = 0.1  # seconds waited at a time: while this process is stopped (Ctrl-Z) no more than that pass

T = TypeVar("T")
R = TypeVar("R")


class Isolated(Generic[T, R]):
    """Makes the calls of one `function` in child processes; it, its argument and its result must pickle."""

    START_SECONDS = 60.0  # for the interpreter and the imports of the function, on a busy machine

    def __init__(self, function: Callable[[T], R], *, seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        self._own = threading.local()
        self._all: list[_Child] = []
        self._lock = threading.Lock()

    def __call__(self, argument: T) -> R:
        """`function(argument)`, or its exception.

        Raises TimeoutError when it takes over `seconds`, EOFError when its process died of it; the next call
        has a new process. Raises AccessError where no process can be had.
        """
        child: _Child | None = getattr(self._own, "child", None)
        if child is None:
            child = self._own.child = self._start()
        try:
            result, error = child.ask(argument, self._seconds)
        except (TimeoutError, EOFError, BrokenPipeError, ConnectionResetError) as problem:
            self._own.child = None
            child.kill()
            if isinstance(problem, TimeoutError):
                raise
            raise EOFError("the process died") from problem
        if error is not None:
            raise error
        return result

    def _start(self) -> _Child:
        no_process = "no process to decode it in could be started"
        try:
            child = _Child(self._function)
        except OSError as problem:  # no memory, no descriptors
            raise AccessError(no_process) from problem
        with self._lock:
            self._all.append(child)
        try:
            child.receive(self.START_SECONDS)
        except (TimeoutError, EOFError) as problem:  # the user's script starts an ingest when imported
            child.kill()
            raise AccessError(no_process) from problem
        return child

    def close(self) -> None:
        """End every process."""
        with self._lock:
            for child in self._all:
                child.kill()
            self._all.clear()


class _Child:
    """One process and the pipe to it."""

    def __init__(self, function: Callable[[T], R]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, function), name="pfg-isolated", daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, argument: object, seconds: float) -> Any:
        """(result, error) of the function."""
        self._pipe.send(argument)
        return self.receive(seconds)

    def receive(self, seconds: float) -> Any:
        """What the process sends next, first None when it is up."""
        for _ in range(math.ceil(seconds / _SLICE)):
            if self._pipe.poll(_SLICE):
                return self._pipe.recv()
        raise TimeoutError

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Answer calls until the pipe closes."""
    pipe.send(None)  # up, and all is imported: the time of a call does not count from before
    while True:
        try:
            argument = pipe.recv()
        except EOFError:
            return
        answer: tuple[Any, Exception | None]
        try:
            answer = function(argument), None
        except Exception as problem:
            answer = None, problem
        pipe.send(answer)
