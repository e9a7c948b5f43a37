"""Names, schemas and the JSON form of a store: what stands where, and in which shape.

Every JSON file is canonical and ends with the BLAKE3 of itself without that last field, so one flipped
byte anywhere in it is seen by whoever reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from pfgdata.errors import CorruptShardError, StoreError

__all__ = [
    "FAILURES_SCHEMA",
    "FORMAT",
    "IMAGES_SCHEMA",
    "LATENTS_SCHEMA",
    "LATENT_FAILURES_SCHEMA",
    "SHADOWS_SCHEMA",
    "canonical_json",
    "read_json",
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
LATENT_FAILURES_SCHEMA = pa.schema([("content_id", pa.uuid()), ("kind", _NAME), ("reason", pa.string())])


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The one way `value` is written: sorted keys, one space, and its own BLAKE3 as last field."""
    assert value and "digest" not in value
    body = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False)
    return f"{body[:-2]}{_tail(body)}".encode()


def read_json(path: Path, *, error: type[StoreError] = CorruptShardError, advice: str) -> dict[str, Any]:
    """Read a file written by `canonical_json`, checked against its digest.

    Raises `error`, ending with `advice`, when the file is not byte for byte what was written.
    """
    try:
        text = path.read_bytes().decode()
        body = text[: -len(_tail(""))] + "\n}"
        value = json.loads(body)
        if not text.endswith(_tail(body)) or not isinstance(value, dict):
            raise ValueError("its digest does not fit")
    except ValueError as problem:
        raise error(f"{path}: damaged ({problem}); {advice}") from problem
    return value


def table_in(data: bytes) -> pa.Table:
    """The table of the Parquet file whose bytes are `data`, decoded by the calling thread alone.

    A thread of Arrow's would let go of `data` some time after the answer: one that waits for the interpreter
    lock while the process ends aborts it. Threads made it no sooner: 0.5 s for 600,000 captions either way.
    """
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return file.read(use_threads=False)


def _tail(body: str) -> str:
    return f',\n "digest": "{blake3(body.encode()).hexdigest()}"\n}}\n'
