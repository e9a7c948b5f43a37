"""Child processes that live a store's life and are killed: forked from a server that has imported it all.

Importing costs a second, forking some milliseconds; the server holds no lock and no thread of ours.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

from pfgdata.files import CrashPoint
from tests.pfgdata.crash.life import Corpora, LoggingDisk, live

__all__ = ["live_until", "live_until_killed"]

WAIT = 60.0  # seconds; a life takes about one


def live_until(point: CrashPoint, nth: int, corpora: Corpora, path: Path, log: Path) -> int:
    """Live in a child that kills itself at occurrence `nth` of `point`; its exit code."""
    return _live(corpora, path, log, point, nth, seconds=None)


def live_until_killed(seconds: float, corpora: Corpora, path: Path, log: Path) -> int:
    """Live in a child that is killed after `seconds`; its exit code."""
    return _live(corpora, path, log, None, 0, seconds=seconds)


def _live(
    corpora: Corpora, path: Path, log: Path, point: CrashPoint | None, nth: int, seconds: float | None
) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pfgdata.crash.children"])
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, corpora, path, log, point, nth))
    process.start()
    theirs.close()
    assert ours.recv() == "begun"
    if seconds is not None:
        time.sleep(seconds)
        assert process.pid is not None
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
    process.join(WAIT)
    ours.close()
    assert process.exitcode is not None, "the child does not end"
    return process.exitcode


def child(
    begun: Connection, corpora: Corpora, path: Path, log: Path, point: CrashPoint | None, nth: int
) -> None:
    """What the child does."""
    begun.send("begun")
    live(corpora, path, LoggingDisk(log, point=point, nth=nth))
