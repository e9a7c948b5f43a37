"""A DuckDB that can read the Parquet files of one snapshot and nothing else.

Only the files themselves are allowed (`allowed_paths`): with the store folder allowed, COPY and ATTACH
could still write into it. On top of that, only checked SELECTs are run here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from pfgdata.errors import CorruptShardError, QueryError, StoreError, refused_by_system
from pfgdata.query.columns import RAW_COLUMNS, SOURCE, quoted
from pfgdata.query.limits import Limits, finished, started, too_much_memory
from pfgdata.store import ShardView, raise_file_limit

__all__ = ["Sandbox", "first_line"]

T = TypeVar("T")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Sandbox:
    """One DuckDB connection with the view `images`: the visible rows of `shards`, RAW_COLUMNS."""

    def __init__(
        self, shards: Sequence[ShardView], *, variables: Mapping[str, Sequence[str | None]], limits: Limits
    ) -> None:
        self.shards = tuple(shard for shard in shards if shard.images_path is not None)
        self._limits = limits
        self._running: Future[Any] | None = None
        self._given_up = False
        self._joined: frozenset[str] = frozenset()
        raise_file_limit()  # DuckDB holds every file that it reads
        self._connection = duckdb.connect(":memory:")
        try:
            self._memory = self._limit_memory()
            self._define_hidden()
            self._lock()
            for name, values in variables.items():
                self._connection.execute(f"SET VARIABLE {name} = ?", [list(values)])
            self._connection.execute(f"CREATE TEMP VIEW {SOURCE} AS {self._source()}")
        except duckdb.Error as problem:
            self._connection.close()
            raise self._removed() or _unreadable(problem) from problem

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection, of a query that was given up as soon as it ends."""
        if self._running is None:
            self._connection.close()
        else:
            self._running.add_done_callback(lambda _: self._connection.close())

    def run(self, work: Callable[[], T]) -> T:
        """What `work()` answers by this sandbox, within its limits. Raises QueryError where they end it."""
        self._running = started(work)
        return finished(
            self._running,
            seconds=self._limits.seconds,
            memory=self._memory,
            interrupt=self._give_up,
        )

    def join(self, columns: Mapping[str, pa.ChunkedArray]) -> None:
        """Give the view `columns` too: a value for each visible row, in the order of `shards` and rows."""
        if columns.keys() == self._joined:
            return
        visible = [np.delete(np.arange(shard.num_rows), shard.hidden) for shard in self.shards]
        table = pa.table(  # no name of a column begins with _
            {
                "_file": np.repeat(np.arange(len(visible), dtype=np.uint64), [len(v) for v in visible]),
                "_row": np.concatenate([np.empty(0, np.int64), *visible]),
                **columns,
            }
        )
        names = ", ".join(f'"{name}"' for name in columns)
        same = "_file = file_index AND _row = file_row_number"
        source = (
            f"SELECT {', '.join(RAW_COLUMNS)}, {names} FROM ({self._source()}) LEFT JOIN joined ON {same}"
        )
        try:
            self._connection.register("joined_values", table)
            self._connection.execute("CREATE OR REPLACE TEMP TABLE joined AS SELECT * FROM joined_values")
            self._connection.unregister("joined_values")
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {SOURCE} AS {source}")
            self._joined = frozenset(columns)
        except duckdb.NotImplementedException as problem:
            kinds = ", ".join(f"{name} ({values.type})" for name, values in columns.items())
            raise QueryError(f"DuckDB has no type for a column of these: {kinds}") from problem
        except duckdb.Error as problem:
            raise self._explained(problem) from problem

    def parse(self, sql: str) -> dict[str, Any]:
        """The answer of `json_serialize_sql`: a tree, or an error with its byte position; runs nothing."""
        answer: dict[str, Any] = json.loads(self._one("SELECT json_serialize_sql(?::VARCHAR)", sql))
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

    def _give_up(self) -> None:
        self._given_up = True
        self._connection.interrupt()

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
            self._connection.register("hidden_rows", table)
            self._connection.execute("CREATE TEMP TABLE hidden AS SELECT * FROM hidden_rows")
            self._connection.unregister("hidden_rows")

    def _source(self) -> str:
        columns = ", ".join(RAW_COLUMNS)
        if not self.shards:
            nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in RAW_COLUMNS.items())
            return f"SELECT {nothing} WHERE false"
        files = ", ".join(quoted(_no_glob(str(shard.images_path))) for shard in self.shards)
        options = (
            "filename = true, file_row_number = true, hive_partitioning = false"  # folders are no columns
        )
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
