"""One store while it is browsed: the snapshot that is shown, its session, and the selections that were made.

What is shown is of one moment. `renew` takes the next, when the page is loaded again and shards have come.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.query import DEFAULT_LIMITS, Limits, Question, Session, Thresholds, locations
from pfgdata.store import Snapshot, Store
from pfgdata.web.ask import Ask
from pfgdata.web.catalog import Catalog, Rows

__all__ = ["Desk", "DeskOptions", "Kept", "Shown"]

_KEPT = 8  # selections: 20 MB of 600,000 rows each


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskOptions:
    """How a store is browsed: the thresholds that an ask may leave out, what a question may take."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    limits: Limits = DEFAULT_LIMITS
    thumbnails: int = 2 * 2**30  # bytes of the cache, 0: none
    follow_links: bool = False  # out of the corpus, to images by their content


class Shown:
    """One moment of a store: its snapshot, the session that asks it, and what is known of its rows."""

    def __init__(self, store: Store, options: DeskOptions) -> None:
        self.snapshot: Snapshot = store.snapshot()
        self.roots = store.roots()
        self.places = locations(self.roots, start=Path.cwd())
        self.session = Session(
            self.snapshot, thresholds=options.thresholds, roots=self.places, limits=options.limits
        )
        self._loading = threading.Lock()

    @property
    def version(self) -> str:
        """What changes when rows come or go."""
        return self.snapshot.present[-1].id if self.snapshot.present else ""

    @property
    def catalog(self) -> Catalog:
        """Loaded by the first that asks; others wait."""
        with self._loading:
            return self._catalog

    @cached_property
    def _catalog(self) -> Catalog:
        return Catalog(self.snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A selection as the page asks for parts of it: its rows in order."""

    ask: Ask
    shown: Shown
    rows: Rows


class Desk:
    """A store, open for a page. Safe for threads. Raises QueryError for thresholds below the floor."""

    def __init__(self, store: Store, options: DeskOptions) -> None:
        self.store = store
        self.options = options
        self.shown = Shown(store, options)
        options.thresholds.require(self.shown.snapshot.score_floor)
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()
        self.writing = threading.Lock()  # one at a time: the store refuses a second writer

    def renew(self) -> bool:
        """Show the store as it is now, where its shards have changed; whether they have."""
        with self._lock:
            now = self.store.snapshot()
            if [meta.id for meta in now.present] == [meta.id for meta in self.shown.snapshot.present]:
                return False
            before, self.shown = self.shown, Shown(self.store, self.options)
            self._kept.clear()
        before.session.close()
        return True

    def select(self, ask: Ask) -> dict[str, Any]:
        """Ask, keep the rows, and say what came: see docs/browse.md. Raises QueryError as a session does."""
        begun, shown = time.perf_counter(), self.shown
        question = ask.question(shown.snapshot)
        rows = self.rows_of(shown, question, ask.thresholds)
        name = secrets.token_hex(8)
        with self._lock:
            if shown is self.shown:
                self._kept[name] = Kept(ask=ask, shown=shown, rows=rows)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return {
            "id": name,
            "count": len(rows),
            "contents": shown.catalog.contents(rows),
            "seconds": round(time.perf_counter() - begun, 4),
            "where": question.condition,
            "notes": list(question.notes),
            "commands": ask.commands(question, self.store.path),
            "order": question.order,
            "limit": question.limit,
        }

    def rows_of(self, shown: Shown, question: Question, thresholds: Thresholds) -> Rows:
        """The rows that `question` asks for, in its order; of none, the corpus's."""
        if question == Question():
            thresholds.require(shown.snapshot.score_floor)
            return shown.catalog.in_order(np.arange(len(shown.catalog)))
        places = shown.session.places(replace(question, notes=()), thresholds=thresholds)
        return places.astype(np.uint32) if question.order else shown.catalog.in_order(places)

    def count(self, ask: Ask) -> dict[str, Any]:
        """How many rows an ask has."""
        begun = time.perf_counter()
        question = ask.question(self.shown.snapshot)
        count = self.shown.session.count(question, thresholds=ask.thresholds)
        return {"count": count, "seconds": round(time.perf_counter() - begun, 4)}

    def kept(self, name: str) -> Kept | None:
        """The selection of that id; None where it was let go."""
        with self._lock:
            found = self._kept.get(name)
            if found is not None:
                self._kept.move_to_end(name)
            return found
