"""What a reader sees: the committed shards of one moment, less what present shards replace or shadow.

A snapshot takes no lock and never changes; shards are immutable, so its answers stay right while an
ingest commits beside it. Shadows count also when the shard that holds them is itself replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pfgdata.errors import CorruptShardError, StoreError
from pfgdata.files import Disk
from pfgdata.records import CONTENT_ID_BYTES, Selection
from pfgdata.store.few_rows import take_rows
from pfgdata.store.identity import StoreIdentity
from pfgdata.store.layout import FAILURES_SCHEMA, IMAGES_SCHEMA, require_column_name
from pfgdata.store.shadows import read_shadows
from pfgdata.store.shards import (
    ShardMeta,
    list_shards,
    map_array,
    reading,
    removed,
    require_undamaged,
    shard_names,
)
from pfgdata.vocabulary import Vocabulary

__all__ = ["Joined", "ShardView", "Snapshot", "content_ids_of"]

Values: TypeAlias = "pa.ChunkedArray | pa.Array | npt.NDArray[Any]"

_SMALL = 16_384  # rows: to decode 8,192 in threads took twice the CPU time and was no sooner done
_NONE_HIDDEN = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardView:
    """A shard that readers see: `hidden` are the rows of images.parquet that other shards shadow, sorted."""

    id: str
    path: Path
    num_rows: int  # of images.parquet, hidden ones too
    hidden: npt.NDArray[np.int64]
    hidden_failures: npt.NDArray[np.int64]
    meta: ShardMeta
    disk: Disk

    @property
    def images_path(self) -> Path | None:
        """Where to open images.parquet, or None where the shard has only failures or shadows."""
        if not self.num_rows:
            return None
        with reading(self.disk, self.path / "images.parquet") as local:
            return local

    def removed(self) -> StoreError | None:
        """What to raise where gc has removed this shard since; None while it is there."""
        return removed(self.disk, self.path)


@dataclass(frozen=True, slots=True)
class Joined:
    """A column that no shard has: a value for each visible row of a snapshot, in the order of its `images`.

    `values` may be a function that gives them; it is called when a question names the column.
    """

    name: str
    values: Values | Callable[[], Values]

    def read(self, snapshot: Snapshot) -> pa.ChunkedArray:
        """The values. Raises StoreError unless there is one for each visible row of `snapshot`."""
        values = self.values() if callable(self.values) else self.values
        if not isinstance(values, pa.ChunkedArray):
            values = pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values)])
        if len(values) != snapshot.num_images:
            raise StoreError(
                f"column {self.name} has {len(values):,} values, {snapshot.path} shows "
                f"{snapshot.num_images:,} images; give one for each"
            )
        return values


class Snapshot:
    """The visible rows of a store at the moment it was taken."""

    def __init__(
        self,
        store: Path,
        *,
        identity: StoreIdentity,
        vocabulary: Vocabulary,
        cache: dict[str, ShardMeta],
        without: Collection[str] = (),
        disk: Disk,
    ) -> None:
        """See `store` as of now; `without` names shards to look past, as if they were gone."""
        self.path = store
        self.disk = disk
        self.given: tuple[Joined, ...] = ()
        self.feature_dim = identity.feature_dim
        self.vocabulary = vocabulary
        self.score_floor = identity.score_floor  # lower scores are not stored
        self.present, shadows = _as_of_now(disk, store / "shards", cache, without)
        replaced = {target for meta in self.present for target in meta.replaces}
        self.shards = tuple(
            ShardView(
                id=meta.id,
                path=store / "shards" / meta.id,
                num_rows=meta.tables.get("images", 0),
                hidden=shadows.get((meta.id, "images"), _NONE_HIDDEN),
                hidden_failures=shadows.get((meta.id, "failures"), _NONE_HIDDEN),
                meta=meta,
                disk=disk,
            )
            for meta in self.present
            if meta.id not in replaced
        )
        self._views = {view.id: view for view in self.shards}

    @property
    def num_images(self) -> int:
        """Visible rows."""
        return sum(view.num_rows - len(view.hidden) for view in self.shards)

    def with_columns(self, *columns: Joined) -> Snapshot:
        """This snapshot, of which a question can name `columns` too. Raises StoreError for a name taken."""
        for column in columns:
            require_column_name(column.name)
        seen = copy.copy(self)
        seen.given = (*self.given, *columns)
        return seen

    def images(
        self, columns: Sequence[str] | None = None, *, shards: Collection[str] | None = None
    ) -> pa.Table:
        """The visible rows as IMAGES_SCHEMA (or its `columns`), and where they stand: `shard`, `row`.

        Only those of `shards`, if given.
        """
        return self._visible("images", IMAGES_SCHEMA, columns, shards)

    def failures(
        self, columns: Sequence[str] | None = None, *, shards: Collection[str] | None = None
    ) -> pa.Table:
        """The visible failures as FAILURES_SCHEMA, and where they stand: `shard`, `row`."""
        return self._visible("failures", FAILURES_SCHEMA, columns, shards)

    def by_shard(self, table: str, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """What `images` or `failures` give, shard by shard, the latest first: its id and its visible rows."""
        yield from ((view.id, self._visible_part(view, table, columns)) for view in reversed(self.shards))

    def stored(self, shard_id: str, columns: Sequence[str]) -> pa.Table:
        """`columns` of every row of one shard's images.parquet, hidden ones too."""
        return self._read(self._views[shard_id], "images", columns)

    def rows(self, shard_id: str, rows: npt.NDArray[np.int64]) -> pa.Table:
        """The given rows of one shard's images.parquet, in the order given."""
        return self._read(self._views[shard_id], "images", None).take(pa.array(rows))

    def selection(
        self, shard: pa.ChunkedArray, row: pa.ChunkedArray, content_id: pa.ChunkedArray
    ) -> Selection:
        """A Selection from three columns of a result, row by row."""
        codes = pa.chunked_array([pc.cast(chunk, pa.string()) for chunk in shard.chunks], pa.string())
        encoded = codes.combine_chunks().dictionary_encode()
        return Selection(
            content_ids=content_ids_of(content_id),
            shards=tuple(encoded.dictionary.to_pylist()),
            shard_index=encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32),
            rows=row.to_numpy().astype(np.int64),
        )

    def positions(self, selection: Selection) -> npt.NDArray[np.int64]:
        """Where the rows of `selection` stand in the table that `images` returns, int64 [N].

        Raises StoreError when the selection is of another snapshot and a row is no longer visible.
        """
        starts = np.cumsum([0, *(view.num_rows - len(view.hidden) for view in self.shards)])
        order = {view.id: index for index, view in enumerate(self.shards)}
        out = np.empty(len(selection), np.int64)
        for index, shard_id in enumerate(selection.shards):
            mine = selection.shard_index == index
            rows = selection.rows[mine]
            if not len(rows):
                continue
            if shard_id not in self._views or np.isin(rows, self._views[shard_id].hidden).any():
                raise StoreError(f"{self.path}: selected from an older snapshot of the store; select again")
            hidden_before = np.searchsorted(self._views[shard_id].hidden, rows)
            out[mine] = starts[order[shard_id]] + rows - hidden_before
        return out

    @cached_property
    def everything(self) -> Selection:
        """Every visible row, in (shard, row) order."""
        table = self.images(["content_id"])
        return self.selection(table["shard"], table["row"], table["content_id"])

    def bring_features(self, shards: Collection[str]) -> None:
        """Have the features of these shards at hand, where the store lies far away."""
        views = (self._views[shard] for shard in sorted(shards))
        self.disk.ahead(view.path / "features.h5" for view in views if view.num_rows)

    def feature_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """The features of all rows of one shard, float16 [N, F], mapped from disk."""
        view = self._views[shard_id]
        return map_array(self.disk, view.path, view.meta, "feature")

    def require_undamaged(self, shard_id: str) -> None:
        """Raise CorruptShardError unless every byte of a shard is as written; takes about 1 s for 2 GB."""
        view = self._views[shard_id]
        require_undamaged(self.disk, view.path, view.meta)

    def features(self, selection: Selection) -> npt.NDArray[np.float16]:
        """The features of `selection` in its order, float16 [len(selection), F], in memory."""
        out = np.empty((len(selection), self.feature_dim), np.float16)
        for index, shard_id in enumerate(selection.shards):
            mine = np.flatnonzero(selection.shard_index == index)
            if len(mine):
                at = self._views[shard_id]
                out[mine] = take_rows(self.disk, at.path, at.meta, "feature", selection.rows[mine])
        return out

    def _visible(
        self,
        table: str,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        shards: Collection[str] | None,
    ) -> pa.Table:
        wanted = pa.schema([schema.field(name) for name in columns]) if columns is not None else schema
        full = wanted.append(pa.field("shard", pa.dictionary(pa.int32(), pa.string())))
        full = full.append(pa.field("row", pa.int64()))
        views = [view for view in self.shards if shards is None or view.id in shards]
        self.disk.ahead(view.path / f"{table}.parquet" for view in views if table in view.meta.tables)
        parts = [self._visible_part(view, table, wanted.names).cast(full) for view in views]
        return pa.concat_tables([full.empty_table(), *parts])

    def _visible_part(self, view: ShardView, table: str, columns: Sequence[str]) -> pa.Table:
        hidden = view.hidden if table == "images" else view.hidden_failures
        count = view.meta.tables.get(table, 0)
        rows = np.delete(np.arange(count), hidden)
        part = self._read(view, table, columns) if count else _schema_of(table, columns).empty_table()
        if len(hidden):
            part = part.take(pa.array(rows))
        shard = pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int32), [view.id])
        return part.append_column("shard", shard).append_column("row", pa.array(rows))

    def _read(self, view: ShardView, table: str, columns: Sequence[str] | None) -> pa.Table:
        path = view.path / f"{table}.parquet"
        return _read_table(self.disk, path, table, columns, rows=view.meta.tables[table])


def _as_of_now(
    disk: Disk, folder: Path, cache: dict[str, ShardMeta], without: Collection[str]
) -> tuple[tuple[ShardMeta, ...], dict[tuple[str, str], npt.NDArray[np.int64]]]:
    """The committed shards of one moment, and what they hide.

    A folder is not listed at once: while shards come and go, a list may have a late one and lack an early
    one. Two lists with the same names around the reading prove that it had all of one moment.
    """
    names = shard_names(disk, folder)
    while True:
        try:
            wanted = [name for name in names if name not in without]
            shards = list_shards(disk, folder, wanted, cache=cache)
            hidden = read_shadows(disk, folder, shards)
        except CorruptShardError:
            before, names = names, shard_names(disk, folder)
            if names == before:  # else gc may have removed what was being read
                raise
            continue
        before, names = names, shard_names(disk, folder)
        if names == before:
            return tuple(shards), hidden


def content_ids_of(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """A content_id column (UUID) as uint8 [N, 16]."""
    parts = [chunk.storage if hasattr(chunk, "storage") else chunk for chunk in column.chunks]
    flat = [_fixed_bytes(part) for part in parts]
    return np.concatenate(flat) if flat else np.empty((0, CONTENT_ID_BYTES), np.uint8)


def _read_table(disk: Disk, path: Path, table: str, columns: Sequence[str] | None, *, rows: int) -> pa.Table:
    """The `columns` (None: all) of a file of `rows` rows; a damaged one may well seem to have others."""
    schema = _schema_of(table, columns)
    with (
        reading(disk, path) as local,
        pq.ParquetFile(local) as file,
    ):  # in three fifths of what read_table takes
        found = file.read(schema.names, use_threads=rows > _SMALL)
        if found.num_rows != rows:
            raise ValueError(f"{found.num_rows} rows, shard.json says {rows}")
        return found.cast(schema)


def _schema_of(table: str, columns: Sequence[str] | None) -> pa.Schema:
    schema = IMAGES_SCHEMA if table == "images" else FAILURES_SCHEMA
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def _fixed_bytes(part: Any) -> npt.NDArray[np.uint8]:
    buffer = part.buffers()[1]
    if not buffer:
        return np.empty((0, CONTENT_ID_BYTES), np.uint8)
    whole = np.frombuffer(buffer, np.uint8).reshape(-1, CONTENT_ID_BYTES)
    return whole[part.offset : part.offset + len(part)]
