"""What a person said of pairs of images: `verdicts.parquet`, keyed by content_ids, its digest beside it.

A verdict is about contents: it outlives moves, reruns and compaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from pfgdata.errors import StoreError
from pfgdata.files import Disk
from pfgdata.store.layout import parquet_bytes, table_in
from pfgdata.store.recorded import RecordedFile

__all__ = ["VERDICTS", "Verdict", "pair_of", "read_verdicts", "verdicts_file", "write_verdicts"]

Verdict = Literal["different", "keep-both"]  # no duplicates at all; duplicates of which both stay
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_SCHEMA = pa.schema([("one", pa.binary(16)), ("two", pa.binary(16)), ("verdict", pa.string())])

Pair = tuple[bytes, bytes]  # content_ids, the smaller first


def pair_of(one: bytes, two: bytes) -> Pair:
    """Two content_ids as a verdict's key. Raises StoreError where they are one."""
    if one == two:
        raise StoreError("a verdict is about two images; these have the same bytes")
    return (one, two) if one < two else (two, one)


def verdicts_file(disk: Disk, store: Path) -> RecordedFile:
    """The files of a store's verdicts, be there any or none."""
    advice = "restore it from a backup, or delete verdicts.parquet and verdicts.json to judge anew"
    return RecordedFile(disk, store, "verdicts", advice)


def read_verdicts(disk: Disk, store: Path) -> dict[Pair, Verdict]:
    """Every verdict of a store. Raises StoreError where a file of them is not what was written."""
    data = verdicts_file(disk, store).check(deep=True)
    if data is None:
        return {}
    rows = table_in(data).to_pylist()
    return {(row["one"], row["two"]): row["verdict"] for row in rows}


def write_verdicts(disk: Disk, store: Path, verdicts: Mapping[Pair, Verdict]) -> None:
    """Replace all verdicts; only for a holder of the store's lock."""
    rows = [{"one": one, "two": two, "verdict": said} for (one, two), said in sorted(verdicts.items())]
    verdicts_file(disk, store).replace(parquet_bytes(pa.Table.from_pylist(rows, schema=_SCHEMA)))
