"""Facets: how many rows of a selection have each value, within 200 ms or from a sample, which is said.

Values stand as codes in memory (columns.py); tags are counted by the store's index (tag_counts.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.errors import PfgError, QueryError
from pfgdata.query import in_sql, means_column, quoted
from pfgdata.records import did_you_mean, nearest
from pfgdata.web.catalog import Rows
from pfgdata.web.columns import (
    Coded,
    Listed,
    Value,
    by_bucket,
    by_megapixels,
    coded,
    of_numbers,
    of_texts,
    tag_of,
)
from pfgdata.web.desk import Desk, Kept, Shown
from pfgdata.web.own import OwnColumns
from pfgdata.web.tag_counts import TagCounts

__all__ = ["Facets"]

_MOST_VALUES = 50  # told of a facet
_LISTED = 8_000_000  # items of a column of lists that are held; of more, those of a sample
_LETTERS = {"general": "g", "sensitive": "s", "questionable": "q", "explicit": "e"}

Counts = npt.NDArray[np.int64]


class Facets:
    """The facets of one moment of a store; each column is loaded when it is first asked for."""

    def __init__(self, desk: Desk, shown: Shown) -> None:
        self._desk = desk
        self._shown = shown
        self._lock = threading.Lock()
        self._columns: dict[str, Coded | Listed] = {}
        self.tags = TagCounts(shown)
        self.own = OwnColumns(shown.snapshot)

    def forget_own(self) -> None:
        """Read the user's columns anew: they may have been attached again."""
        self.own.forget()
        with self._lock:
            for name in set(self._columns) - set(self._own_makers()):
                del self._columns[name]

    def warm(self) -> None:
        """Load what the first page asks for."""
        for name in self._own_makers():
            self._column(name)
        self.tags.totals(self._desk.options.thresholds)

    def answer(self, name: str, kept: Kept) -> dict[str, Any]:
        """The facet called `name` of a selection. Raises QueryError for a name that is none."""
        begun = time.perf_counter()
        sample: int | None = None
        values: Sequence[Value]
        if name == "tags":
            counts, sample = self.tags.of(kept.rows, kept.ask.thresholds)
            counts = self._only_general(counts)
            kind, values = "values", self._tag_values
        else:
            column = self._column(name)
            if isinstance(column, Listed):
                counts, sample = _of_listed(column, kept.rows, len(self._shown.catalog))
                kind, values = "values", column.values
            else:
                counts, kind, values = column.counts(kept.rows), column.kind, column.values
            if name == "character":
                counts = self._over(kept, column)
        return {
            "facet": name,
            "kind": kind,
            "total": len(kept.rows),
            "approximate": None if sample is None else {"sample": sample},
            **_shown_values(counts, values, ordered=kind == "ranges"),
            "seconds": round(time.perf_counter() - begun, 4),
        }

    def values(self, name: str) -> list[tuple[str, int]]:
        """The texts of a column and how many rows have each, the most frequent first; of others none."""
        try:
            column = self._column(name)
        except PfgError:
            return []
        counts = np.bincount(column.codes, minlength=len(column.values))
        order = np.argsort(-counts, kind="stable").tolist()
        told = [(column.values[code].value, int(counts[code])) for code in order]
        return [(value, count) for value, count in told if isinstance(value, str)]

    def _own_makers(self) -> dict[str, Callable[[], Coded]]:
        """The facets that every store has."""
        catalog = self._shown.catalog
        return {
            "rating": self._rating,
            "character": lambda: self._of_store("character"),
            "format": lambda: self._of_store("format"),
            "size": lambda: by_megapixels(catalog.width, catalog.height),
            "bucket": lambda: by_bucket(catalog.width, catalog.height, self._buckets()),
        }

    def _column(self, name: str) -> Coded | Listed:
        with self._lock:
            if name not in self._columns:
                makers = self._own_makers()
                self._columns[name] = makers[name]() if name in makers else self._of_user(name)
            return self._columns[name]

    def _rating(self) -> Coded:
        found = self._of_store("rating")
        letters = {one: f"rating:{letter}" for one, letter in _LETTERS.items()}
        values = [replace(one, add_tag=letters.get(one.value)) for one in found.values]
        return Coded(kind="values", codes=found.codes, values=values)

    def _of_store(self, name: str) -> Coded:
        codes, meanings = coded(self._shown.snapshot.images([name])[name])
        return Coded(kind="values", codes=codes, values=of_texts(name, meanings))

    def _of_user(self, name: str) -> Coded | Listed:
        known = self.own.known()
        if name not in known:
            names = [*self._own_makers(), "tags", *known]
            raise QueryError(f"no facet {name}; {did_you_mean(nearest(name, names), ', '.join(names))}")
        column = _of_column(name, self.own.values(name))
        if means_column(name):
            return column
        return replace(column, values=[replace(one, add_tag=None) for one in column.values])

    def _buckets(self) -> tuple[tuple[int, int], ...] | None:
        sets = self._desk.store.latent_sets()
        return sets[-1].info.buckets if sets else None

    @cached_property
    def _character_scores(self) -> npt.NDArray[np.float32]:
        """The score of each row's best character, -1 where it has none."""
        scores = self._shown.snapshot.images(["character_score"])["character_score"]
        return pc.fill_null(scores.cast(pa.float32()), -1).to_numpy()

    def _over(self, kept: Kept, column: Coded | Listed) -> Counts:
        """Counts of best characters whose score reaches the threshold; others have none."""
        assert isinstance(column, Coded)
        counts = kept.rows[self._character_scores[kept.rows] >= kept.ask.thresholds.stored("character")]
        found = column.counts(counts)
        found[-1] += len(kept.rows) - int(found.sum())
        return found

    def _only_general(self, counts: Counts) -> Counts:
        out = np.zeros_like(counts)
        general = self._shown.snapshot.vocabulary.general_ids
        out[general] = counts[general]
        return out

    @cached_property
    def _tag_values(self) -> list[Value]:
        names = self._shown.snapshot.vocabulary.names
        return [
            Value(
                label=one,
                value=one,
                add=f"has({quoted(one)})",
                add_tag=None if len(one.split()) > 1 or one.lower() == "or" else one,  # no word of tags
            )
            for one in names
        ]


def _shown_values(counts: Counts, values: Sequence[Value], *, ordered: bool) -> dict[str, Any]:
    """The values that some row has, the most frequent first; ranges all, in their own order."""
    order = np.arange(len(counts)) if ordered else np.argsort(-counts, kind="stable")
    there = order[counts[order] > 0]
    shown = there if ordered else there[:_MOST_VALUES]
    return {
        "values": [
            {
                "label": values[code].label,
                "value": values[code].value,
                "count": int(counts[code]),
                "add": values[code].add,
                "add_tag": values[code].add_tag,
            }
            for code in shown.tolist()
        ],
        "more": len(there) - len(shown),
    }


def _of_listed(column: Listed, rows: Rows, total: int) -> tuple[Counts, int | None]:
    """How many of `rows` have each value of a column of lists, and of how many rows it was told."""
    wanted = np.zeros(total, np.bool_)
    wanted[rows] = True
    inside = wanted[column.rows]
    found = np.bincount(column.codes[inside[column.owner]], minlength=len(column.values)).astype(np.int64)
    if len(column.rows) == total:
        return found, None
    size = int(inside.sum())
    return np.rint(found * (len(rows) / max(size, 1))).astype(np.int64), size


def _of_column(name: str, values: pa.ChunkedArray) -> Coded | Listed:
    """A column of the user as codes. Raises QueryError for a type that has no facet."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _of_lists(name, values)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return of_numbers(name, values)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        codes, meanings = coded(values)
        return Coded(kind="values", codes=codes, values=of_texts(name, meanings))
    raise QueryError(f"{name}: is of type {kind}, which has no facet")


def _of_lists(name: str, values: pa.ChunkedArray) -> Listed:
    """A column of lists of texts; of very many items those of a sample of the rows."""
    rows = np.arange(len(values), dtype=np.uint32)
    count = int(pc.sum(pc.list_value_length(values)).as_py() or 0)
    if count > _LISTED:
        size = max(1, int(len(values) * _LISTED / count))
        rows = np.sort(np.random.default_rng(0).choice(len(values), size, replace=False)).astype(np.uint32)
        values = values.take(pa.array(rows))
    whole = values.combine_chunks()
    items, owner = pc.list_flatten(whole), pc.list_parent_indices(whole).to_numpy().astype(np.uint32)
    owner = owner[items.is_valid().to_numpy(zero_copy_only=False)]
    codes, meanings = coded(pa.chunked_array([items.drop_null()]))
    pairs = np.unique(owner.astype(np.uint64) * len(meanings) + codes)  # a value twice in a list is one
    owner, codes = (pairs // len(meanings)).astype(owner.dtype), (pairs % len(meanings)).astype(codes.dtype)
    column = in_sql(name)
    told = [
        Value(
            label=str(one),
            value=one,
            add=f"list_contains({column}, {quoted(str(one))})",
            add_tag=tag_of(name, str(one)),
        )
        for one in meanings
    ]
    return Listed(rows=rows, owner=owner, codes=codes, values=told)
