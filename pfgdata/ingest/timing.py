"""How busy each stage of an ingest was, which one held the others up, and how long the next one may take.

Read, decode and preprocess share the pool's threads; the model and the writer have threads of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pfgdata.store import Snapshot, rate_of

__all__ = ["STAGES", "StageTime", "bottleneck", "busy_shares", "estimated_seconds", "stage_times"]

STAGES = ("read", "decode", "preprocess", "model", "write")
_POOL = STAGES[:3]
_MOSTLY = 0.5  # a stage that works less than this holds nobody up
_RECENT = 10  # shards an estimate is made of: a machine's rate of last year says little

_ADVICE = {
    "read": "a faster disk would help, or more threads while the disk has room",
    "decode": "more cores would help, or decode fast; a faster device would not",
    "preprocess": "more cores would help; a faster device would not",
    "model": "a faster device would help, more threads would not",
    "write": "a faster disk for the store would help",
}


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds that the `workers` threads of a stage worked and waited, in sum over them.

    Read, decode and preprocess are done by the same threads: the waiting of one is that of the others.
    """

    busy: float
    waiting: float
    workers: int


def stage_times(
    busy: Mapping[str, float], *, wall: float, threads: int, parallel: int
) -> dict[str, StageTime]:
    """A StageTime for each stage of a run of `wall` seconds; `threads` decode, `parallel` call the model."""
    workers = {**dict.fromkeys(_POOL, threads), "model": parallel, "write": 1}
    pool = sum(busy.get(stage, 0.0) for stage in _POOL)
    times = {}
    for stage in STAGES:
        own = busy.get(stage, 0.0)
        waiting = max(0.0, workers[stage] * wall - (pool if stage in _POOL else own))
        times[stage] = StageTime(round(own, 3), round(waiting, 3), workers[stage])
    return times


def bottleneck(stages: Mapping[str, StageTime]) -> str:
    """The stage whose threads had the least time to wait, in a sentence; empty where nothing was done."""
    each = busy_shares(stages)
    pool = sum(each.get(stage, 0.0) for stage in _POOL)
    shares = {
        stage: pool if stage in _POOL else each[stage]
        for stage in ("model", "write", *_POOL)
        if stages[stage].busy
    }
    if not shares:
        return ""
    stage = max(shares, key=lambda name: (shares[name], stages[name].busy))
    if shares[stage] < _MOSTLY:
        return "none: every stage waited more than it worked, as in a short run or one with little to read"
    who = "the threads that read and decode were " if stage in _POOL else ""
    return f"{stage}: {who}busy {100 * shares[stage]:.0f} % of the time; {_ADVICE[stage]}"


def busy_shares(stages: Mapping[str, StageTime]) -> dict[str, float]:
    """The part of its threads' time that each stage worked, 0..1; those of the pool divide one time."""
    pool = sum(stages[name].busy for name in _POOL if name in stages)
    times = {name: (pool if name in _POOL else took.busy) + took.waiting for name, took in stages.items()}
    return {name: took.busy / times[name] for name, took in stages.items() if times[name]}


def estimated_seconds(snapshot: Snapshot | None, count: int) -> float | None:
    """How long `count` images would take at the rate of the shards ingested last, on one provider.

    None where the store has none.
    """
    shards = [view.meta for view in snapshot.shards] if snapshot else []
    rate = rate_of(shards, last=_RECENT)
    if not rate or not rate["seconds"]["total"]:
        return None
    return round(count * rate["seconds"]["total"] / rate["images"], 1)
