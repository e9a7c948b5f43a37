"""What do two workers of a Ray on this machine cost against one ingest, and what does the death of one cost?

The sides take turns in one run. One ingest uses all cores; each of two workers has half of them, so the same
work is done by the same cores, and what differs is the cluster's: the plan on disk, the ends of spans, parts
that are sent and adopted. Starting Ray and loading taggers is told apart: it does not grow with the images.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.pictures import write_jpegs
from benchmarks.vit_tagger import write_vit_tagger
from pfgdata.cluster import Cluster, ClusterReport, ingest_on
from pfgdata.corpus import plan_segments
from pfgdata.ingest import IngestJob, IngestReport, ingest, open_or_create
from pfgdata.records import NoProgress
from pfgdata.store import Store
from pfgdata.taggers import OnnxTagger

WORKERS = 2


class Clock(NoProgress):
    """A Progress that notes how long the images took, from the first to the last that was done."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.done = 0
        self.at_half: Callable[[], None] | None = None
        self.total = 0
        self._tasks: list[str] = []

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        """A task begins."""
        self._tasks.append(task)
        if task == "tag":
            self.first, self.total = time.perf_counter(), total or 0

    def advance(self, count: int = 1, **figures: float) -> None:
        """Some images are done."""
        if self._tasks[-1] != "tag":
            return
        self.done += count
        if self.at_half and 2 * self.done >= self.total:
            call, self.at_half = self.at_half, None
            call()

    def finish(self) -> None:
        """A task ends."""
        if self._tasks.pop() == "tag":
            self.last = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of tagging."""
        return self.last - self.first


@dataclass
class Times:
    """Seconds of one side, run by run: of the images, and of all."""

    tagging: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)

    def add(self, clock: Clock, whole: float) -> None:
        """Note a run."""
        self.tagging.append(clock.seconds)
        self.whole.append(whole)


def usual(images: Path, store: Store, tagger: OnnxTagger, job: IngestJob, clock: Clock) -> IngestReport:
    """One ingest in this process."""
    return ingest(plan_segments([images], {}), store, tagger, options=job, progress=clock)


def by_workers(images: Path, store: Store, tagger: OnnxTagger, job: IngestJob, clock: Clock) -> ClusterReport:
    """Two workers of a Ray that is started for it."""
    cluster = Cluster(workers=WORKERS)
    return ingest_on(cluster, plan_segments([images], {}), store, tagger, job, progress=clock)


def measure(folder: Path, name: str, count: int, rounds: int, batch_size: int) -> None:
    """The two sides in turn, then a run in which a worker is killed half-way."""
    images = folder / "images"
    if not images.exists():
        write_jpegs(images, count)
    tagger = OnnxTagger.load(name, device="cpu")
    job = IngestJob(tagger=name, batch_size=batch_size, device="cpu")
    sides = {"one ingest": usual, f"{WORKERS} workers": by_workers}
    times = {side: Times() for side in sides}
    rates: dict[str, float] = {}
    for turn in range(rounds):
        for side, run in sides.items():
            with tempfile.TemporaryDirectory() as place:
                store, clock, begun = (
                    open_or_create(Path(place) / "feats", tagger),
                    Clock(),
                    time.perf_counter(),
                )
                report = run(images, store, tagger, job, clock)
                assert report.tagged + report.copied == count, report
                times[side].add(clock, time.perf_counter() - begun)
                if isinstance(report, ClusterReport):
                    rates = {one: rate.images_per_second for one, rate in report.workers.items()}
        print(
            f"round {turn + 1}: "
            + ", ".join(f"{side} {one.tagging[-1]:.1f} s" for side, one in times.items())
        )
    one, two = (statistics.median(each.tagging) for each in times.values())
    pairs = [b / a - 1 for a, b in zip(*(each.tagging for each in times.values()), strict=True)]
    print(f"\n{Path(name).name}: {count} images, batch {batch_size}, {os.cpu_count()} cores, {rounds} pairs")
    print(f"| one ingest | {count / one:.2f} images/s |")
    each = ", ".join(f"{rate:.2f}" for rate in rates.values())
    print(f"| {WORKERS} workers | {count / two:.2f} images/s, each {each} |")
    print(f"| overhead (median of pairs; wanted <= 10 %) | {100 * statistics.median(pairs):.1f} % |")
    starts = [
        all_ - tag
        for all_, tag in zip(
            times[f"{WORKERS} workers"].whole, times[f"{WORKERS} workers"].tagging, strict=True
        )
    ]
    print(f"| starting Ray, once | {statistics.median(starts):.1f} s |")


def kill_one_worker() -> None:
    """SIGKILL a worker of ours that is at work."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    ours = [int(line.split()[0]) for line in listed.splitlines() if "ray::Host" in line]
    mine = [pid for pid in ours if os.getpid() in _ancestors(pid)]
    if mine:
        os.kill(mine[0], signal.SIGKILL)


def _ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        found.append(pid)
    return found


def death(folder: Path, name: str, count: int, batch_size: int) -> None:
    """What the death of a worker half-way costs: the same run without and with it."""
    tagger = OnnxTagger.load(name, device="cpu")
    job = IngestJob(tagger=name, batch_size=batch_size, device="cpu")
    seconds = {}
    for what in ("none dies", "one is killed half-way"):
        with tempfile.TemporaryDirectory() as place:
            store, clock = open_or_create(Path(place) / "feats", tagger), Clock()
            if what != "none dies":
                clock.at_half = lambda: threading.Thread(target=kill_one_worker).start()
            report = by_workers(folder / "images", store, tagger, job, clock)
            assert report.tagged + report.copied == count, report
            seconds[what] = clock.seconds
    lost = seconds["one is killed half-way"] - seconds["none dies"]
    print(f"| a worker's death half-way | {lost:.1f} s more, of {seconds['none dies']:.1f} s |")


def main() -> None:
    """Both taggers, or the one named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tagger", choices=["demo", "vit"], default="demo")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pfg-bench-") as place:
        folder, name = Path(place), asked.tagger
        if name == "vit":
            name = str(folder / "vit")
            write_vit_tagger(Path(name))
        measure(folder, name, asked.count, asked.rounds, asked.batch_size)
        death(folder, name, asked.count, asked.batch_size)


if __name__ == "__main__":
    main()
