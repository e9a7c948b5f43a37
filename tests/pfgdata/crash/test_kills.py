"""A process killed at each crash point and at random moments loses nothing and does nothing twice."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from pfgdata.files import CRASH_POINTS, CrashPoint
from pfgdata.store import Store
from tests.pfgdata.crash.children import live_until, live_until_killed
from tests.pfgdata.crash.life import (
    Corpora,
    LoggingDisk,
    Seen,
    live,
    make_corpora,
    require_equal,
    require_sound,
    see,
)

KILLS = 200  # at random moments
APART: set[CrashPoint] = {"set aside", "set aside durable", "file linked"}  # test_parts and test_adopting cut
IN_LIFE = [point for point in CRASH_POINTS if point not in APART]


@dataclass(frozen=True, slots=True)
class Uncut:
    """A life that was never cut: what is seen after it, how often each point was reached, its seconds."""

    corpora: Corpora
    seen: Seen
    counts: Counter[CrashPoint]
    seconds: float


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> Uncut:
    """Lived once, in this process."""
    folder = tmp_path_factory.mktemp("uncut")
    corpora, disk = make_corpora(folder), LoggingDisk(folder / "log")
    began = time.monotonic()
    live(corpora, folder / "feats", disk)
    seconds = time.monotonic() - began
    return Uncut(corpora, see(Store.open(folder / "feats")), disk.counts, seconds)


def finish(uncut: Uncut, path: Path, log: Path) -> None:
    """Look at what a kill left, live on to the end, and find what an uncut life has."""
    require_sound(path, log)
    live(uncut.corpora, path, LoggingDisk(log))
    require_sound(path, log)
    require_equal(see(Store.open(path)), uncut.seen)
    assert not list(path.rglob(".tmp-*"))


@pytest.mark.crash
@pytest.mark.parametrize("which", ["first", "middle", "last"])
@pytest.mark.parametrize("point", IN_LIFE)
def test_killed_at_a_crash_point_and_lived_on_equals_never_killed(
    point: CrashPoint, which: str, uncut: Uncut, tmp_path: Path
) -> None:
    count = uncut.counts[point]
    nth = {"first": 1, "middle": (count + 1) // 2, "last": count}[which]
    store, log = tmp_path / "feats", tmp_path / "log"
    assert live_until(point, nth, uncut.corpora, store, log) == -signal.SIGKILL
    finish(uncut, store, log)


@pytest.mark.crash
def test_killed_at_two_hundred_random_moments_and_lived_on_equals_never_killed(
    uncut: Uncut, tmp_path: Path
) -> None:
    moments, killed, lives = random.Random(18), 0, 0
    store, log = tmp_path / "0", tmp_path / "0.log"
    while killed < KILLS:
        code = live_until_killed(moments.uniform(0, uncut.seconds / 2), uncut.corpora, store, log)
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
        require_sound(store, log)
        if code == 0 or moments.random() < 0.1:
            finish(uncut, store, log)
            lives += 1
            store, log = tmp_path / str(lives), tmp_path / f"{lives}.log"
    assert lives >= KILLS // 20
