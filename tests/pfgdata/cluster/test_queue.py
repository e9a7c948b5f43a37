"""Every image ends once, done or named, whatever becomes of the workers, and work never stalls."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfgdata.cluster import Patience, Queue
from pfgdata.errors import ClusterError
from pfgdata.store import Span

PATIENCE = Patience(silence=10, alone=100, deaths=3)


def span(start: int, stop: int, number: int = 0) -> Span:
    return Span("p" * 12, number, start, stop)


def images(spans: list[Span]) -> list[tuple[int, int]]:
    """(range, image) of each image of the spans."""
    return [(one.number, at) for one in spans for at in range(one.start, one.stop)]


@dataclass
class Hand:
    """A worker of the fake engine: what it does, when it is through, and until when it says nothing."""

    work: Span | None = None
    at: int = 0  # the next image
    mute_until: float = 0.0


@dataclass
class FakeEngine:
    """Workers in a time of their own, which die, fall silent, come back late, and choke on some images."""

    queue: Queue
    chance: Random
    poison: set[tuple[int, int]]
    trouble: float  # how often something happens to a worker
    hands: dict[str, Hand] = field(default_factory=dict)
    done: Counter[tuple[int, int]] = field(default_factory=Counter)
    now: float = 0.0
    born: int = 0

    def step(self) -> None:
        """A second passes."""
        self.now += 1
        if len(self.hands) < 3:
            self.born += 1
            self.hands[f"w{self.born}"] = Hand()
            self.queue.join(f"w{self.born}", now=self.now)
        for name, hand in list(self.hands.items()):
            self.act(name, hand)
        self.queue.look(now=self.now)

    def act(self, name: str, hand: Hand) -> None:
        if self.chance.random() < self.trouble:
            if self.chance.random() < 0.5:
                self.die(name)
                return
            hand.mute_until = self.now + self.chance.choice([5, 15, 40])
        if hand.mute_until <= self.now:
            self.queue.heard(name, now=self.now)
            if hand.work is None and (work := self.queue.give(name)):
                hand.work, hand.at = work, work.start
        if hand.work is not None:
            self.work(name, hand, hand.work)

    def work(self, name: str, hand: Hand, work: Span) -> None:
        """Do some images; they are brought, and the end is told, once it speaks again."""
        first = hand.at
        while hand.at < min(work.stop, first + self.chance.randint(1, 8)):
            if (work.number, hand.at) in self.poison:
                self.die(name)
                return
            hand.at += 1
        if hand.mute_until <= self.now and (hand.at == work.stop or self.chance.random() < 0.3):
            self.done.update(images(self.queue.brought(work._replace(stop=hand.at))))
            if hand.at == work.stop:
                hand.work = None
                self.queue.finished(name, now=self.now)

    def die(self, name: str) -> None:
        del self.hands[name]
        self.queue.gone(name)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
    trouble=st.sampled_from([0.0, 0.02, 0.1]),
    poisoned=st.integers(0, 3),
)
def test_every_image_ends_once_and_work_never_stalls(
    sizes: list[int], seed: int, trouble: float, poisoned: int
) -> None:
    chance = Random(seed)
    spans = [span(0, size, number) for number, size in enumerate(sizes)]
    everything = images(spans)
    poison = set(chance.sample(everything, min(poisoned, len(everything))))
    queue = Queue(spans, patience=PATIENCE, now=0)
    engine = FakeEngine(queue, chance, poison, trouble)
    while not queue.is_over:
        assert engine.now < 20_000  # of a time in which three workers do some images a second
        engine.step()
    ended = engine.done + Counter(images(queue.failed))
    assert ended == Counter(everything)
    assert poison <= set(images(queue.failed))
    assert all(one.stop - one.start == 1 for one in queue.failed)
    if not trouble:
        assert poison == set(images(queue.failed))


def test_a_range_of_a_worker_that_died_is_given_to_the_next() -> None:
    queue = Queue([span(0, 8)], now=0)
    queue.join("a", now=0)
    assert queue.give("a") == span(0, 8)
    assert queue.brought(span(0, 3)) == [span(0, 3)]
    queue.gone("a")
    queue.join("b", now=1)
    assert queue.give("b") == span(3, 8)


def test_a_silent_worker_gets_nothing_until_it_answers_again() -> None:
    queue = Queue([span(0, 8), span(8, 9)], patience=PATIENCE, now=0)
    queue.join("a", now=0)
    queue.give("a")
    assert queue.look(now=10) == []
    assert queue.look(now=11) == ["a"]
    queue.finished("a", now=12)  # late, and without a result
    assert queue.workers == ["a"] and queue.give("a") == span(8, 9)


def test_a_late_result_counts_where_it_is_first_and_never_twice() -> None:
    queue = Queue([span(0, 8)], patience=PATIENCE, now=0)
    queue.join("slow", now=0)
    queue.give("slow")
    queue.look(now=20)
    queue.join("quick", now=20)
    assert queue.give("quick") == span(0, 8)
    assert queue.brought(span(0, 5)) == [span(0, 5)]  # of the quick one
    assert queue.brought(span(0, 8)) == [span(5, 8)]  # of the slow one, late
    assert queue.is_over
    assert queue.brought(span(0, 8)) == []


def test_after_three_deaths_a_range_is_halved_and_one_image_is_a_failure() -> None:
    queue = Queue([span(0, 2)], patience=PATIENCE, now=0)
    tried: list[Span] = []
    while not queue.is_over:
        worker = f"w{len(tried)}"
        queue.join(worker, now=0)
        work = queue.give(worker)
        assert work is not None
        tried.append(work)
        if work == span(1, 2):
            queue.brought(work)
            queue.finished(worker, now=0)
        else:
            queue.gone(worker)
    assert tried == [span(0, 2)] * 3 + [span(0, 1), span(1, 2), span(0, 1), span(0, 1)]
    assert queue.failed == [span(0, 1)]


def test_what_a_worker_gives_back_unharmed_is_not_held_against_the_range() -> None:
    queue = Queue([span(0, 1)], patience=PATIENCE, now=0)
    for turn in range(9):
        queue.join(f"w{turn}", now=0)
        assert queue.give(f"w{turn}") == span(0, 1)
        queue.gone(f"w{turn}", died=False)
    assert queue.failed == []


def test_no_worker_for_too_long_ends_the_run_in_one_line() -> None:
    queue = Queue([span(0, 8)], patience=PATIENCE, now=0)
    queue.heard("one that still loads", now=50)
    queue.look(now=150)
    queue.join("a", now=150)
    queue.gone("a")
    queue.look(now=250)
    with pytest.raises(ClusterError, match="no worker for 100 s, and 8 images are left"):
        queue.look(now=251)
