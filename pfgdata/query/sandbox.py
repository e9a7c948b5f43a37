"""A DuckDB that can read the Parquet files of one snapshot and nothing else.

Only the files themselves are allowed (`allowed_paths`): with the store folder allowed, COPY and ATTACH
could still write into it. On top of that, only checked SELECTs are run here.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from pfgdata.errors import CorruptShardError, QueryError, StoreError, refused_by_system
from pfgdata.query.columns import RAW_COLUMNS, SHARDS, SOURCE, STARTS, quoted
from pfgdata.query.limits import Limits, answered, too_much_memory
from pfgdata.store import ShardView, bring_files, raise_file_limit

__all__ = ["Sandbox", "first_line"]

T = TypeVar("T")
_PLACE = {"_file": "file_index", "_row": "file_row_number"}  # of a joined table -> of the view
_PARSED = 64  # texts whose tree is kept: our own frames are asked for again and again, 1 ms each
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Sandbox:
    """One DuckDB connection with the view `images`: the visible rows of `shards`, RAW_COLUMNS."""

    def __init__(
        self, shards: Sequence[ShardView], *, variables: Mapping[str, Sequence[str | None]], limits: Limits
    ) -> None:
        bring_files(shards, "images.parquet")
        self.shards = tuple(shard for shard in shards if shard.images_path is not None)
        self._limits = limits
        self._running: Future[Any] | None = None
        self._given_up = False
        self._joined: list[str] = []
        self._bits: set[str] = set()
        self._defined: dict[str, str] = {}  # name -> VIEW or TABLE
        self._parsed: dict[str, str] = {}
        raise_file_limit()  # DuckDB holds every file that it reads
        self._connection = duckdb.connect(":memory:")
        try:
            self._memory = self._limit_memory()
            self._define_hidden()
            self._lock()
            for name, values in variables.items():
                self._connection.execute(f"SET VARIABLE {name} = ?", [list(values)])
            ids = [shard.id for shard in self.shards]
            self._connection.execute(f"SET VARIABLE {SHARDS} = ?::VARCHAR[]", [ids])
            starts = np.cumsum([0, *(shard.num_rows for shard in self.shards)])
            self._connection.execute(f"SET VARIABLE {STARTS} = ?", [starts.tolist()])
            self._connection.execute(f"CREATE TEMP VIEW {SOURCE} AS {self._source()}")
        except duckdb.Error as problem:
            self._connection.close()
            raise self._removed() or _unreadable(problem) from problem

    def close(self) -> None:
        """Close the connection, of a query that was given up as soon as it ends."""
        if self._running is None:
            self._connection.close()
        else:
            self._running.add_done_callback(lambda _: self._connection.close())

    @property
    def busy(self) -> bool:
        """Whether a query that was given up still runs here: ask another sandbox."""
        return self._running is not None and not self._running.done()

    def run(self, work: Callable[[], T]) -> T:
        """What `work()` answers by this sandbox, within its limits. Raises QueryError where they end it.

        What was joined to the view before is gone.
        """

        def afresh() -> T:
            self._part()
            return work()

        self._given_up = False
        running: Future[T] = Future()
        self._running = running
        return answered(
            running,
            afresh,
            seconds=self._limits.seconds,
            memory=self._memory,
            interrupt=self.give_up,
        )

    def give_up(self) -> None:
        """End the query that another thread runs, as soon as DuckDB heeds it."""
        self._given_up = True
        with contextlib.suppress(duckdb.ConnectionException):  # closed meanwhile
            self._connection.interrupt()

    def join(self, columns: Mapping[str, pa.ChunkedArray], scores: pa.Table | None = None) -> None:
        """Give the view `columns` too: a value for each visible row, in the order of `shards` and rows.

        And those of `scores`, which says by `_file` and `_row` whose they are; other rows have null.
        """
        tables = [self._placed(columns)] if columns else []
        tables += [] if scores is None else [scores]
        names = [name for table in tables for name in table.column_names if name not in _PLACE]
        if names == self._joined:
            return
        try:
            source = f"({self._source()})"
            for number, table in enumerate(tables):
                self._keep(f"joined_{number}", table)
                same = " AND ".join(f"joined_{number}.{a} = {b}" for a, b in _PLACE.items())
                source += f" LEFT JOIN joined_{number} ON {same}"
            wanted = ", ".join([*RAW_COLUMNS, *(f'"{name}"' for name in names)])
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {SOURCE} AS SELECT {wanted} FROM {source}")
            self._joined = names
        except duckdb.NotImplementedException as problem:
            kinds = ", ".join(f"{name} ({values.type})" for name, values in columns.items())
            raise QueryError(f"DuckDB has no type for a column of these: {kinds}") from problem
        except duckdb.Error as problem:
            raise self._explained(problem) from problem

    def keep_bits(self, variables: Mapping[str, bytes]) -> None:
        """Set variables of type BIT for this question."""
        for name, bits in variables.items():
            self._connection.execute(f"SET VARIABLE {name} = ?::BLOB::BIT", [bits])
            self._bits.add(name)

    def define(self, name: str, source: str | pa.Table) -> None:
        """Make a view of a query that we wrote, or a table of an Arrow table, for this question."""
        try:
            if isinstance(source, str):
                self._connection.execute(f"CREATE TEMP VIEW {name} AS {source}")
            else:
                self._keep(name, source)
        except duckdb.Error as problem:
            raise self._explained(problem) from problem
        self._defined[name] = "VIEW" if isinstance(source, str) else "TABLE"

    def parse(self, sql: str) -> dict[str, Any]:
        """The answer of `json_serialize_sql`: a tree, or an error with its byte position; runs nothing."""
        if sql not in self._parsed:
            while len(self._parsed) >= _PARSED:
                self._parsed.pop(next(iter(self._parsed)))
            self._parsed[sql] = self._one("SELECT json_serialize_sql(?::VARCHAR)", sql)
        answer: dict[str, Any] = json.loads(self._parsed[sql])
        return answer

    def write(self, tree: Mapping[str, Any]) -> str:
        """SQL text of a tree made by `parse`, proven to parse to the same tree again."""
        sql = self._one("SELECT json_deserialize_sql(?::JSON)", json.dumps(tree))
        if _without_places(self.parse(sql)) != _without_places(tree):
            raise QueryError("the expression has a form that cannot be rewritten safely; put it more simply")
        return sql

    def type_of(self, sql: str) -> str:
        """The DuckDB type of the one column that the query `sql` answers, or QueryError."""
        try:
            return str(self._connection.execute(f"DESCRIBE {sql}").fetchall()[0][1])
        except duckdb.Error as problem:
            raise self._explained(problem) from problem

    def fetch(self, sql: str) -> pa.Table:
        """Run a checked query. Raises QueryError, or CorruptShardError when a file cannot be read."""
        if self._given_up:  # while it was planned
            raise QueryError("the query was given up")
        try:
            return self._connection.sql(sql).to_arrow_table()
        except duckdb.Error as problem:
            raise self._explained(problem) from problem

    def _part(self) -> None:
        """Take away what was joined and defined for another question."""
        while self._defined:
            name, kind = self._defined.popitem()
            self._connection.execute(f"DROP {kind} {name}")
        if self._joined:
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {SOURCE} AS {self._source()}")
            for number in range(2):
                self._connection.execute(f"DROP TABLE IF EXISTS joined_{number}")
            self._joined = []
        while self._bits:
            self._connection.execute(f"RESET VARIABLE {self._bits.pop()}")

    def _placed(self, columns: Mapping[str, pa.ChunkedArray]) -> pa.Table:
        visible = [np.delete(np.arange(shard.num_rows), shard.hidden) for shard in self.shards]
        return pa.table(  # no name of a column begins with _
            {
                "_file": np.repeat(np.arange(len(visible), dtype=np.uint64), [len(v) for v in visible]),
                "_row": np.concatenate([np.empty(0, np.int64), *visible]),
                **columns,
            }
        )

    def _keep(self, name: str, table: pa.Table) -> None:
        """Make `table` a table of the connection."""
        self._connection.register("given", table)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM given")
        self._connection.unregister("given")

    def _one(self, sql: str, value: str) -> str:
        return str(self._connection.execute(sql, [value]).fetchall()[0][0])

    def _limit_memory(self) -> int:
        """Set what DuckDB counts as its own, and return it in bytes: by default half of what there is."""
        limit = (
            "50%" if self._limits.memory is None else f"{self._limits.memory}B"
        )  # of the container, if in one
        self._connection.execute(f"SET memory_limit = '{limit}'")
        amount, unit = self._one("SELECT current_setting(?::VARCHAR)", "memory_limit").split()
        return self._limits.memory or int(float(amount) * _UNITS[unit])

    def _lock(self) -> None:
        paths = [
            str(shard.images_path) for shard in self.shards
        ]  # DuckDB checks the pattern and what it finds
        files = ", ".join(quoted(path) for path in sorted({*paths, *map(_no_glob, paths)}))
        for setting in (
            "arrow_lossless_conversion = true",  # a UUID stays one
            "parquet_metadata_cache = true",  # of 73 shards, 10 ms a question
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            f"allowed_paths = [{files}]",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def _define_hidden(self) -> None:
        hidden = [shard.hidden for shard in self.shards]
        table = pa.table(
            {
                "hidden_file": np.repeat(np.arange(len(hidden), dtype=np.uint64), [len(h) for h in hidden]),
                "hidden_row": np.concatenate([np.empty(0, np.int64), *hidden]),
            }
        )
        self.hides = table.num_rows > 0
        if self.hides:
            self._keep("hidden", table)

    def _source(self) -> str:
        columns = ", ".join(RAW_COLUMNS)
        if not self.shards:
            nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in RAW_COLUMNS.items())
            return f"SELECT {nothing} WHERE false"
        files = ", ".join(quoted(_no_glob(str(shard.images_path))) for shard in self.shards)
        options = "file_row_number = true, hive_partitioning = false"  # folders are no columns
        read = f"SELECT {columns} FROM read_parquet([{files}], {options})"
        if not self.hides:
            return read
        same = "hidden_file = file_index AND hidden_row = file_row_number"
        return f"SELECT {columns} FROM ({read}) ANTI JOIN hidden ON {same}"

    def _removed(self) -> StoreError | None:
        return next((gone for gone in (shard.removed() for shard in self.shards) if gone), None)

    def _explained(self, problem: duckdb.Error) -> QueryError | StoreError:
        if isinstance(problem, duckdb.OutOfMemoryException):
            return too_much_memory(self._memory)
        if gone := self._removed():
            return gone
        if _is_of_a_file(problem):
            return _unreadable(problem)
        return QueryError(f"the expression cannot be answered: {first_line(problem)}")


def _is_of_a_file(problem: duckdb.Error) -> bool:
    """Whether a file is to blame, not the expression: DuckDB has no class of error for a damaged one.

    What its Parquet reader throws comes as plain Error (Thrift's), or as InvalidInput, as bad values do too.
    """
    if isinstance(problem, duckdb.InvalidInputException):
        return re.search("failed to read file|parquet", str(problem), re.IGNORECASE) is not None
    return type(problem) is duckdb.Error or isinstance(problem, duckdb.IOException)


def _unreadable(problem: duckdb.Error) -> StoreError:
    """A shard's file that DuckDB cannot read: damaged, or only closed to this user."""
    line = first_line(problem)
    if refusal := refused_by_system(problem):
        return StoreError(f"cannot read the store's shards: {line.rpartition(': ')[0] or line}: {refusal}")
    return CorruptShardError(f"cannot read the store's shards ({line}); run: pfgdata verify STORE --repair")


def first_line(problem: duckdb.Error) -> str:
    """What DuckDB says, without its class, the query and the arrow below it."""
    line = str(problem).strip().splitlines()[0]
    kind, _, rest = line.partition(" Error: ")
    return rest if rest and len(kind.split()) <= 3 else line


def _no_glob(path: str) -> str:
    """The pattern that finds `path` only: DuckDB takes every path for a pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _without_places(node: Any) -> Any:
    """The tree without positions, and with casts' type names as DuckDB itself spells them."""
    if isinstance(node, dict):
        return {
            key: value.upper() if key == "type_name" else _without_places(value)
            for key, value in node.items()
            if key
            not in ("query_location", "query_location_length", "qualified_name", "syntax_type", "alias")
        }
    return [_without_places(item) for item in node] if isinstance(node, list) else node
