"""From outcomes to shards: rows are gathered in corpus order and committed when the shard is due.

Counts enter the report only once their shard is on disk, so the report never claims what a crash could
take back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.errors import AccessError
from pfgdata.ingest.report import FailedImage, IngestReport
from pfgdata.ingest.stages import Copied, Failed, KnownContents, Outcome, Stat, Tagged, Untouched
from pfgdata.records import ImageKey
from pfgdata.store import (
    Shadow,
    ShardContents,
    StoreWriter,
    failures_table,
    images_table,
    key_columns,
)
from pfgdata.vocabulary import Vocabulary

__all__ = ["ShardFiller", "image_row"]


class ShardFiller:
    """Gathers outcomes and commits them as shards of about `rows` rows, or after `seconds`."""

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
        self._begin()

    def _begin(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._features: list[npt.NDArray[np.float16]] = []
        self._here: dict[bytes, int] = {}  # content_id -> place in self._rows
        self._copies: list[tuple[int, Copied]] = []
        self._failures: list[dict[str, Any]] = []
        self._shadows: list[Shadow] = []
        self._counts = IngestReport()
        self._since = time.monotonic()
        self._spent: dict[str, float] = {}

    @property
    def due(self) -> bool:
        """Whether the shard is full or old enough to be committed."""
        count = len(self._rows) + len(self._failures)
        return count >= self._limit or (count > 0 and time.monotonic() - self._since >= self._seconds)

    def add(self, outcome: Outcome) -> None:
        """Take one outcome, the next in corpus order."""
        if isinstance(outcome, Tagged):
            self._add_tagged(outcome)
        elif isinstance(outcome, Copied):
            self._add_copied(outcome)
        elif isinstance(outcome, Failed):
            self._add_failed(outcome)
        else:
            assert isinstance(outcome, Untouched)
            self._counts.unchanged += 1

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Note what the stages of the outcomes added last took, by stage; it goes into the shard's record."""
        for stage, value in seconds.items():
            self._spent[stage] = round(self._spent.get(stage, 0.0) + value, 3)

    def commit(self) -> None:
        """Write what was gathered as one shard, if anything was, and add it to the report."""
        if self._rows or self._failures:
            self._resolve_copies()
            width = self._writer.store.identity.feature_dim
            meta = self._writer.commit(
                ShardContents(
                    images=images_table(self._rows),
                    features=np.array(self._features, np.float16).reshape(-1, width),
                    failures=failures_table(self._failures),
                    shadows=tuple(self._shadows),
                    writer={**self._facts, "seconds": self._spent},
                )
            )
            self.committed.append(meta.id)
            self.known.new.update({content: (meta.id, row) for content, row in self._here.items()})
        for name in ("tagged", "copied", "unchanged", "failed"):
            setattr(self.report, name, getattr(self.report, name) + getattr(self._counts, name))
        self.report.failures += self._counts.failures
        self._begin()

    def _add_tagged(self, outcome: Tagged) -> None:
        store = self._writer.store
        self._here[outcome.stat.content_id] = len(self._rows)
        self._rows.append(image_row(outcome, store.vocabulary, floor=store.identity.score_floor))
        self._features.append(outcome.feature.astype(np.float16))
        self._hide(outcome.task.old_image, outcome.task.old_failure)
        self._counts.tagged += 1

    def _add_copied(self, outcome: Copied) -> None:
        self._copies.append((len(self._rows), outcome))
        self._rows.append({})
        self._features.append(np.empty(0, np.float16))
        self._hide(outcome.task.old_image, outcome.task.old_failure)
        self._counts.copied += 1

    def _add_failed(self, outcome: Failed) -> None:
        found = outcome.task.found
        self._counts.failed += 1
        self._counts.failures.append(FailedImage(str(found.key), outcome.kind, outcome.reason))
        is_access = outcome.kind == AccessError.kind
        if is_access and outcome.task.old_access == (found.size, found.mtime_ns, outcome.reason):
            return  # on record already: a file that can never be read must not add a shard a run
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

    def _hide(self, *places: Shadow | None) -> None:
        self._shadows += [place for place in places if place is not None]

    def _resolve_copies(self) -> None:
        """Fill the rows of copies from the rows they copy, shard by shard."""
        elsewhere: dict[str, list[tuple[int, Copied, int]]] = {}
        for at, copy in self._copies:
            content = copy.stat.content_id
            if content in self._here:
                self._fill(at, copy, self._rows[self._here[content]], self._features[self._here[content]])
            else:
                place = self.known.place(content)
                assert place is not None
                elsewhere.setdefault(place[0], []).append((at, copy, place[1]))
        if not elsewhere:
            return
        snapshot = self._writer.store.snapshot()
        for shard, copies in elsewhere.items():
            rows = np.array([row for _, _, row in copies], np.int64)
            features = snapshot.feature_map(shard)[rows]
            sources = snapshot.rows(shard, rows).to_pylist()
            for (at, copy, _), source, feature in zip(copies, sources, features, strict=True):
                self._fill(at, copy, source, feature)

    def _fill(
        self, at: int, copy: Copied, source: Mapping[str, Any], feature: npt.NDArray[np.float16]
    ) -> None:
        self._rows[at] = {**source, **_stat_columns(copy.task.found.key, copy.stat)}
        self._features[at] = feature


def image_row(outcome: Tagged, vocabulary: Vocabulary, *, floor: float) -> dict[str, Any]:
    """The row of images.parquet for a scored image: every tag that scores at least `floor`, best first."""
    scores, pixels = outcome.scores, outcome.pixels
    ratings = scores[vocabulary.rating_ids]
    tags = np.concatenate([vocabulary.general_ids, vocabulary.character_ids])
    tags = _best_first(scores, tags[scores[tags] >= floor])
    characters = _best_first(scores, vocabulary.character_ids)
    best = int(characters[0]) if len(characters) and scores[characters[0]] >= floor else None
    return {
        **_stat_columns(outcome.task.found.key, outcome.stat),
        "width": pixels.width,
        "height": pixels.height,
        "format": pixels.format,
        "frames": pixels.frames,
        "phash": pixels.phash,
        "rating": vocabulary.names[vocabulary.rating_ids[int(np.argmax(ratings))]],
        "rating_scores": ratings.astype(np.float16).tolist(),
        "character": vocabulary.names[best] if best is not None else None,
        "character_score": np.float16(scores[best]) if best is not None else None,
        "tag_ids": tags.tolist(),
        "tag_scores": scores[tags].astype(np.float16).tolist(),
    }


def _best_first(scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return ids[np.argsort(-scores[ids], kind="stable")]


def _stat_columns(key: ImageKey, stat: Stat) -> dict[str, Any]:
    return {
        **key_columns(key),
        "content_id": stat.content_id,
        "size": stat.size,
        "mtime_ns": stat.mtime_ns,
    }
