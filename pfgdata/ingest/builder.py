"""From scored batches to what a shard holds: no store, no thread, and no clock but the one that is passed in.

Rows to copy are asked of a function, so where they lie is not the builder's business: it may work on another
machine than the one that commits, and what it builds travels.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.errors import AccessError
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.outcomes import Copied, Failed, Scored, Tagged
from pfgdata.ingest.report import FailedImage, IngestReport
from pfgdata.ingest.rows import RowColumns, stat_columns
from pfgdata.ingest.tasks import Task
from pfgdata.store import (
    PLANNED_SCHEMA,
    Shadow,
    ShardContents,
    StoreIdentity,
    failures_table,
    installed_versions,
    key_columns,
)
from pfgdata.taggers import Tagger
from pfgdata.vocabulary import Vocabulary

__all__ = ["Built", "RowsOf", "ShardBuilder", "filled", "made_by"]

_PACKAGES = (  # what decides pixels and scores
    "pfg",
    "numpy",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "h5py",
)

# Of each content_id that has a row elsewhere, in their order: the row, and its feature float16 [N, F].
RowsOf = Callable[[Sequence[bytes]], tuple[pa.Table, npt.NDArray[np.float16]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A shard to commit, or only counts where it has no rows. It pickles."""

    contents: ShardContents
    fresh: Mapping[bytes, int]  # content_ids that were tagged -> their rows
    planned: pa.Table  # PLANNED_SCHEMA: what the plan saw under the key of each image, then of each failure
    counts: IngestReport  # tagged, copied, unchanged, failed and failures
    seconds: Mapping[str, float]  # by stage, and from its first batch to its last as `total`

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not len(self.contents.images) + len(self.contents.failures)


class ShardBuilder:
    """Gathers outcomes in corpus order for one shard; its length is that of its rows and failures.

    Add to `seconds` what the caller measures: it goes on record with the shard.
    """

    def __init__(
        self, identity: StoreIdentity, vocabulary: Vocabulary, *, rows_of: RowsOf, facts: Mapping[str, Any]
    ) -> None:
        """For a store of that identity; `facts` say who builds."""
        self._width = identity.feature_dim
        self._rows_of = rows_of
        self._facts = facts
        self._columns = RowColumns(vocabulary, floor=identity.score_floor)  # of the tagged images
        self._here: dict[bytes, int] = {}  # content_id -> its row in columns
        self._copies: list[Copied] = []
        self._order: list[int] = []  # a row of columns, or -1 - a position in copies
        self._failures: list[dict[str, Any]] = []
        self._row_tasks: list[Task] = []  # of each row, in order
        self._failure_tasks: list[Task] = []  # of each failure
        self._shadows: list[Shadow] = []
        self._counts = IngestReport()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __len__(self) -> int:
        return len(self._order) + len(self._failures)

    def add(self, batch: Scored) -> None:
        """Take the next outcomes in corpus order."""
        tagged: list[Tagged] = []
        for outcome in batch.outcomes:
            if isinstance(outcome, Tagged):
                row = len(self._columns) + len(tagged)
                self._here[outcome.stat.content_id] = row
                self._order.append(row)
                self._row_tasks.append(outcome.task)
                tagged.append(outcome)
                self._hide(outcome.task.old_image, outcome.task.old_failure)
            elif isinstance(outcome, Copied):
                self._copies.append(outcome)
                self._order.append(-len(self._copies))
                self._row_tasks.append(outcome.task)
                self._hide(outcome.task.old_image, outcome.task.old_failure)
            elif isinstance(outcome, Failed):
                self._add_failed(outcome)
            else:
                self._counts.unchanged += 1
        self._columns.add(tagged, batch)
        self._counts.tagged += len(tagged)
        for stage, value in batch.seconds.items():
            self.seconds[stage] += value

    def build(self) -> Built:
        """All that was gathered; asks for the rows of contents that it copies and has not tagged itself."""
        self._counts.copied = len(self._copies)
        images, features = self._rows()
        seconds = {stage: round(value, 3) for stage, value in self.seconds.items()}
        rows = {row: at for at, row in enumerate(self._order)}
        return Built(
            contents=ShardContents(
                images=images,
                features=features,
                failures=failures_table(self._failures),
                shadows=tuple(self._shadows),
                writer={**self._facts, "images": len(self), "seconds": seconds},
            ),
            planned=self._planned(),
            fresh={content: rows[row] for content, row in self._here.items()},
            counts=self._counts,
            seconds=dict(self.seconds),
        )

    def _planned(self) -> pa.Table:
        """What the plan saw under each key, as Built has it."""
        tasks = self._row_tasks + self._failure_tasks
        images = [task.image_stat or (None, None) for task in tasks]
        failures = [task.failure_stat or (None, None) for task in tasks]
        columns = [
            [row < 0 for row in self._order] + [False] * len(self._failure_tasks),
            *([stat[part] for stat in stats] for stats in (images, failures) for part in (0, 1)),
        ]
        return pa.table(columns, schema=PLANNED_SCHEMA)

    def _rows(self) -> tuple[pa.Table, npt.NDArray[np.float16]]:
        """The rows and features, those of copies from the rows they copy."""
        images, features = self._columns.table(), self._columns.features(self._width)
        if not self._copies:
            return images, features
        contents = [copy.stat.content_id for copy in self._copies]
        elsewhere = [content for content in contents if content not in self._here]
        sources, source_features = images, features
        if elsewhere:
            rows, row_features = self._rows_of(elsewhere)
            sources = pa.concat_tables([images, rows]).unify_dictionaries().combine_chunks()
            source_features = np.concatenate([features, row_features])
        numbers = iter(range(len(images), len(sources)))
        positions = np.array([self._here[one] if one in self._here else next(numbers) for one in contents])
        own = stat_columns([c.task.found.key for c in self._copies], [c.stat for c in self._copies])
        copies = sources.take(pa.array(positions))
        for name, values in own.items():
            copies = copies.set_column(copies.column_names.index(name), copies.schema.field(name), values)
        order = np.array(self._order, np.int64)
        order = np.where(order < 0, len(images) - 1 - order, order)
        both = pa.concat_tables([images, copies]).unify_dictionaries().combine_chunks()
        return both.take(pa.array(order)), np.concatenate([features, source_features[positions]])[order]

    def _hide(self, *shadows: Shadow | None) -> None:
        self._shadows += [shadow for shadow in shadows if shadow is not None]

    def _add_failed(self, outcome: Failed) -> None:
        found = outcome.task.found
        self._counts.failed += 1
        self._counts.failures.append(FailedImage(str(found.key), outcome.kind, outcome.reason))
        is_access = outcome.kind == AccessError.kind
        if is_access and outcome.task.old_access == (found.size, found.mtime_ns, outcome.reason):
            return  # on record already: a file that can never be read must not add a shard a run
        self._failure_tasks.append(outcome.task)
        self._failures.append(
            {
                **key_columns(found.key),
                "size": found.size,
                "mtime_ns": found.mtime_ns,
                "kind": outcome.kind,
                "reason": outcome.reason,
            }
        )
        # what could not be read may still be what it was: its row stays
        self._hide(None if is_access else outcome.task.old_image, outcome.task.old_failure)


def made_by(tagger: Tagger, options: IngestOptions) -> dict[str, Any]:
    """The facts on record with what `tagger` makes here."""
    return {
        "what": "ingest",
        "tagger": tagger.identity.name,
        "provider": tagger.provider,
        "precision": tagger.precision,
        "decode": options.decode,
        "batch_size": options.batch_size,
        "versions": installed_versions(_PACKAGES),
    }


def filled(
    batches: Iterable[Scored],
    begin: Callable[[], ShardBuilder],
    *,
    rows: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[ShardBuilder]:
    """Builders made by `begin`, each once it has about `rows` or is `seconds` old; the last as it stands."""
    builder, since = begin(), clock()
    for batch in batches:
        begun = clock()
        builder.add(batch)
        now = clock()
        builder.seconds["write"] += now - begun
        if len(builder) >= rows or (len(builder) and now - since >= seconds):
            builder.seconds["total"] = now - since
            yield builder
            builder, since = begin(), clock()
    builder.seconds["total"] = clock() - since
    yield builder
