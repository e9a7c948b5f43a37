"""An engine in this process: its workers are threads, which die, lie and see no store when a test says so."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pfgdata.cluster.driving import Answered, Brought, Crew, Event, Finished, Gone, Joined
from pfgdata.cluster.host import Data, Done, Host, Spec
from pfgdata.files import Disk
from pfgdata.records import Progress
from pfgdata.store import Span, list_parts

__all__ = ["HandEngine"]


@dataclass
class HandEngine:
    """`workers` threads. Who is given a payload of which `kills` is true dies of it.

    Where `blind` names a store's folder of parts, no worker sees that store. `damaged` results are cut short.
    """

    workers: int = 2
    kills: Callable[[bytes], bool] = lambda payload: False
    blind: Path | None = None
    damaged: int = 0
    lost: Path | None = None  # a folder of parts in which none is when the driver looks
    deaths: int = 0

    @contextmanager
    def crew(self, spec: Spec, *, gpu: bool | None, progress: Progress) -> Iterator[Crew]:
        """Its workers."""
        for sign in self.blind.glob("*-under-way.json") if self.blind else ():
            sign.unlink()
        with ThreadPoolExecutor(self.workers) as threads:
            crew = HandCrew(self, pickle.dumps(spec), threads)
            try:
                yield crew
            finally:
                crew.stop()


@dataclass
class Hand:
    """A worker."""

    host: Host
    work: Future[Done] | None = None


@dataclass
class HandCrew:
    """As the driver's loop wants workers."""

    engine: HandEngine
    spec: bytes
    threads: ThreadPoolExecutor
    hands: dict[str, Hand] = field(default_factory=dict)
    doomed: list[str] = field(default_factory=list)
    born: int = 0
    closed: int = 0
    hosts: list[Host] = field(default_factory=list)  # loaded ones whose worker died
    hopes: bool = True

    @property
    def places(self) -> int:
        """How many there are to be."""
        return self.engine.workers

    def events(self, seconds: float) -> Sequence[Event]:
        """What happened."""
        found: list[Event] = []
        while len(self.hands) < self.places - self.closed and self.hopes:
            self.born += 1
            name, host = f"w{self.born}", self.hosts.pop() if self.hosts else Host()
            facts, problem = ({}, None) if self.born > self.places else host.load(self.spec, False, 1)
            if problem:
                self.hopes = False
                return [Gone(name, problem, False)]
            self.hands[name] = Hand(host)
            found.append(Joined(name, facts))
        for name in self.doomed:
            self.hosts.append(self.hands.pop(name).host)
            self.engine.deaths += 1
            found.append(Gone(name, "it died", True))
        self.doomed = []
        for name, hand in self.hands.items():
            found += self.heard(name, hand, seconds / self.places)
        for part in list_parts(Disk(), self.engine.lost) if self.engine.lost else ():
            shutil.rmtree(part)
        return found

    def heard(self, name: str, hand: Hand, seconds: float) -> list[Event]:
        """What a worker says and brings."""
        beat = hand.host.beat()
        found: list[Event] = [Answered(name, beat.images, beat.quiet)]
        taken = [hand.host.take(number) for number in beat.waiting]
        found += [Brought(name, span, self.sent(data)) for span, data in filter(None, taken)]
        if hand.work is not None:
            try:
                done = hand.work.result(seconds)
            except TimeoutError:
                return found
            hand.work = None
            found += [Brought(name, span, self.sent(data)) for span, data in done.rest]
            found.append(Finished(name, done.facts, done.error))
        return found

    def sent(self, data: Data | None) -> Data | None:
        """What comes of what was sent."""
        if data is None or not self.engine.damaged:
            return data
        self.engine.damaged -= 1
        return {name: one[:-1] for name, one in data.items()}

    def give(self, worker: str, span: Span, payload: bytes) -> None:
        """Let a worker do a span, or die of it."""
        if self.engine.kills(payload):
            self.doomed.append(worker)
        else:
            hand = self.hands[worker]
            hand.work = self.threads.submit(hand.host.work, (*span,), payload)

    def dismiss(self, worker: str) -> None:
        """Do without one, and its place."""
        del self.hands[worker]
        self.closed += 1
        self.hopes = self.hopes and self.closed < self.engine.workers

    def stop(self) -> None:
        """Ask all to end."""
        for hand in self.hands.values():
            hand.host.stop()

    def label(self, worker: str) -> str:
        """Its name."""
        return worker
