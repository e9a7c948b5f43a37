"""Ctrl-C from a command's first moments on: exit code 130 and one line, never a traceback.

Real processes, interrupted as soon as they say that a certain import is done (`python -X importtime`).
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from pfgdata.interrupts import end_on_interrupt, raise_on_interrupt, stop_on_interrupt

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "golden_store_1" / "feats"
QUERY = ("query", "true", "--count", "--store", str(GOLDEN))  # over 700 imports
DRAWN = random.Random(28).sample(range(2, 350), 6)  # after so many, the first two of which are __main__'s


def interrupted(command: list[str], *, after: int) -> tuple[int, str]:
    """Exit code and words of `command`, sent Ctrl-C when that many imports behind ours are done."""
    count = -1
    said = []
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if not line.startswith("import time:"):
                said.append(line)
            elif count >= 0 or "pfgdata.interrupts" in line:
                count += 1
                if count == after:
                    run.send_signal(signal.SIGINT)
    assert count >= after, "it ended before"
    return run.returncode, "".join(said)


def script_of(command: str) -> str:
    """The program that pip writes for a command of pyproject.toml."""
    module, _, function = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"][
        command
    ].partition(":")
    return f"import sys; from {module} import {function}; sys.exit({function}())"


@pytest.mark.parametrize("after", DRAWN)
def test_an_interrupt_in_the_middle_of_imports_is_one_line(after: int) -> None:
    assert interrupted(["-m", "pfgdata", *QUERY], after=after) == (130, "interrupted\n")


@pytest.mark.parametrize(
    "command",
    [
        ["-c", script_of("pfgdata"), *QUERY],
        ["-c", script_of("pfgtrain"), "export", "demo", "--to", "x", "--dry-run"],
        ["-m", "pfgtrain", "export", "demo", "--to", "x", "--dry-run"],
        ["-m", "pipelines", "demo"],
        ["-m", "pipelines.demo_corpus", "demo", "--out", "x"],
    ],
    ids=["script pfgdata", "script pfgtrain", "module pfgtrain", "module pipelines", "module demo_corpus"],
)
def test_every_way_in_is_guarded_from_its_first_import_on(command: list[str]) -> None:
    assert interrupted(command, after=2) == (130, "interrupted\n")


def test_where_interrupts_are_ignored_they_stay_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        end_on_interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_first_interrupt_asks_to_stop_and_the_second_stops() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_than_the_main_one_nobody_asks_to_stop_and_handlers_stay() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen: list[bool] = []

    def work() -> None:
        end_on_interrupt()
        with raise_on_interrupt(), stop_on_interrupt() as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
