"""A derived set by many workers: they encode, the driver, which holds the set's lock, keeps what they send.

One way for every kind of set: an `EncoderSource` says what a worker loads. Arrays come as bytes, some 16 MB
at a time, and are gathered to shards of the usual size here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from pfgdata.cluster.driving import Driver, Engine, WorkerRate
from pfgdata.cluster.host import Data, Desk, Seat
from pfgdata.cluster.queue import Queue
from pfgdata.derive import (
    Derivation,
    DeriveOptions,
    DerivePlan,
    DeriveReport,
    Encoded,
    EncoderSource,
    Encoding,
    Keeper,
)
from pfgdata.errors import CorruptShardError
from pfgdata.records import Selection, during
from pfgdata.store import Snapshot, Span

__all__ = ["DerivingSpec", "derive_on"]

_SENT = 16_000_000  # bytes of arrays that travel together
_SHARES, _LONGEST = 8, 1024  # spans for each worker at least; images of a span
_KILLS = "each worker that was given it died"


def derive_on(
    engine: Engine,
    source: EncoderSource,
    derivation: Derivation,
    snapshot: Snapshot,
    selection: Selection,
    *,
    stop: Callable[[], bool],
) -> tuple[DeriveReport, dict[str, WorkerRate]]:
    """As `Derivation.run`, by workers that load `source`; and what each of them did.

    The set's lock is held throughout. Raises ClusterError where there is no cluster, or no worker.
    """
    start = time.monotonic()
    with derivation.derived.writer() as writer:
        plan = derivation.plan(snapshot, selection)
        keeper = Keeper(derivation, writer, plan)
        rates: dict[str, WorkerRate] = {}
        if plan.to_do:
            rates = _Deriving(derivation, plan, keeper).run(engine, source, stop)
    keeper.report.seconds = time.monotonic() - start
    return keeper.report, rates


class _Deriving:
    """The driver's side: what is missing of each group, and the shards that are being gathered."""

    def __init__(self, derivation: Derivation, plan: DerivePlan, keeper: Keeper) -> None:
        self._derivation, self._plan, self._keeper = derivation, plan, keeper
        self._options, self._id = derivation.options, derivation.derived.id[:12]
        self._open: dict[int, Encoded] = {}  # by group

    def run(self, engine: Engine, source: EncoderSource, stop: Callable[[], bool]) -> dict[str, WorkerRate]:
        """Have it done; what each worker did."""
        derivation = self._derivation
        spec = DerivingSpec(
            source=source,
            roots=dict(derivation.roots),
            options=self._options,
            what=derivation.derived.name,
            columns=derivation.derived.schema.serialize().to_pybytes(),
        )
        with engine.crew(spec, gpu=None, progress=derivation.progress) as crew:
            spans = self._spans(crew.places)
            driver = Driver(crew, self, Queue(spans, now=time.monotonic()), derivation.progress)
            try:
                with during(derivation.progress, "encode", total=self._plan.to_do, brief=False):
                    driver.run(stop)
            finally:  # whatever ends the run, what is here is kept
                for group in list(self._open):
                    self._commit(group)
        self._keeper.report.interrupted = driver.interrupted
        return dict(sorted(driver.rates.items()))

    def payload(self, span: Span) -> bytes:
        """The rows of the images of a span."""
        return self._plan.piece(span.number, span.start, span.stop).as_bytes()

    def check(self, span: Span, data: Data | None) -> Span | None:
        """The span, whose results came whole: they are unpacked to see that."""
        assert data is not None
        try:
            made = Encoded.unpacked(data)
        except (ValueError, KeyError, pa.ArrowException) as problem:
            raise CorruptShardError(f"what was sent is damaged ({problem})") from problem
        return span if len(made) == span.stop - span.start else None

    def take(self, span: Span, fresh: Sequence[Span], data: Data | None) -> None:
        """Gather what is new of it; a shard that is due is committed."""
        assert data is not None
        made, group = Encoded.unpacked(data), span.number
        if list(fresh) != [span]:
            made = made.only(set().union(*(self._plan.contents(group, one.start, one.stop) for one in fresh)))
        if group in self._open:
            self._open[group].add(made)
        else:
            self._open[group] = made
        self._commit_due()

    def fail(self, span: Span) -> None:
        """Keep a failure of the image."""
        (content,) = self._plan.contents(span.number, span.start, span.stop)
        (image,) = self._plan.piece(span.number, span.start, span.stop).items(span.number)
        failure = {"content_id": content, "kind": "content", "reason": _KILLS}
        self._keeper.keep(span.number, Encoded(failures=[failure], files=[str(image)]))

    def told(self, worker: str, facts: Mapping[str, Any]) -> None:
        """Nothing is said beside."""

    def _commit_due(self) -> None:
        """Commit what is large or old; where many groups are open, the largest of them."""
        now, options = time.monotonic(), self._options
        for group, made in list(self._open.items()):
            if made.nbytes >= options.shard_bytes or now - made.since >= options.shard_seconds:
                self._commit(group)
        while sum(made.nbytes for made in self._open.values()) > 2 * options.shard_bytes:
            self._commit(max(self._open, key=lambda group: self._open[group].nbytes))

    def _commit(self, group: int) -> None:
        self._keeper.keep(group, self._open.pop(group))

    def _spans(self, workers: int) -> list[Span]:
        """Pieces of each group, whole batches long, several for each worker."""
        size = self._options.batch_size
        share = self._plan.to_do / max(1, workers * _SHARES)
        rows = max(size, min(_LONGEST, math.ceil(share)) // size * size)
        return [
            Span(self._id, group, start, min(start + rows, len(contents)))
            for group, contents in self._plan.missing.items()
            for start in range(0, len(contents), rows)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivingSpec:
    """What a worker loads: an encoder."""

    source: EncoderSource
    roots: Mapping[str, str]
    options: DeriveOptions
    what: str  # the name of one array
    columns: bytes  # the schema of the rows, as Arrow IPC

    def load(self, seat: Seat) -> _EncodingDoer:
        """Raises PfgError as `source` does."""
        return _EncodingDoer(self, seat)


@dataclass(slots=True)
class _Sending:
    """Hands in what is made of a span, from its first image on."""

    desk: Desk
    schema: pa.Schema
    left: Span = field(default_factory=lambda: Span("", 0, 0, 0))

    def keep(self, group: int, made: Encoded) -> None:
        """Hand it in, and go on behind it."""
        if len(made):
            at = self.left.start + len(made)
            self.desk.hand(self.left._replace(stop=at), made.packed(self.schema))
            self.left = self.left._replace(start=at)


class _EncodingDoer:
    """The worker's side."""

    def __init__(self, spec: DerivingSpec, seat: Seat) -> None:
        self._spec = spec
        self._encoder = spec.source.load(gpu=seat.gpu)
        options = spec.options
        self._options = replace(
            options, threads=options.threads or seat.threads, shard_bytes=min(_SENT, options.shard_bytes)
        )
        self._schema = pa.ipc.read_schema(pa.BufferReader(spec.columns))
        self.facts = {"device": str(self._encoder.writer.get("device", "")).partition(":")[0]}

    def do(self, span: Span, payload: bytes, desk: Desk) -> Mapping[str, Any]:
        """Encode a span."""
        sending = _Sending(desk, self._schema, span)
        encoding = Encoding(
            self._encoder,
            sending.keep,
            what=self._spec.what,
            roots=self._spec.roots,
            options=self._options,
            progress=desk,
        )
        encoding.group(DerivePlan.of_bytes(payload), span.number, desk.stop)
        return {}
