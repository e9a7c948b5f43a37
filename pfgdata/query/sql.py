"""One read-only SELECT over a whole store: its images, tags, failures, latents and the user's columns.

A view is made when the statement names it. It runs in the sandbox of conditions and within its limits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.query.columns import COLUMNS, SOURCE
from pfgdata.query.joined import JoinedColumns
from pfgdata.query.question import require_number
from pfgdata.query.sandbox import Sandbox
from pfgdata.query.statements import admitted_statement
from pfgdata.query.tags import kind_of_category
from pfgdata.store import FAILURES_SCHEMA, LATENTS_SCHEMA, LatentSet, Snapshot

__all__ = ["VIEWS", "answer_sql"]

_PLACE = ("content_id", "shard", "row")  # of an image: what joins the views
_FAILURES = [name for name in FAILURES_SCHEMA.names if not name.endswith("_bytes")]
VIEWS: Mapping[str, tuple[str, ...]] = {  # view -> its columns; `columns` has the user's beside them
    "images": COLUMNS,
    "tags": (*_PLACE, "tag", "category", "score"),
    "failures": tuple(_FAILURES),
    "latents": ("latent_set", "bucket", *LATENTS_SCHEMA.names),
    "columns": (*_PLACE, "path"),
}


def answer_sql(
    sandbox: Sandbox, joined: JoinedColumns, statement: str, meaning: Mapping[str, str], *, limit: int | None
) -> pa.Table:
    """What one SELECT over VIEWS answers, at most `limit` rows of it.

    `meaning` says what the columns of images hold; the view tags has every score that the store keeps.
    Raises QueryError, one line, for anything but one SELECT of known names.
    """
    require_number("limit", limit)
    users = tuple(name for name in joined.names if name not in COLUMNS)
    views = {**VIEWS, "columns": (*VIEWS["columns"], *users)}
    sql, named, used = admitted_statement(sandbox, statement, views, joined.read)
    if "columns" in named:
        users = tuple(name for name in users if used is None or name in used)
        for name in users:
            joined.read(name)
        joined.join(sandbox)
    for name in named:
        sandbox.define(f"_{name}", _source(name, joined.snapshot, sandbox, meaning, users))
    cut = "" if limit is None else f" LIMIT {limit:d}"
    return _plain(sandbox.fetch(f"SELECT * FROM ({sql}){cut}"))


def _plain(table: pa.Table) -> pa.Table:
    """The table, its sums of 128 bits as int64, or float64 where one is too large.

    Raises QueryError for those in a list or struct, which Arrow has as bytes alone.
    """
    for number, field in enumerate(table.schema):
        if field.type.num_fields and _has_wide(field.type):
            what = "numbers of 128 bits in a list or struct; cast them there, as in sum(x)::BIGINT"
            raise QueryError(f"{field.name}: has {what}")
        if _has_wide(field.type):
            signed = field.type.type_name == "hugeint"
            values = [
                None if one is None else int.from_bytes(one, "little", signed=signed)
                for one in table.column(number).to_pylist()
            ]
            small = all(one is None or -(2**63) <= one < 2**63 for one in values)
            kind = pa.int64() if small else pa.float64()
            column = pa.array(values if small else [one and float(one) for one in values], kind)
            table = table.set_column(number, field.name, column)
    return table


def _has_wide(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers of 128 bits, or have them within."""
    within = any(_has_wide(kind.field(number).type) for number in range(kind.num_fields))
    return within or getattr(kind, "type_name", "") in ("hugeint", "uhugeint")


def _source(
    view: str, snapshot: Snapshot, sandbox: Sandbox, meaning: Mapping[str, str], users: tuple[str, ...]
) -> str | pa.Table:
    """The query or table that a view is."""
    place = ", ".join(f"{meaning[name]} AS {name}" for name in _PLACE)
    if view == "images":
        return f"SELECT {', '.join(f'{meaning[name]} AS {name}' for name in COLUMNS)} FROM {SOURCE}"
    if view == "tags":
        sandbox.define("_vocabulary", _vocabulary(snapshot))
        each = f"SELECT {place}, unnest(tag_ids) AS number, unnest(tag_scores) AS score FROM {SOURCE}"
        return (
            f"SELECT {', '.join(_PLACE)}, tag, category, score FROM ({each}) JOIN _vocabulary USING (number)"
        )
    if view == "columns":
        names = ", ".join(("path", *(f'"{name}"' for name in users)))
        return f"SELECT {place}, {names} FROM {SOURCE}"
    return snapshot.failures(_FAILURES).select(_FAILURES) if view == "failures" else _latents(snapshot)


def _vocabulary(snapshot: Snapshot) -> pa.Table:
    vocabulary = snapshot.vocabulary
    kinds = [kind_of_category(int(category)) for category in vocabulary.categories]
    numbers = np.arange(len(vocabulary), dtype=np.uint32)
    return pa.table({"number": numbers, "tag": list(vocabulary.names), "category": kinds})


def _latents(snapshot: Snapshot) -> pa.Table:
    """A row for each latent of each set: the set, its bucket as WxH, and what stands beside the latent."""
    kinds = [
        ("latent_set", pa.string()),
        ("bucket", pa.string()),
        *((one.name, one.type) for one in LATENTS_SCHEMA),
    ]
    tables = [pa.schema(kinds).empty_table()]
    for latents in LatentSet.all_of(snapshot.path, disk=snapshot.disk):
        index = latents.index()
        for number, shard in enumerate(index.shards):
            mine = latents.rows(shard, LATENTS_SCHEMA.names)
            width, height = latents.info.buckets[int(index.bucket[index.shard_index == number][0])]
            beside = {"latent_set": latents.id, "bucket": f"{width}x{height}"}
            columns = [pa.array([text] * mine.num_rows, pa.string()) for text in beside.values()]
            tables.append(pa.table([*columns, *mine.columns], schema=pa.schema(kinds)))
    return pa.concat_tables(tables)
