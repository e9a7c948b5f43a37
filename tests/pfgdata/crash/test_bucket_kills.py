"""A store in a bucket of a real S3 server: its writer killed, put to sleep, and cut off."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from pfgdata.files import OBJECT_POINTS, Disk, ObjectPlace, ObjectPoint
from pfgdata.store import Store, repair, verify
from pfgdata.urls import UrlPath
from tests.faulty import FAULTS, FaultyProxy
from tests.pfgdata.crash.bucket_life import LOST, BucketLog, Fate, begun, ended, require_sound
from tests.pfgdata.crash.life import Corpora, Seen, live, make_corpora, require_equal, see
from tests.seaweed import S3Server

KILLS = 20  # at random moments
LOCAL = ("temporary made", "table written", "array written", "shard.json written")
IN_LIFE = [*LOCAL, *(point for point in OBJECT_POINTS if point != "object set aside")]
pytestmark = pytest.mark.cluster


@dataclass(frozen=True, slots=True)
class Uncut:
    """A life on this machine's disk: what is seen after it; and one in a bucket: points and seconds."""

    corpora: Corpora
    seen: Seen
    counts: Counter[str]
    seconds: float


@pytest.fixture
def uncut(bucket: str, tmp_path: Path) -> Uncut:
    """Lived on disk and in a bucket, with one end."""
    corpora, disk = make_corpora(tmp_path / "corpora"), BucketLog(f"{bucket}/uncut", tmp_path / "uncut")
    live(corpora, tmp_path / "feats", Disk())
    began = time.monotonic()
    live(corpora, UrlPath(f"{bucket}/uncut"), disk)
    seconds = time.monotonic() - began
    seen = see(Store.open(UrlPath(f"{bucket}/uncut")))
    require_equal(seen, see(Store.open(tmp_path / "feats")))
    return Uncut(corpora, seen, disk.counts, seconds)


def finish(uncut: Uncut, url: str, log: Path) -> None:
    """Look at what a kill left, live on to the end, and find what an uncut life has."""
    require_sound(url, log)
    live(uncut.corpora, UrlPath(url), BucketLog(url, log))
    require_sound(url, log)
    store = Store.open(UrlPath(url))
    require_equal(see(store), uncut.seen)
    left = {one.key.split("/")[1] for one in ObjectPlace.at(url).list("shards")}
    assert left == {meta.id for meta in store.snapshot().present}, "an upload was left behind"


def test_killed_at_each_point_and_lived_on_equals_a_life_on_disk(
    bucket: str, uncut: Uncut, tmp_path: Path
) -> None:
    assert set(IN_LIFE) <= set(uncut.counts)
    fates = [Fate(point=point, nth=(uncut.counts[point] + 1) // 2) for point in IN_LIFE]  # type: ignore[arg-type]
    for number, fate in enumerate(fates):
        url, log = f"{bucket}/{number}", tmp_path / f"{number}.log"
        assert ended(begun(fate, uncut.corpora, url, log)) == -signal.SIGKILL, fate
        finish(uncut, url, log)


def test_killed_at_twenty_random_moments_and_lived_on_equals_a_life_on_disk(
    bucket: str, uncut: Uncut, tmp_path: Path
) -> None:
    moments, killed, lives = random.Random(18), 0, 0
    url, log = f"{bucket}/life0", tmp_path / "life0.log"
    while killed < KILLS:
        code = ended(begun(Fate(), uncut.corpora, url, log), after=moments.uniform(0, uncut.seconds / 2))
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
        require_sound(url, log)
        if code == 0 or killed % 7 == 0:
            finish(uncut, url, log)
            lives += 1
            url, log = f"{bucket}/life{lives}", tmp_path / f"life{lives}.log"
    assert lives >= 2


@pytest.mark.parametrize(
    ("point", "nth", "codes"),
    [
        ("shard.json uploaded", 2, {LOST}),  # before the record that would commit it
        ("removal recorded", 2, {LOST}),
        ("object replaced", 6, {LOST, 0}),  # what is left of its life may be nothing that another has done
    ],
)
def test_a_writer_who_sleeps_while_another_commits_loses_and_harms_nothing(
    point: ObjectPoint, nth: int, codes: set[int], bucket: str, uncut: Uncut, tmp_path: Path
) -> None:
    url, log = f"{bucket}/slept", tmp_path / "slept.log"
    sleeper = begun(Fate(point=point, nth=nth, signal=signal.SIGSTOP), uncut.corpora, url, log)
    assert sleeper.pid is not None
    _asleep(sleeper.pid)
    time.sleep(1.5)  # whoever waits a second for a lease takes it over
    other = BucketLog(url, tmp_path / "other.log", lease_seconds=1.0)
    live(uncut.corpora, UrlPath(url), other)
    os.kill(sleeper.pid, signal.SIGCONT)
    assert ended(sleeper) in codes
    assert verify(UrlPath(url), deep=True) == []
    require_equal(see(Store.open(UrlPath(url))), uncut.seen)


def _asleep(pid: int) -> None:
    """Wait until the process is stopped."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T":
            return
        time.sleep(0.02)
    raise AssertionError("it does not fall asleep")


def test_a_life_through_a_failing_network_equals_a_life_on_disk(
    s3: S3Server, bucket: str, uncut: Uncut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, log = f"{bucket}/cut", tmp_path / "cut.log"
    with FaultyProxy(s3.endpoint, share=0.08).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        live(uncut.corpora, UrlPath(url), BucketLog(url, log))
        assert set(FAULTS) <= set(proxy.met), proxy.met
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    require_sound(url, log)
    require_equal(see(Store.open(UrlPath(url))), uncut.seen)


def test_killed_while_a_shard_is_set_aside_repair_ends_it(bucket: str, uncut: Uncut, tmp_path: Path) -> None:
    url = f"{bucket}/uncut"
    store = Store.open(UrlPath(url))
    shard = store.snapshot().shards[0]
    ObjectPlace.at(url).put(f"shards/{shard.id}/images.parquet", b"damaged")

    class Cut(BaseException):
        """The process ends here."""

    class Ending(BucketLog):
        def passed(self, point: ObjectPoint) -> None:
            if point == "object set aside":
                raise Cut

    problems = verify(UrlPath(url))
    with pytest.raises(Cut):
        repair(Store.open(UrlPath(url), disk=Ending(url, tmp_path / "ending")), problems)
    repair(Store.open(UrlPath(url)), verify(UrlPath(url)))
    assert verify(UrlPath(url), deep=True) == []
