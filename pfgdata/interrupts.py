"""Ctrl-C, before, in and behind a command: it ends the process, it raises, or it asks a long work to stop.

Imports take most of a short command's time. In the middle of one a KeyboardInterrupt is swallowed by some
libraries and made into another error by others, so there it is not raised: nothing is under way yet, and the
process ends.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "Stop", "end_on_interrupt", "raise_on_interrupt", "stop_on_interrupt"]

INTERRUPTED = 130  # the exit code
_STOPPING = b"\nstopping after this batch; what is done is kept; Ctrl-C again to stop at once\n"


def end_on_interrupt() -> None:
    """From now on Ctrl-C ends the process at once, in a word; where it is ignored (nohup), it stays so."""
    if _hears_signals() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


@contextmanager
def raise_on_interrupt() -> Iterator[None]:
    """Where Ctrl-C would end the process, it raises KeyboardInterrupt in here, but for imports."""
    ends = _hears_signals() and signal.getsignal(signal.SIGINT) is _end
    if ends:
        signal.signal(signal.SIGINT, _raise)
    try:
        yield
    finally:
        if ends:
            signal.signal(signal.SIGINT, _end)


class Stop:
    """Whether the user asked to stop; called by the library between two batches."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        """True from the first Ctrl-C on."""
        return self.asked


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a Stop, so that finished work is committed; the next is real.

    Called from another thread than the main one, which alone hears signals, it gives a Stop that nobody asks.
    """
    stop = Stop()
    if not _hears_signals():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            _raise(number, frame)
        stop.asked = True
        os.write(2, _STOPPING)  # not print: the signal may have come in the middle of one

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hears_signals() -> bool:
    """Whether this thread may say what a signal does: Python lets the main one alone."""
    return threading.current_thread() is threading.main_thread()


def _raise(number: int, frame: FrameType | None) -> None:
    outer = frame
    while outer is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib"):
            _end(number, frame)
        outer = outer.f_back
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
