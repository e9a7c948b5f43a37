"""What do two workers of a Ray on this machine cost against one ingest; what does a death cost them?

The sides take turns in one run. One ingest uses all cores; each of two workers has half of them, so the same
work is done by the same cores, and what differs is the cluster's: the plan on disk, the ends of spans, parts
that are sent and adopted. Starting Ray and loading taggers is told apart: it does not grow with the images.

With `--deaths` the workers are on two `ray start` of one core each. Half-way the second loses its worker, or
is killed, or falls silent (SIGSTOP: as a machine without power, whose connections nobody closes). A worker
is started anew; without the node the other does alone what was left.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.pictures import write_jpegs
from benchmarks.vit_tagger import write_vit_tagger
from pfgdata.cluster import Cluster, ClusterIngest, ClusterReport
from pfgdata.cluster.driving import Crew, Event, Joined
from pfgdata.cluster.host import Spec
from pfgdata.corpus import plan_segments
from pfgdata.ingest import IngestJob, ingest, open_or_create
from pfgdata.records import NoProgress, Progress
from pfgdata.store import Span, Store, list_parts, verify
from pfgdata.taggers import OnnxTagger
from tests.ray_cluster import Node, ray_here

WORKERS = 2
DEATHS: dict[str, Callable[[Node], object]] = {
    "a worker's death": lambda node: node.kill(named="ray::Host"),
    "a node's death": lambda node: node.kill(),  # its raylet and all that it started
    "a node's silence": lambda node: node.signal(signal.SIGSTOP, named=""),
}


class Clock(NoProgress):
    """A Progress that notes how long the images took, from when they could begin to the last one done."""

    def __init__(self) -> None:
        self.first = self.half = self.known = self.last = 0.0
        self.at_half: Callable[[], object] = time.perf_counter
        self._done = self._total = 0
        self._tasks: list[str] = []

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        """A task begins."""
        self._tasks.append(task)
        if task == "tag":
            self.first, self._total = time.perf_counter(), total or 0

    def advance(self, count: int = 1, **figures: float) -> None:
        """Some images are done."""
        if self._tasks[-1] != "tag":
            return
        self._done += count
        if not self.half and 2 * self._done >= self._total:
            self.half = time.perf_counter()
            assert self.at_half(), "nothing was there to be killed"

    def say(self, message: str) -> None:
        """A worker is gone, or silent for too long: its images wait to be given again."""
        self.known = self.known or time.perf_counter()

    def finish(self) -> None:
        """A task ends."""
        if self._tasks.pop() == "tag":
            self.last = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of tagging."""
        return self.last - self.first


@dataclass
class Watched:
    """A cluster whose workers are watched: the images can begin when the first of them has loaded."""

    cluster: Cluster
    clock: Clock
    given: list[tuple[float, Span]] = field(default_factory=list)
    _crew: Crew | None = None

    @contextmanager
    def crew(self, spec: Spec, *, gpu: bool | None, progress: Progress) -> Iterator[Crew]:
        """Its workers, through this."""
        with self.cluster.crew(spec, gpu=gpu, progress=progress) as self._crew:
            yield cast(Crew, self)

    def events(self, seconds: float) -> Sequence[Event]:
        """What happened, noted."""
        assert self._crew
        found = self._crew.events(seconds)
        if not self.given and any(isinstance(event, Joined) for event in found):
            self.clock.first = time.perf_counter()
        return found

    def give(self, worker: str, span: Span, payload: bytes) -> None:
        """Let a worker do a span, noted."""
        assert self._crew
        self.given.append((time.perf_counter(), span))
        self._crew.give(worker, span, payload)

    def __getattr__(self, name: str) -> Any:
        """All else is the crew's."""
        return getattr(self._crew, name)

    @property
    def given_again(self) -> float:
        """When the images of a span were first given to another worker."""
        for at, (when, span) in enumerate(self.given):
            for _, one in self.given[:at]:
                if one.number == span.number and one.start < span.stop and span.start < one.stop:
                    return when
        return 0.0


def usual(
    images: Path, store: Store, tagger: OnnxTagger, job: IngestJob, clock: Clock
) -> ClusterReport | None:
    """One ingest in this process."""
    report = ingest(plan_segments([images], {}), store, tagger, options=job, progress=clock)
    assert report.tagged + report.copied == sum(1 for _ in images.iterdir()), report
    return None


def by_workers(
    images: Path, store: Store, tagger: OnnxTagger, job: IngestJob, clock: Clock
) -> ClusterReport | None:
    """Two workers of a Ray that is started for it."""
    return watched(images, store, tagger, job, Watched(Cluster(workers=WORKERS), clock))


def watched(
    images: Path, store: Store, tagger: OnnxTagger, job: IngestJob, cluster: Watched
) -> ClusterReport:
    """A run by a cluster; fails unless the report adds up, and the store has each image once, whole."""
    segments, names = plan_segments([images], {}), sorted(path.name for path in images.iterdir())
    report = ClusterIngest(cluster, job).run(segments, store, tagger, progress=cluster.clock)
    assert (report.tagged + report.copied, report.pending, report.failed) == (len(names), 0, 0), report
    assert sum(rate.images for rate in report.workers.values()) == len(names), report
    assert sorted(store.snapshot().images(["path"])["path"].to_pylist()) == names
    assert verify(store.path, deep=True) == [] and list_parts(store.disk, store.parts) == []
    return report


@dataclass
class Times:
    """Seconds of one side, run by run: of the images, and of all."""

    tagging: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def overhead(folder: Path, name: str, count: int, rounds: int, batch_size: int) -> None:
    """The two sides in turn."""
    images = folder / "images"
    tagger = OnnxTagger.load(name, device="cpu")
    job = IngestJob(tagger=name, batch_size=batch_size, device="cpu")
    sides = {"one ingest": usual, f"{WORKERS} workers": by_workers}
    times = {side: Times() for side in sides}
    for turn in range(rounds):
        for side, run in sides.items():
            with tempfile.TemporaryDirectory() as place:
                store, clock = open_or_create(Path(place) / "feats", tagger), Clock()
                begun = time.perf_counter()
                report = run(images, store, tagger, job, clock)
                times[side].tagging.append(clock.seconds)
                times[side].whole.append(time.perf_counter() - begun)
        print(
            f"round {turn + 1}: "
            + ", ".join(f"{side} {one.tagging[-1]:.1f} s" for side, one in times.items()),
            flush=True,
        )
    one, two = (statistics.median(each.tagging) for each in times.values())
    pairs = [b / a - 1 for a, b in zip(*(each.tagging for each in times.values()), strict=True)]
    print(f"\n{Path(name).name}: {count} images, batch {batch_size}, {os.cpu_count()} cores, {rounds} pairs")
    print(f"| one ingest | {count / one:.2f} images/s |")
    assert report
    each = ", ".join(f"{rate.images_per_second:.2f}" for rate in report.workers.values())
    print(f"| {WORKERS} workers | {count / two:.2f} images/s, each {each} |")
    print(f"| overhead (median of pairs; wanted <= 10 %) | {100 * statistics.median(pairs):.1f} % |")
    last = times[f"{WORKERS} workers"]
    starts = [whole - tagging for whole, tagging in zip(last.whole, last.tagging, strict=True)]
    print(f"| starting Ray and loading the taggers, once | {statistics.median(starts):.1f} s |")


def deaths(folder: Path, name: str, batch_size: int) -> None:
    """What a death half-way costs: the same run on two nodes of one core each, without and with it."""
    tagger = OnnxTagger.load(name, device="cpu")
    job = IngestJob(tagger=name, batch_size=batch_size, device="cpu")

    def live(kill: Callable[[], object]) -> Watched:
        with tempfile.TemporaryDirectory() as place:
            store = open_or_create(Path(place) / "feats", tagger)
            cluster = Watched(Cluster(address=here.address), Clock())
            cluster.clock.at_half = kill
            watched(folder / "images", store, tagger, job, cluster)
            return cluster

    with ray_here() as here:
        here.start()
        os.environ.update({one: here.env[one] for one in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")})
        second = here.start()
        alive = live(time.perf_counter).clock
        rest = alive.last - alive.half
        print(f"none dies: {alive.seconds:.1f} s, of which {rest:.1f} from half-way on", flush=True)
        for whose, kill in DEATHS.items():
            if not second.pids():
                second = here.start()
            run = live(partial(kill, second))
            clock = run.clock
            known, again, over = (at - clock.half for at in (clock.known, run.given_again, clock.last))
            print(
                f"| {whose} half-way | {clock.seconds - alive.seconds:.1f} s more, of {alive.seconds:.1f};"
                f" known after {known:.1f}, images given again after {again:.1f}, over after {over:.1f} |",
                flush=True,
            )


def main() -> None:
    """One of the two questions, of one tagger."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tagger", default="demo", help="demo, vit (written for this), or a folder")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--deaths", action="store_true", help="what they cost (apart: a process keeps Ray's token)"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pfg-bench-") as place:
        folder, name = Path(place), asked.tagger
        if name == "vit":
            name = str(folder / "vit")
            write_vit_tagger(Path(name))
        write_jpegs(folder / "images", asked.count)
        if asked.deaths:
            deaths(folder, name, asked.batch_size)
        else:
            overhead(folder, name, asked.count, asked.rounds, asked.batch_size)


if __name__ == "__main__":
    main()
