"""Built shards into the store: one at a time, in a thread of its own, so that the next one fills meanwhile.

Counts enter the report only once their shard is on disk, so it never claims what a crash could take back.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pfgdata.ingest.builder import Built
from pfgdata.ingest.outcomes import KnownContents
from pfgdata.ingest.report import IngestReport
from pfgdata.records import Progress
from pfgdata.store import StoreWriter, index_tags, merge_shards

__all__ = ["Committer", "finish"]


class Committer:
    """Commits shards for the holder of the store's lock. `settle` at the end, and `close` always.

    What is on disk stands in `committed` (ids), `known`, `report` and `busy` (seconds by stage).
    """

    def __init__(self, writer: StoreWriter, known: KnownContents, report: IngestReport) -> None:
        self._writer = writer
        self.known = known
        self.report = report
        self.committed: list[str] = []
        self.busy: defaultdict[str, float] = defaultdict(float)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pfg-commit")
        self._under_way: Future[Built] | None = None

    def commit(self, build: Callable[[], Built]) -> None:
        """Have what `build` returns committed, once the shard before it is on disk.

        `build` is called in the committing thread: what earlier shards brought is known then.
        """
        self.settle()
        self._under_way = self._thread.submit(self._commit, build)

    def check(self) -> None:
        """Settle if that takes no waiting: a full disk ends the run now, not when the next shard is due."""
        if self._under_way is not None and self._under_way.done():
            self.settle()

    def settle(self) -> None:
        """Wait for the commit under way and bring the report up to date; raises what stopped it."""
        if self._under_way is None:
            return
        under_way = self._under_way
        self._under_way = None
        built = under_way.result()
        self.report.add(built.counts)
        for stage, seconds in built.seconds.items():
            self.busy[stage] += seconds

    def close(self) -> None:
        """Wait for a commit under way."""
        self._thread.shutdown()

    def _commit(self, build: Callable[[], Built]) -> Built:
        begun = time.perf_counter()
        built = build()
        if not built.is_empty:
            meta = self._writer.commit(built.contents)
            self.known.commit(meta.id, built.fresh)
            self.committed.append(meta.id)
            self.busy["write"] += time.perf_counter() - begun
        return built


def finish(
    writer: StoreWriter, committed: Sequence[str], report: IngestReport, *, rows: int, progress: Progress
) -> None:
    """How what commits shards ends: small ones are merged to `rows`, counted and, but for a stop, indexed."""
    merge_shards(writer, committed, rows=rows)
    snapshot = writer.store.snapshot()
    report.shards = len(snapshot.shards)
    if not report.interrupted:
        index_tags(snapshot, progress=progress)
