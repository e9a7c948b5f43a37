"""Files that list images: the paths as bytes, in the order of the file.

- `.txt`, `.lst`: one path a line, as bytes; where a NUL stands in the file, paths end at NULs instead of
  lines (`find -print0`). Empty lines say nothing.
- `.csv`, `.parquet`: the column `path`.
"""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pfgdata.errors import ConfigError
from pfgdata.paths import plain_path

__all__ = ["LIST_ENDINGS", "list_paths"]

LIST_ENDINGS = (".txt", ".lst", ".csv", ".parquet")

_COLUMN, _URLS = "path", "url"
_FORMATS = {".csv": "csv", ".parquet": "parquet"}  # of img2dataset; a text is its default


def list_paths(file: Path) -> list[bytes]:
    """The paths that `file` lists. Raises ConfigError where it cannot be read, or lists none."""
    ending = file.suffix.lower()
    try:
        if ending == ".parquet":
            paths = _parquet(file)
        else:
            _require_utf8(file)
            paths = _csv(file) if ending == ".csv" else _lines(file.read_bytes())
    except OSError as problem:
        raise ConfigError(f"{file}: {(problem.strerror or str(problem)).lower()}; check the list") from None
    if not paths:
        raise ConfigError(f"{file} lists no image; write one path a line")
    if all(path.startswith((b"http://", b"https://")) for path in paths):
        raise _of_urls(file)
    return paths


def _require_utf8(file: Path) -> None:
    with file.open("rb") as data:
        if data.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise ConfigError(f"{file} is UTF-16, as Windows writes text; save it as UTF-8")


def _lines(data: bytes) -> list[bytes]:
    data = data.removeprefix(codecs.BOM_UTF8)  # some editors begin UTF-8 with it
    if b"\0" in data:
        return [path for path in data.split(b"\0") if path]
    data = data.rstrip(b"\r\n\x1a")  # DOS ends a text with the last one
    return [path for line in data.split(b"\n") if (path := line.removesuffix(b"\r"))]


def _csv(file: Path) -> list[bytes]:
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            rows = csv.DictReader(line.rstrip("\x1a") for line in lines)  # with which DOS ends a text
            _require_column(file, rows.fieldnames or ())
            return list(_given(file, (row[_COLUMN] for row in rows)))
    except csv.Error as problem:
        raise ConfigError(f"{file}: {problem}; write it as CSV with a column {_COLUMN}") from None


def _parquet(file: Path) -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(plain_path(file)) as table:
            _require_column(file, table.schema_arrow.names)
            column = table.read([_COLUMN])[_COLUMN]
        return list(_given(file, column.cast(pa.binary()).to_pylist()))
    except pa.ArrowException as problem:
        reason = str(problem).splitlines()[0]
        raise ConfigError(f"{file}: {reason}; give it a column {_COLUMN} of text") from None


def _require_column(file: Path, names: Iterable[str]) -> None:
    if _COLUMN not in names and _URLS in (names := [*names]):
        raise _of_urls(file)
    if _COLUMN not in names:
        raise ConfigError(f"{file} has no column {_COLUMN}, only {', '.join(names)}; rename the one meant")


def _of_urls(file: Path) -> ConfigError:
    """What to do with a list of what is to be downloaded."""
    form = _FORMATS.get(file.suffix.lower())
    how = f" --input_format {form} --url_col {_URLS}" if form else ""
    return ConfigError(
        f"{file} lists URLs, and img2dataset makes tars of them: img2dataset --url_list {file}{how}"
        " --resize_mode no --output_format webdataset --output_folder images; then name images/*.tar instead"
    )


def _given(file: Path, paths: Iterable[str | bytes | None]) -> Iterator[bytes]:
    for number, path in enumerate(paths, start=1):
        if not path:
            raise ConfigError(f"{file}: row {number:,} has no path; fill it in, or take the row out")
        name = os.fsencode(path)
        if b"\0" in name:
            raise ConfigError(f"{file}: row {number:,} holds a NUL, which no path can; correct it")
        yield name
