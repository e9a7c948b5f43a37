"""A file of values (Parquet, CSV, JSON Lines) to a column of a store: which row of it goes with which image.

Types are kept as the file has them, or as CSV and JSON are read; what names an image is always text.
"""

from __future__ import annotations

import binascii
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.errors import ConfigError
from pfgdata.records import did_you_mean, nearest
from pfgdata.store import (
    KEY_COLUMNS,
    Snapshot,
    Store,
    column_values,
    content_ids_of,
    normal_table,
    unmatched_rows,
)

__all__ = ["KEYS", "AttachReport", "attach_file"]

KEYS = ("content_id", "path", "stem")  # what can name an image, the surest first
_VALUE = "value"
_BESIDE_PATH = ("root", "member")
_TEXT_KEYS = (*KEYS, *_BESIDE_PATH)
_BLOCK = 2**24  # bytes of JSON read at once, and the longest line


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachReport:
    """What became of a file of `rows`: `images` of the store have a value now; `unmatched` rows name none."""

    column: str
    type: str
    key: str
    rows: int
    images: int
    unmatched: int
    first_unmatched: str | None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def attach_file(
    store: Store,
    name: str,
    file: Path,
    *,
    key: str | None = None,
    value: str | None = None,
    replace: bool = False,
) -> AttachReport:
    """Keep the column `value` of `file` as the user's column `name`, its rows named by its column `key`.

    `key` is one of KEYS, by default the first that the file has; `value` the only other column, or the one
    called `name`. Paths may be absolute, below a root's place. Raises ConfigError for a file that cannot be
    read so, StoreError as `Store.write_column` does.
    """
    read, names = _opened(file)
    by = _key(file, names, key)
    source = "path" if by == "stem" and "stem" not in names else by
    kept = [source, *(one for one in _BESIDE_PATH if by == "path" and one in names)]
    column = _value(file, names, kept, value, name)
    table = read([*kept, column])
    table = pa.table({**{one: _names_in(table[one]) for one in kept}, _VALUE: table[column]})
    if without := table[source].null_count:
        raise ConfigError(f"{file}: {without:,} rows have no {source}; leave them out")
    snapshot = store.snapshot()
    if by == "stem":
        stems = table[source] if source == "stem" else _stems(table[source])
        table = pa.table({"stem": stems, _VALUE: table[_VALUE]})
        named, missing = _by_stem(file, table, snapshot)
    else:
        named = _with_roots(file, table, store.roots()) if by == "path" else _with_ids(file, table)
        missing = None
    normal = normal_table(name, named)
    values = column_values(normal, snapshot, snapshot.everything, where=f"column {name}")
    lost = unmatched_rows(normal, snapshot) if missing is None else missing
    store.write_column(name, normal, replace=replace)
    return AttachReport(
        column=name,
        type=str(normal[_VALUE].type),
        key=by,
        rows=table.num_rows,
        images=len(values) - values.null_count,
        unmatched=lost.num_rows,
        first_unmatched=_shown(lost.slice(0, 1)) if lost.num_rows else None,
    )


def _opened(file: Path) -> tuple[Callable[[Sequence[str]], pa.Table], list[str]]:
    """How to read columns of `file`, and the names of all that it has."""
    kinds: Mapping[str, Callable[[Path], tuple[Callable[[Sequence[str]], pa.Table], list[str]]]] = {
        ".parquet": _parquet,
        ".csv": _csv,
        ".tsv": _csv,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
    }
    kind = kinds.get(file.suffix.lower())
    if kind is None:
        raise ConfigError(f"{file}: is no table that pfg reads; name a .parquet, .csv, .tsv or .jsonl file")

    def guarded(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except OSError as problem:
            reason = (problem.strerror or str(problem).splitlines()[0]).lower()
            raise ConfigError(f"{file}: cannot be read: {reason}") from problem
        except (pa.ArrowException, UnicodeDecodeError, csv.Error) as problem:
            line = str(problem).splitlines()[0]
            raise ConfigError(f"{file}: is damaged, or no {file.suffix[1:]} file: {line}") from problem

    read, names = guarded(lambda: kind(file))
    return lambda columns: guarded(lambda: read(columns)), names


def _parquet(file: Path) -> tuple[Callable[[Sequence[str]], pa.Table], list[str]]:
    import pyarrow.parquet as pq

    names = list(pq.read_schema(file).names)
    return lambda columns: _plain(pq.read_table(file, columns=list(columns), partitioning=None)), names


def _plain(table: pa.Table) -> pa.Table:
    """`table` as pyarrow computes with it: no dictionaries, as pandas has of categories, and no views."""
    types = [
        field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema
    ]
    types = [pa.large_string() if pa.types.is_string_view(one) else one for one in types]
    return table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))


def _csv(file: Path) -> tuple[Callable[[Sequence[str]], pa.Table], list[str]]:
    import pyarrow.csv as pa_csv

    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", newline="") as lines:
        names = next(csv.reader(lines, delimiter=delimiter), [])

    def read(columns: Sequence[str]) -> pa.Table:
        types = {one: pa.string() for one in columns if one in _TEXT_KEYS}
        return pa_csv.read_csv(
            file,
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=list(columns)),
        )

    return read, names


def _json_lines(file: Path) -> tuple[Callable[[Sequence[str]], pa.Table], list[str]]:
    import pyarrow.json as pa_json

    known = pa.schema([(one, pa.string()) for one in _TEXT_KEYS])
    table = pa_json.read_json(
        file,
        read_options=pa_json.ReadOptions(block_size=_BLOCK),
        parse_options=pa_json.ParseOptions(explicit_schema=known, unexpected_field_behavior="infer"),
    )
    there = [one for one in table.column_names if table[one].null_count < len(table) or one not in _TEXT_KEYS]
    return lambda columns: table.select(list(columns)), there


def _key(file: Path, names: Sequence[str], asked: str | None) -> str:
    """Which of KEYS names the images of a file with columns `names`."""
    there = [one for one in KEYS if one in names or (one == "stem" and "path" in names)]
    if asked is None and there:
        return there[0]
    if asked in there:
        return str(asked)
    wanted = "content_id, path or stem" if asked is None else asked
    raise ConfigError(f"{file}: no column {wanted} to name the images; it has {', '.join(names) or 'none'}")


def _value(file: Path, names: Sequence[str], keys: Sequence[str], asked: str | None, name: str) -> str:
    """The column whose values are meant."""
    others = [one for one in names if one not in keys]
    found = asked or (others[0] if len(others) == 1 else name)
    if found in others:
        return found
    near = nearest(found, others)
    hint = did_you_mean(near, f"it has {', '.join(others) or 'no other'}")
    what = f"no column {found}" if asked or name not in names else f"{name} names the images"
    more = "" if asked else "; say which by --value"
    raise ConfigError(f"{file}: {what}; {hint}{more}")


def _names_in(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of names, null where the text is empty, as CSV has what is none."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    return pc.if_else(pc.equal(column, ""), None, column)


def _with_ids(file: Path, table: pa.Table) -> pa.Table:
    """`table` with content_ids as bytes, where they are text, as UUIDs or 32 hex digits."""
    keys = table["content_id"]
    if not (pa.types.is_string(keys.type) or pa.types.is_large_string(keys.type)):
        return table
    ids: list[bytes] = []
    for number, text in enumerate(keys.to_pylist(), 1):
        try:
            ids.append(binascii.unhexlify(text.replace("-", "")))
        except ValueError:
            ids.append(b"")
        if len(ids[-1]) != 16:
            raise ConfigError(
                f"{file}: row {number}: {text!r} is no content_id; it is a UUID, as query shows it"
            )
    return pa.table({"content_id": pa.array(ids, pa.binary(16)), _VALUE: table[_VALUE]})


def _with_roots(file: Path, table: pa.Table, roots: Mapping[str, str]) -> pa.Table:
    """`table` with absolute paths, and URLs, split into root and path."""
    starts = pc.match_substring_regex(table["path"], "^(/|[a-z0-9]+://)")
    if "root" in table.column_names or not pc.any(starts).as_py():
        return table
    places = sorted(((place.rstrip("/") + "/", root) for root, place in roots.items()), reverse=True)
    places.sort(key=lambda pair: -len(pair[0]))
    keys: dict[str, list[str]] = {"root": [], "path": []}
    for number, path in enumerate(table["path"].to_pylist(), 1):
        found = next(((root, place) for place, root in places if path.startswith(place)), None)
        if found is None:
            known = ", ".join(place for place, _ in places)
            raise ConfigError(f"{file}: row {number}: {path} lies below no corpus of the store ({known})")
        keys["root"].append(found[0])
        keys["path"].append(path[len(found[1]) :])
    rest = {one: table[one] for one in table.column_names if one != "path"}
    return pa.table({**keys, **rest})


def _by_stem(file: Path, table: pa.Table, snapshot: Snapshot) -> tuple[pa.Table, pa.Table]:
    """The rows of images whose names without folder and extension stand in `table`; its rows of no image.

    Raises ConfigError where a stem stands twice, or is of two different images: one value would go to both.
    """
    stems = table["stem"]
    counts = pc.value_counts(stems).to_pylist()
    if again := next((one["values"] for one in counts if one["counts"] > 1), None):
        raise ConfigError(f"{file}: the stem {again} stands twice; leave one row a stem, or use --key path")
    images = snapshot.images(["content_id", *KEY_COLUMNS])
    own = _stems(pc.coalesce(images["member"], images["path"]))
    place = pc.index_in(own, value_set=stems)
    mine = images.select(list(KEY_COLUMNS)).append_column(_VALUE, table[_VALUE].take(place))
    ids = pa.array([row.tobytes() for row in content_ids_of(images["content_id"])], pa.binary())
    pairs = pa.table({"stem": own, "id": ids}).filter(place.is_valid())
    several = pairs.group_by("stem").aggregate([("id", "count_distinct")])
    several = several.filter(pc.greater(several["id_count_distinct"], 1))
    if several.num_rows:
        stem = several["stem"][0].as_py()
        paths = images["path"].filter(pc.equal(own, stem)).slice(0, 2).to_pylist()
        raise ConfigError(
            f"{file}: {several.num_rows:,} stems are of different images, first: {stem} "
            f"({' and '.join(paths)}); use --key path"
        )
    missing = pc.invert(pc.is_in(stems, value_set=own))
    return mine.filter(place.is_valid()), table.filter(missing)


def _stems(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Names without their folders and extension."""
    return pc.replace_substring_regex(pc.replace_substring_regex(names, "^.*/", ""), r"(.)\.[^.]*$", r"\1")


def _shown(row: pa.Table) -> str:
    """What names the image of a row."""
    keys = row.drop_columns([_VALUE]).to_pylist()[0]
    return " ".join(str(value) for value in keys.values() if value is not None)
