"""A store drawn by chance with everything a report counts, and the report of a store."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.query import QueryJob
from pfgdata.records import Progress
from pfgdata.report import ReportOptions, StoreReport, report_store
from pfgdata.store import Shadow, ShardContents, Store, failures_table, images_table
from tests.doubles import CHARACTERS, GENERAL_TAGS, RATINGS
from tests.pfgdata.query.rows import ROOT, row, store_of

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
VOID = {"img", "meta", "hr"}


def report_of(
    store: Store,
    where: str | None = None,
    *,
    tags: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> StoreReport:
    """What the command gathers."""
    job = QueryJob(expression=where, tags=tags)
    with job.session(store) as session:
        return report_store(
            store,
            session,
            job.question(session.snapshot),
            options=ReportOptions(**options),
            now=NOW,
            progress=progress,
        )


def drawn_row(chance: np.random.Generator, name: str) -> dict[str, Any]:
    """A row of random tags, scores (0.05 and 1.0 among them), sizes and format."""
    names = [one for one in (*GENERAL_TAGS, *CHARACTERS) if chance.random() < 0.6]
    scores = [
        float(np.float16(chance.choice([0.05, 0.35, 0.85, 1.0, chance.uniform(0.05, 1)]))) for _ in names
    ]
    ratings = dict(zip(RATINGS, chance.uniform(0.01, 1, 4).tolist(), strict=True))
    return row(
        name,
        {**dict(zip(names, scores, strict=True)), **ratings},
        size=int(chance.integers(1, 10_000)),
        width=int(chance.integers(16, 5000)),
        height=int(chance.integers(16, 5000)),
        format=str(chance.choice(["jpeg", "png"])),
        frames=int(chance.choice([1, 1, 5])),
    )


def failure(name: str, reason: str, kind: str = "content") -> dict[str, Any]:
    """A row of failures."""
    key = {"root": ROOT, "path": name, "member": None, "path_bytes": None, "member_bytes": None}
    return {**key, "size": 3, "mtime_ns": 5, "kind": kind, "reason": reason}


def drawn_store(path: Path, *, rows: int = 120, seed: int = 3) -> Store:
    """Three shards; of the first two the last hides five rows and a failure, and two contents stand twice."""
    chance = np.random.default_rng(seed)
    every = [drawn_row(chance, f"{number:03}.png") for number in range(rows)]
    for number in (7, rows - 2):
        every[number]["content_id"] = every[3]["content_id"]
    every[rows // 2]["content_id"] = every[rows // 2 + 1]["content_id"]
    third = rows // 3
    store = store_of(path, every[:third])
    failed = [
        failure("a.png", "9 x 800, a side under the limit of 16 pixels"),
        failure("b.png", "12 x 7, a side under the limit of 16 pixels"),
        failure("c.png", "empty file"),
        failure("d.png", "permission denied", "access"),
    ]
    with store.writer() as writer:
        first = store.snapshot().shards[0].id
        second = writer.commit(contents(every[third : 2 * third], failed)).id
        hidden = [Shadow(first, "images", n) for n in (0, 3, 9)] + [
            Shadow(second, "images", n) for n in (2, 4)
        ]
        writer.commit(contents(every[2 * third :], shadows=(*hidden, Shadow(second, "failures", 2))))
    return store


def contents(rows: list[dict[str, Any]], failed: Any = (), **more: Any) -> ShardContents:
    """What a shard of those rows holds."""
    features = np.zeros((len(rows), 4), np.float16)
    return ShardContents(
        images=images_table(rows), features=features, failures=failures_table(failed), **more
    )


class Page(HTMLParser):
    """What a reader's browser makes of a page: tags, attributes, text, and the lists of bars."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.bars: dict[str, dict[str, str]] = {}  # title of a card -> name -> value
        self.open: list[str] = []
        self._card = self._name = ""
        self._class: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._class = dict(attrs).get("class")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not data.strip() or self.open[-1:] == ["style"]:
            return
        self.text.append(data.strip())
        if self.open[-1] == "h3":
            self._card = data.strip()
            self.bars.setdefault(self._card, {})
        elif self._class == "name":
            self._name = data
        elif self._class == "value":
            self.bars[self._card][self._name] = data
