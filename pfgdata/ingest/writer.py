"""From scored batches to shards: rows are gathered in corpus order and committed when the shard is due.

A shard is written in a thread of its own while the next one fills. Counts enter the report only once their
shard is on disk, so the report never claims what a crash could take back.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.errors import AccessError
from pfgdata.ingest.outcomes import Copied, Failed, KnownContents, Scored, Tagged
from pfgdata.ingest.report import FailedImage, IngestReport
from pfgdata.ingest.rows import RowColumns, stat_columns
from pfgdata.store import Shadow, ShardContents, ShardMeta, StoreWriter, failures_table, key_columns

__all__ = ["ShardFiller"]


class _OpenShard:
    """What is gathered for the next shard."""

    def __init__(self, columns: RowColumns) -> None:
        self.columns = columns  # of the tagged images
        self.here: dict[bytes, int] = {}  # content_id -> its row in columns
        self.copies: list[Copied] = []
        self.order: list[int] = []  # a row of columns, or -1 - a place in copies
        self.failures: list[dict[str, Any]] = []
        self.shadows: list[Shadow] = []
        self.counts = IngestReport()
        self.since = time.monotonic()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __len__(self) -> int:
        return len(self.order) + len(self.failures)


class ShardFiller:
    """Gathers outcomes and commits them as shards of about `rows` rows, or after `seconds`.

    Call `finish` at the end, and `close` always.
    """

    def __init__(
        self,
        writer: StoreWriter,
        known: KnownContents,
        report: IngestReport,
        *,
        rows: int,
        seconds: float,
        facts: Mapping[str, Any],
    ) -> None:
        self._writer, self.known, self.report = writer, known, report
        self._limit, self._seconds, self._facts = rows, seconds, facts
        self.committed: list[str] = []
        self._busy: defaultdict[str, float] = defaultdict(float)
        self._committing = 0.0  # seconds; the committing thread's own
        self._compared: set[str] = set()  # shards that rows were copied from
        self._open = self._begin()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pfg-commit")
        self._under_way: tuple[_OpenShard, Future[ShardMeta | None]] | None = None

    def _begin(self) -> _OpenShard:
        store = self._writer.store
        return _OpenShard(RowColumns(store.vocabulary, floor=store.identity.score_floor))

    @property
    def busy(self) -> dict[str, float]:
        """Seconds that each stage worked, in sum over its threads and the whole run."""
        return {**self._busy, "write": self._busy["write"] + self._committing}

    def add(self, batch: Scored) -> None:
        """Take the next outcomes in corpus order, and commit the shard if it is full or old enough."""
        begun, shard = time.perf_counter(), self._open
        tagged: list[Tagged] = []
        for outcome in batch.outcomes:
            if isinstance(outcome, Tagged):
                row = len(shard.columns) + len(tagged)
                shard.here[outcome.stat.content_id] = row
                shard.order.append(row)
                tagged.append(outcome)
                _hide(shard, outcome.task.old_image, outcome.task.old_failure)
            elif isinstance(outcome, Copied):
                shard.copies.append(outcome)
                shard.order.append(-len(shard.copies))
                _hide(shard, outcome.task.old_image, outcome.task.old_failure)
            elif isinstance(outcome, Failed):
                _add_failed(shard, outcome)
            else:
                shard.counts.unchanged += 1
        shard.columns.add(tagged, batch)
        shard.counts.tagged += len(tagged)
        self._spend({**batch.seconds, "write": time.perf_counter() - begun})
        if self._is_due():
            self._commit()
        elif self._under_way is not None and self._under_way[1].done():
            self._settle()  # a full disk ends the run now, not when the next shard is due

    def finish(self) -> None:
        """Commit what is open, wait until it is on disk, and bring the report up to date."""
        self._commit()
        self._settle()

    def close(self) -> None:
        """Wait for a commit under way; what is open and not committed is dropped."""
        self._thread.shutdown()

    def _is_due(self) -> bool:
        count = len(self._open)
        return count >= self._limit or (count > 0 and time.monotonic() - self._open.since >= self._seconds)

    def _spend(self, seconds: Mapping[str, float]) -> None:
        for stage, value in seconds.items():
            self._open.seconds[stage] += value
            self._busy[stage] += value

    def _commit(self) -> None:
        """Hand the open shard to the committing thread, once the one before it is on disk."""
        self._settle()
        shard, self._open = self._open, self._begin()
        self._under_way = shard, self._thread.submit(self._write, shard, time.monotonic() - shard.since)

    def _settle(self) -> None:
        """Wait for the commit under way and add it to the report; raises what stopped it."""
        if self._under_way is None:
            return
        (shard, future), self._under_way = self._under_way, None
        meta = future.result()
        if meta is not None:
            self.committed.append(meta.id)
        self.report.tagged += shard.counts.tagged
        self.report.copied += len(shard.copies)
        self.report.unchanged += shard.counts.unchanged
        self.report.failed += shard.counts.failed
        self.report.failures += shard.counts.failures

    def _write(self, shard: _OpenShard, total: float) -> ShardMeta | None:
        """Write what was gathered as one shard, if anything was."""
        if not len(shard):
            return None
        begun = time.perf_counter()
        images, features = self._rows(shard)
        seconds = {stage: round(value, 3) for stage, value in {**shard.seconds, "total": total}.items()}
        meta = self._writer.commit(
            ShardContents(
                images=images,
                features=features,
                failures=failures_table(shard.failures),
                shadows=tuple(shard.shadows),
                writer={**self._facts, "images": len(shard), "seconds": seconds},
            )
        )
        rows = {row: at for at, row in enumerate(shard.order)}
        self.known.commit(meta.id, {content: rows[row] for content, row in shard.here.items()})
        self._committing += time.perf_counter() - begun
        return meta

    def _rows(self, shard: _OpenShard) -> tuple[pa.Table, npt.NDArray[np.float16]]:
        """The rows and features of a shard, those of copies from the rows they copy."""
        images = shard.columns.table()
        features = shard.columns.features(self._writer.store.identity.feature_dim)
        if not shard.copies:
            return images, features
        sources, source_features, places = self._sources(shard, images, features)
        own = stat_columns([c.task.found.key for c in shard.copies], [c.stat for c in shard.copies])
        copies = sources.take(pa.array(places))
        for name, values in own.items():
            copies = copies.set_column(copies.column_names.index(name), copies.schema.field(name), values)
        order = np.array(shard.order, np.int64)
        order = np.where(order < 0, len(images) - 1 - order, order)
        both = pa.concat_tables([images, copies]).unify_dictionaries().combine_chunks()
        return both.take(pa.array(order)), np.concatenate([features, source_features[places]])[order]

    def _sources(
        self, shard: _OpenShard, images: pa.Table, features: npt.NDArray[np.float16]
    ) -> tuple[pa.Table, npt.NDArray[np.float16], npt.NDArray[np.int64]]:
        """Rows to copy from, their features, and for each copy of `shard` its place among them."""
        elsewhere: dict[str, list[tuple[int, int]]] = {}  # shard -> (place in copies, row)
        places = np.empty(len(shard.copies), np.int64)
        for at, copy in enumerate(shard.copies):
            content = copy.stat.content_id
            if content in shard.here:
                places[at] = shard.here[content]
            else:
                place = self.known.place(content)
                assert place is not None
                elsewhere.setdefault(place[0], []).append((at, place[1]))
        tables, arrays, count = [images], [features], len(images)
        snapshot = self._writer.store.snapshot() if elsewhere else None
        for name, wanted in elsewhere.items():
            assert snapshot is not None
            if name not in self._compared:  # a copy of a damaged row would look whole
                snapshot.require_undamaged(name)
                self._compared.add(name)
            at, rows = np.array(wanted, np.int64).T
            places[at] = np.arange(count, count + len(rows))
            tables.append(snapshot.rows(name, rows))
            arrays.append(snapshot.feature_map(name)[rows])
            count += len(rows)
        return pa.concat_tables(tables).unify_dictionaries().combine_chunks(), np.concatenate(arrays), places


def _hide(shard: _OpenShard, *places: Shadow | None) -> None:
    shard.shadows += [place for place in places if place is not None]


def _add_failed(shard: _OpenShard, outcome: Failed) -> None:
    found = outcome.task.found
    shard.counts.failed += 1
    shard.counts.failures.append(FailedImage(str(found.key), outcome.kind, outcome.reason))
    is_access = outcome.kind == AccessError.kind
    if is_access and outcome.task.old_access == (found.size, found.mtime_ns, outcome.reason):
        return  # on record already: a file that can never be read must not add a shard a run
    shard.failures.append(
        {
            **key_columns(found.key),
            "size": found.size,
            "mtime_ns": found.mtime_ns,
            "kind": outcome.kind,
            "reason": outcome.reason,
        }
    )
    # what could not be read may still be what it was: its row stays
    _hide(shard, None if is_access else outcome.task.old_image, outcome.task.old_failure)
