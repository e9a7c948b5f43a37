"""Ray as the engine: a core actor for each worker, started anew by us where one dies, and nothing else of it.

Ray's own retries are off: with them the death of a node hung the run near its end (ray #46937), and a span
would be done again behind the queue's back.
"""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pfgdata.cluster.driving import Answered, Brought, Event, Finished, Gone, Joined
from pfgdata.cluster.host import Beat, Done, Host, Spec, this_version
from pfgdata.cluster.joining import joined, require_address
from pfgdata.records import Progress, during_one
from pfgdata.store import Span

__all__ = ["Cluster", "RayCrew"]

_BEAT = 1.0  # seconds between two questions how a worker is
_NODES = 5.0  # seconds between two looks at which machines there are
_TRIES = 3  # deaths of a worker before it is ready, after which its place is given up
_CALLS = 4  # at once: the work, and questions beside it
_KILLED = "it died"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Which cluster, and how many workers: `auto` (on this machine) or HOST:PORT.

    `workers` None is one for each GPU where workers are for GPUs, else one for each machine.
    """

    address: str = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        require_address(self.address)

    @contextmanager
    def crew(self, spec: Spec, *, gpu: bool | None, progress: Progress) -> Iterator[RayCrew]:
        """Its workers; a Ray that was started for this is ended behind it.

        Raises ClusterError where Ray is not installed, or the cluster cannot be joined.
        """
        with during_one(progress, "join", unit="clusters"):
            ray = joined(self.address)
        crew = RayCrew(ray, pickle.dumps(spec), workers=self.workers, gpu=gpu)
        try:
            yield crew
        finally:
            crew.close()
            ray.shutdown()


@dataclass(slots=True)
class _Place:
    """Where a worker may run: the machine, and what it takes of it."""

    name: str
    node: str
    cores: float
    threads: int | None
    gpu: bool
    worker: str | None = None
    started: int = 0
    deaths: int = 0  # in a row, before it was ready
    is_closed: bool = False


@dataclass(slots=True)
class _Actor:
    """A worker under way. `taking` are results on their way here; `done` waits until they are."""

    handle: Any
    place: _Place
    is_ready: bool = False
    asked: float = 0.0
    is_asked: bool = False
    taking: set[int] = field(default_factory=set)
    done: Done | None = None


class RayCrew:
    """Ray's workers as the driver's loop wants them."""

    def __init__(self, ray: Any, spec: bytes, *, workers: int | None, gpu: bool | None) -> None:
        self._ray, self._wanted, self._gpu = ray, workers, gpu
        self._spec = ray.put(spec)
        self._places: dict[str, _Place] = {}
        self._actors: dict[str, _Actor] = {}
        self._pending: dict[Any, tuple[str, str, Any]] = {}  # ref -> worker, what was asked, of what
        self._facts: Mapping[str, Any] | None = None  # of the first worker
        self._looked = 0.0
        self._is_stopping = False
        self._look()

    @property
    def hopes(self) -> bool:
        """Whether a worker is there or may still come, be it on a machine that joins later."""
        return not self._places or not all(place.is_closed for place in self._places.values())

    @property
    def places(self) -> int:
        """How many workers there are to be."""
        return len(self._places)

    def label(self, worker: str) -> str:
        """The name of its place: a worker that was started anew is the same to people."""
        return worker.partition("#")[0]

    def events(self, seconds: float) -> Sequence[Event]:
        """What happened; waits for something for at most so long."""
        self._look()
        self._ask()
        if not self._pending:
            time.sleep(seconds)
            return []
        first, rest = self._ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0) if first and rest else ([], [])
        found: list[Event] = []
        for ref in [*first, *more]:
            if ref in self._pending:  # else of a worker that was found dead just now
                found += self._answer(ref, *self._pending.pop(ref))
        return found

    def give(self, worker: str, span: Span, payload: bytes) -> None:
        """Let a worker do a span."""
        self._call(worker, "work", tuple(span), payload)

    def dismiss(self, worker: str) -> None:
        """Do without a worker, and its place, from now on."""
        if actor := self._forget(worker):
            actor.place.is_closed = True

    def stop(self) -> None:
        """Ask all to end after the batch they are at; no further one is started."""
        self._is_stopping = True
        for actor in self._actors.values():
            actor.handle.stop.remote()

    def close(self) -> None:
        """End every worker."""
        self._is_stopping = True
        for worker in list(self._actors):
            self._forget(worker)

    def _look(self) -> None:
        """See which machines there are, and start who is missing."""
        if self._is_stopping or time.monotonic() - self._looked < _NODES:
            return
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in nodes)
        gpu = gpus if self._gpu is None else self._gpu
        alive, wanted = {node["NodeID"] for node in nodes}, self._wanted
        for place in _places(nodes, wanted, gpu=gpu):
            there = sum(one.node in alive and not one.is_closed for one in self._places.values())
            if place.name not in self._places and (wanted is None or there < wanted):
                self._places[place.name] = place
        for place in self._places.values():
            if place.worker is None and not place.is_closed and place.node in alive:
                self._start(place)
        self._looked = time.monotonic()

    def _start(self, place: _Place) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place.started += 1
        place.worker = place.name if place.started == 1 else f"{place.name}#{place.started}"
        options = {
            "num_cpus": place.cores,
            "num_gpus": int(place.gpu),
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": _CALLS,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=False),
        }
        handle = self._ray.remote(**options)(Host).remote()
        self._actors[place.worker] = _Actor(handle, place)
        self._call(place.worker, "hello")

    def _call(self, worker: str, method: str, *arguments: Any) -> None:
        ref = getattr(self._actors[worker].handle, method).remote(*arguments)
        self._pending[ref] = (worker, method, arguments[0] if arguments else None)

    def _ask(self) -> None:
        now = time.monotonic()
        for worker, actor in self._actors.items():
            if not actor.is_asked and now - actor.asked >= _BEAT:
                actor.asked, actor.is_asked = now, True
                self._call(worker, "beat")

    def _answer(self, ref: Any, worker: str, method: str, about: Any) -> list[Event]:
        try:
            value = self._ray.get(ref)
        except (
            self._ray.exceptions.RayError
        ) as problem:  # it died, or what it answered was lost with its node
            return self._died(worker, problem)
        actor = self._actors[worker]
        if method == "hello":
            return self._met(worker, *value)
        if method == "load":
            return self._loaded(worker, *value)
        if method == "beat":
            return self._lives(worker, value)
        found: list[Event] = []
        if method == "take":
            actor.taking.discard(about)
            found += [Brought(worker, *value)] if value else []
        elif method == "work":
            actor.done = value
        if actor.done and not actor.taking:
            found += [Brought(worker, span, data) for span, data in actor.done.rest]
            found.append(Finished(worker, actor.done.facts, actor.done.error))
            actor.done = None
        return found

    def _met(self, worker: str, version: str, python: str) -> list[Event]:
        if version != this_version():
            return self._refused(worker, f"has pfg {version}, this is {this_version()}; install the same one")
        actor = self._actors[worker]
        self._call(worker, "load", self._spec, actor.place.gpu, actor.place.threads)
        return []

    def _loaded(self, worker: str, facts: Mapping[str, Any], problem: str | None) -> list[Event]:
        if problem:
            return self._refused(worker, problem)
        first = self._facts or facts
        for what, value in facts.items():
            if first.get(what) != value:
                return self._refused(worker, f"has {what} {value}, the others {first.get(what)}")
        actor, self._facts = self._actors[worker], first
        actor.is_ready, actor.place.deaths = True, 0
        return [Joined(worker, facts)]

    def _lives(self, worker: str, beat: Beat) -> list[Event]:
        actor = self._actors[worker]
        actor.is_asked = False
        for number in beat.waiting:
            if number not in actor.taking:
                actor.taking.add(number)
                self._call(worker, "take", number)
        return [Answered(worker, beat.images, beat.quiet)]

    def _refused(self, worker: str, reason: str) -> list[Event]:
        self.dismiss(worker)
        return [Gone(worker, f"refused: {reason}", False)]

    def _died(self, worker: str, problem: Exception) -> list[Event]:
        actor = self._forget(worker)
        if actor is None:
            return []
        if not actor.is_ready:
            actor.place.deaths += 1
            actor.place.is_closed = actor.place.deaths >= _TRIES
            return [Gone(worker, f"it did not start ({_first_line(problem)})", False)]
        return [Gone(worker, _KILLED, True)]

    def _forget(self, worker: str) -> _Actor | None:
        """End a worker, if it is still there; a next one may be started in its place."""
        actor = self._actors.pop(worker, None)
        if actor is None:
            return None
        actor.place.worker, self._looked = None, 0.0
        self._pending = {ref: asked for ref, asked in self._pending.items() if asked[0] != worker}
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor.handle)
        return actor


def _places(nodes: Sequence[Mapping[str, Any]], workers: int | None, *, gpu: bool) -> list[_Place]:
    """Where workers go: on GPUs one each, else spread over the machines in their order."""
    nodes = sorted(nodes, key=lambda node: (node["NodeManagerHostname"], node["NodeID"]))
    rooms = {node["NodeID"]: int(node["Resources"].get("GPU" if gpu else "CPU", 0)) for node in nodes}
    wanted = workers or (sum(rooms.values()) if gpu else sum(room > 0 for room in rooms.values()))
    counts: Counter[str] = Counter()
    while sum(counts.values()) < wanted:
        free = [node for node, room in rooms.items() if counts[node] < room]
        if not free:
            break
        counts[min(free, key=lambda node: counts[node])] += 1
    found = []
    for node in nodes:
        count = counts[node["NodeID"]]
        cores = node["Resources"].get("CPU", 0)
        for number in range(count):
            share = cores / count
            found.append(
                _Place(
                    name=f"{node['NodeManagerHostname']}-{node['NodeID'][:6]}/{number + 1}",
                    node=node["NodeID"],
                    cores=max(1.0, float(int(share))) if share >= 1 else share,
                    threads=max(1, int(share)),
                    gpu=gpu,
                )
            )
    return found


def _first_line(problem: Exception) -> str:
    """What Ray says is wrong, without its page of advice."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[-1] if lines else type(problem).__name__)[:300]
