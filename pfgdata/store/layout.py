"""The format of a store and the schemas of its tables: what stands where, and in which shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfgdata.errors import StoreError, StoreFormatError
from pfgdata.files import Disk, read_json

__all__ = [
    "COLUMN_NAME",
    "DERIVED_FAILURES_SCHEMA",
    "FAILURES_SCHEMA",
    "FEATURES_SCHEMA",
    "FORMAT",
    "IMAGES_SCHEMA",
    "LATENTS_SCHEMA",
    "PLANNED_SCHEMA",
    "SHADOWS_SCHEMA",
    "parquet_bytes",
    "read_record",
    "require_column_name",
    "table_in",
]

FORMAT = 1  # of the whole store; a reader refuses a larger one

_NAME = pa.dictionary(pa.int32(), pa.string())
_KEY = [
    ("root", _NAME),
    ("path", pa.string()),
    ("member", pa.string()),
    ("path_bytes", pa.binary()),  # set only where the name is not UTF-8; then it is the key
    ("member_bytes", pa.binary()),
    ("size", pa.uint64()),
    ("mtime_ns", pa.int64()),
]

IMAGES_SCHEMA = pa.schema(
    [
        ("content_id", pa.uuid()),
        *_KEY,
        ("width", pa.uint32()),
        ("height", pa.uint32()),
        ("format", _NAME),
        ("frames", pa.uint32()),
        ("phash", pa.uint64()),
        ("rating", _NAME),
        ("rating_scores", pa.list_(pa.float16(), 4)),  # general, sensitive, questionable, explicit
        ("character", _NAME),
        ("character_score", pa.float16()),
        ("tag_ids", pa.list_(pa.uint32())),
        ("tag_scores", pa.list_(pa.float16())),
    ]
)
FAILURES_SCHEMA = pa.schema([*_KEY, ("kind", _NAME), ("reason", pa.string())])
SHADOWS_SCHEMA = pa.schema([("shard", _NAME), ("table", _NAME), ("row", pa.int64())])
PLANNED_SCHEMA = pa.schema(  # of a part: what was there under the key of each row when it was planned
    [
        ("copied", pa.bool_()),  # else tagged, or failed
        ("image_size", pa.uint64()),
        ("image_mtime_ns", pa.int64()),
        ("failure_size", pa.uint64()),
        ("failure_mtime_ns", pa.int64()),
    ]
)
LATENTS_SCHEMA = pa.schema(
    [
        ("content_id", pa.uuid()),
        ("flip", pa.bool_()),
        ("crop_top", pa.uint32()),  # pixels of the resized image
        ("crop_left", pa.uint32()),
        ("resized_width", pa.uint32()),
        ("resized_height", pa.uint32()),
        ("width", pa.uint32()),  # of the original
        ("height", pa.uint32()),
    ]
)
FEATURES_SCHEMA = pa.schema([("content_id", pa.uuid())])  # of a feature set's rows
DERIVED_FAILURES_SCHEMA = pa.schema([("content_id", pa.uuid()), ("kind", _NAME), ("reason", pa.string())])

COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TAKEN = {  # what an expression or an option calls something of the store's own
    *IMAGES_SCHEMA.names,
    *("file", "filename", "file_index", "file_row_number", "row", "shard", "tags", "characters"),
}
_WORDS_AMONG_TAGS = {  # NAME:VALUE there is danbooru's, never such a column's
    *("char", "chartags", "conf", "filesize", "filetype", "gentags"),
    *("limit", "mpixels", "order", "ratio", "tagcount"),
}


def require_column_name(name: str) -> None:
    """Raise StoreError where no column beside the store's own can be called `name`."""
    if not COLUMN_NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot name a column; use small letters, digits and _, a letter first, at most 64"
        )
    if name in _TAKEN:
        raise StoreError(f"{name} is what the store itself calls something; name the column my_{name}")
    if name in _WORDS_AMONG_TAGS:
        raise StoreError(f"{name}: has a meaning of its own among tags; name the column my_{name}")


def read_record(disk: Disk, path: Path, *, error: type[StoreError], advice: str) -> dict[str, Any]:
    """The JSON file `path` of a store that says its format.

    Raises `error`, ending with `advice`, if it is damaged, StoreFormatError if a newer pfgdata wrote it.
    """
    value = read_json(path, error=error, advice=advice, disk=disk)
    if value["format"] > FORMAT:
        raise StoreFormatError(
            f"{path}: written in format {value['format']}, this pfgdata reads up to {FORMAT}; upgrade pfg"
        )
    return value


def parquet_bytes(table: pa.Table) -> bytes:
    """`table` as a Parquet file. Raises pa.ArrowException for a type that Parquet has not."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def table_in(data: bytes) -> pa.Table:
    """The table of the Parquet file whose bytes are `data`, decoded by the calling thread alone.

    A thread of Arrow's would let go of `data` some time after the answer: one that waits for the interpreter
    lock while the process ends aborts it. Threads made it no sooner: 0.5 s for 600,000 captions either way.
    """
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return file.read(use_threads=False)
