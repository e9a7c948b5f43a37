"""One writer at a time: who waits is told for whom, and a dead writer keeps nobody waiting."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from pfgdata.errors import StoreLockedError
from pfgdata.files.lock import no_locks
from pfgdata.records import NoProgress
from pfgdata.store import Store
from tests.conftest import new_store


class Listener(NoProgress):
    """Hears what is said, and rings a bell at each line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.heard = threading.Event()

    def say(self, message: str) -> None:
        """Keep the line."""
        self.lines.append(message)
        self.heard.set()


def hold(path: str, holds: Any) -> None:
    """Hold the store's lock until killed."""
    with Store.open(Path(path)).writer():
        holds.set()
        signal.pause()


def test_a_writer_that_waits_says_once_for_whom_and_goes_on_when_the_other_is_killed(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    context = multiprocessing.get_context("spawn")
    holds, listener = context.Event(), Listener()
    child = context.Process(target=hold, args=(str(store.path), holds))
    child.start()
    assert holds.wait(60) and child.pid is not None
    with pytest.raises(StoreLockedError, match=f"process {child.pid} on "), store.writer():
        pass
    done = threading.Event()

    def write() -> None:
        with store.writer(wait=True, progress=listener):
            done.set()

    waiting = threading.Thread(target=write)
    waiting.start()
    assert listener.heard.wait(60) and not done.wait(0.5)
    os.kill(child.pid, signal.SIGKILL)
    assert done.wait(60)
    waiting.join()
    child.join(60)
    (line,) = listener.lines
    assert f"waiting for process {child.pid} on " in line


def test_a_writer_that_need_not_wait_says_nothing(tmp_path: Path) -> None:
    listener = Listener()
    with new_store(tmp_path / "feats").writer(wait=True, progress=listener):
        pass
    assert listener.lines == []


def test_a_file_system_without_locks_is_named_with_what_to_do() -> None:
    problem = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    text = str(no_locks(problem, what="store feats"))
    assert "store feats: its file system gives no locks (no locks available)" in text
    assert "local disk" in text
