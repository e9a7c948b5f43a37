"""One shard: an immutable folder of Parquet tables and HDF5 arrays, described and sealed by its shard.json.

An array is one contiguous, uncompressed HDF5 dataset, so a memory map at the offset on record reads it
without HDF5; any HDF5 tool still opens it. Used alike for the store's shards and those of latent sets.
"""

from __future__ import annotations

import functools
import platform
import re
import resource
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from pfgdata.errors import CorruptShardError, StoreError
from pfgdata.files import Disk, canonical_json
from pfgdata.store.hdf5 import write_array
from pfgdata.store.layout import FORMAT, read_record

__all__ = [
    "REPAIR",
    "Array",
    "ShardDraft",
    "ShardMeta",
    "adopt_shard",
    "installed_versions",
    "list_shards",
    "map_array",
    "new_shard_id",
    "read_meta",
    "reading",
    "removed",
    "require_undamaged",
    "sequence_of",
    "shard_names",
    "unreadable",
    "write_shard",
]

_SHARD_ID = re.compile(r"\d{8,}-[0-9a-f]{8}")  # what else lies there (.tmp-*, a file manager's) is not ours
_OPEN_FILES = 65_536  # one map a shard: 600,000 latents in shards of five minutes are a few thousand
_COMPARED = 1024  # rows at a time: 1.6 MB of features, 34 MB of SD1 latents at 512 px
REPAIR = "run: pfgdata verify STORE --repair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """Where an array lies: `shape` items of `dtype` from byte `offset` of `file`."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMeta:
    """A shard.json as read: `tables` gives the rows of each Parquet file by its stem."""

    id: str
    tables: Mapping[str, int]
    arrays: Mapping[str, Array]
    files: Mapping[str, Mapping[str, Any]]  # name -> size in bytes, blake3
    replaces: tuple[str, ...]
    created: str  # ISO, UTC
    facts: Mapping[str, Any] = field(default_factory=dict)  # e.g. the bucket of a latent shard
    writer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardDraft:
    """A shard to write: table X becomes X.parquet, array `feature` the dataset /feature of features.h5.

    Empty tables and arrays are left out.
    """

    tables: Mapping[str, pa.Table]
    arrays: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    replaces: Iterable[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    writer: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None  # None: the next of its folder


def installed_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is not: for the records of what made a thing.

    opencv-python-headless goes by opencv. One may lack: onnxruntime may be onnxruntime-gpu, and pfg itself
    may run from a checkout.
    """
    found: dict[str, str | None] = {}
    for package in packages:
        name = package.removesuffix("-python-headless")
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def write_shard(disk: Disk, folder: Path, draft: ShardDraft) -> ShardMeta:
    """Commit a shard into `folder` by one rename; its meta as a reader sees it."""
    return _commit(disk, folder, draft, lambda fresh: _write(disk, fresh, draft))


def adopt_shard(
    disk: Disk, folder: Path, draft: ShardDraft, *, source: Path, meta: ShardMeta, copy: bool
) -> ShardMeta:
    """As `write_shard`; what `draft` has stands beside the files of the shard `meta` in the folder `source`.

    These are linked where the file system can, else, or with `copy`, copied; `source` stays as it is.
    Raises CorruptShardError unless each is byte for byte what `meta` promises.
    """

    def fill(fresh: Path) -> tuple[dict[str, int], dict[str, Any]]:
        for name, promised in meta.files.items():
            try:
                disk.link(source / name, fresh / name, copy=copy)
            except FileNotFoundError:
                raise CorruptShardError(f"{source / name}: is missing") from None
            if _seal(fresh / name) != promised:  # of what is committed, not of what it was linked to
                raise CorruptShardError(f"{source / name}: its bytes are not those that were written")
        tables, arrays = _write(disk, fresh, draft)
        theirs = {name: asdict(array) for name, array in meta.arrays.items()}
        return {**meta.tables, **tables}, {**theirs, **arrays}

    return _commit(disk, folder, draft, fill)


def _write(disk: Disk, fresh: Path, draft: ShardDraft) -> tuple[dict[str, int], dict[str, Any]]:
    """Write the files of a draft; rows of its tables, and the records of its arrays."""
    tables = {stem: table for stem, table in draft.tables.items() if table.num_rows}
    arrays = {name: array for name, array in draft.arrays.items() if len(array)}
    for stem, table in tables.items():
        pq.write_table(table, fresh / f"{stem}.parquet", compression="zstd")
        disk.reach("table written")
    records = {name: _write_array(fresh, name, array) for name, array in arrays.items()}
    if records:
        disk.reach("array written")
    _require_written(fresh, tables, records, arrays)
    return {stem: table.num_rows for stem, table in tables.items()}, records


def _commit(
    disk: Disk, folder: Path, draft: ShardDraft, fill: Callable[[Path], tuple[dict[str, int], dict[str, Any]]]
) -> ShardMeta:
    """Have `fill` fill a new folder, describe it, and rename it to its place among the shards of `folder`."""
    shard_id = draft.id or new_shard_id(disk, folder)
    fresh = disk.temporary(folder)
    try:
        tables, arrays = fill(fresh)
        meta = {
            "format": FORMAT,
            "id": shard_id,
            "tables": tables,
            "arrays": arrays,
            "files": {path.name: _seal(path) for path in sorted(fresh.iterdir())},
            "replaces": sorted(draft.replaces),
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "facts": dict(draft.facts),
            "writer": {"python": platform.python_version(), "pyarrow": pa.__version__, **draft.writer},
        }
        (fresh / "shard.json").write_bytes(canonical_json(meta))
        disk.reach("shard.json written")
        disk.commit_folder(fresh, folder / shard_id)
    except BaseException:
        disk.discard(fresh)
        raise
    return read_meta(disk, folder / shard_id)


def read_meta(disk: Disk, shard: Path, *, advice: str = REPAIR) -> ShardMeta:
    """Read the shard.json of the folder `shard`; `advice` is what to do where it is damaged.

    Raises CorruptShardError when it is not as written, StoreFormatError when a newer pfgdata wrote it.
    """
    value = read_record(disk, shard / "shard.json", error=CorruptShardError, advice=advice)
    if value["id"] != shard.name:
        raise CorruptShardError(f"{shard}: its shard.json is of {value['id']}; {advice}")
    return ShardMeta(
        id=value["id"],
        tables=value["tables"],
        arrays={name: _array(record) for name, record in value["arrays"].items()},
        files=value["files"],
        replaces=tuple(value["replaces"]),
        created=value["created"],
        facts=value["facts"],
        writer=value["writer"],
    )


def list_shards(
    disk: Disk, folder: Path, names: Iterable[str], *, cache: dict[str, ShardMeta]
) -> list[ShardMeta]:
    """The committed shards among `names` of `folder` (see `shard_names`), in their order.

    `cache` holds what was read before: shards are immutable. Raises CorruptShardError for a damaged one,
    since the rows that it hides would return if it were left out in silence.
    """
    found, names = [], list(names)
    disk.ahead(folder / name / "shard.json" for name in names if name not in cache)
    for name in names:
        if name not in cache:
            try:
                cache[name] = read_meta(disk, folder / name)
            except (FileNotFoundError, NotADirectoryError):  # no shard.json: not committed, or just deleted
                continue
        found.append(cache[name])
    return found


def require_undamaged(
    disk: Disk, shard: Path, meta: ShardMeta, *, advice: str = "run: pfgdata verify STORE --deep --repair"
) -> None:
    """Raise CorruptShardError, ending with `advice`, unless each file of `shard` is as it was written.

    What is read without this may be wrong in silence: neither Parquet nor HDF5 looks at its bytes. One core
    compares 2 GB/s of what is in memory, without the interpreter lock.
    """
    for name, promised in meta.files.items():
        path = shard / name
        try:
            found = _seal(disk.local(path))
        except (FileNotFoundError, ValueError) as problem:
            raise unreadable(disk, path, problem, advice=advice) from problem
        if found != promised:
            raise CorruptShardError(f"{path}: its bytes are not those that were written; {advice}")


@contextmanager
def reading(disk: Disk, path: Path) -> Iterator[Path]:
    """Where to open a shard's Parquet file `path`; what its reader raises becomes an error of one line.

    An OSError of the system (permission, too many files) passes: it says nothing of the shard. Those that
    pyarrow makes of damaged pages have no errno.
    """
    try:
        yield disk.local(path)
    except (FileNotFoundError, pa.ArrowException, ValueError) as problem:
        raise unreadable(disk, path, problem) from problem
    except OSError as problem:
        if problem.errno is not None:
            raise
        raise unreadable(disk, path, problem) from problem


def unreadable(disk: Disk, path: Path, problem: Exception, *, advice: str = REPAIR) -> StoreError:
    """The error for a shard's file `path` that could not be read: damaged, or removed since it was listed."""
    return removed(disk, path.parent) or CorruptShardError(
        f"{path}: unreadable ({' '.join(str(problem).split())}); {advice}"
    )


def removed(disk: Disk, shard: Path) -> StoreError | None:
    """The error for a reader whose `shard` is gone since it was listed, or None while it is there."""
    if disk.is_folder(shard):
        return None
    return StoreError(f"{shard}: removed by gc since the store was looked at; ask again")


def map_array(disk: Disk, shard: Path, meta: ShardMeta, name: str) -> npt.NDArray[Any]:
    """Map array `name` of the folder `shard` read-only, without copying."""
    raise_file_limit()
    array = meta.arrays[name]
    path = shard / array.file
    try:
        mapped = np.memmap(disk.local(path), array.dtype, "r", array.offset, array.shape)
    except (FileNotFoundError, ValueError) as problem:
        raise unreadable(disk, path, problem) from problem
    disk.opened(path)
    return mapped


@functools.cache
def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: numpy keeps a descriptor for each map it holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def shard_names(disk: Disk, folder: Path) -> list[str]:
    """The folders in `folder` that are shards by name, committed or not, in the order of their ids."""
    return sorted(filter(_SHARD_ID.fullmatch, disk.names(folder)))


def new_shard_id(disk: Disk, folder: Path, *, after: int | None = None) -> str:
    """The next id in `folder` (a store's or set's `shards/`): a sequence number and a random part.

    Ids sort by commit order, because one writer at a time holds the lock while it asks. It may say the number
    that it has given last as `after`: nothing is listed then (10,000 shards: 15 ms).
    """
    if after is None:
        taken = [sequence_of(name) for name in shard_names(disk, folder)]
        after = max([*taken, disk.last_number(folder)], default=0)
    return f"{after + 1:08d}-{secrets.token_hex(4)}"


def sequence_of(shard_id: str) -> int:
    """The number of a shard in commit order."""
    return int(shard_id.split("-")[0])


def _array(record: Mapping[str, Any]) -> Array:
    return Array(
        file=record["file"], dtype=record["dtype"], shape=tuple(record["shape"]), offset=record["offset"]
    )


def _write_array(folder: Path, name: str, array: npt.NDArray[np.generic]) -> dict[str, Any]:
    file = f"{name}s.h5"
    offset = write_array(folder / file, name, array)
    return {"file": file, "dtype": array.dtype.str, "shape": list(array.shape), "offset": offset}


def _require_written(
    folder: Path,
    tables: Mapping[str, pa.Table],
    records: Mapping[str, dict[str, Any]],
    arrays: Mapping[str, npt.NDArray[np.generic]],
) -> None:
    """Reopen what was written and compare, so that a bad disk or library is seen before the commit."""
    for stem, table in tables.items():
        if pq.read_metadata(folder / f"{stem}.parquet").num_rows != table.num_rows:
            raise CorruptShardError(f"{folder / stem}.parquet: not what was written; check the disk")
    for name, record in records.items():
        shape = tuple(record["shape"])
        back = np.memmap(folder / record["file"], record["dtype"], "r", record["offset"], shape)
        for start in range(0, len(back), _COMPARED):  # bytes, because NaN is not NaN
            block = slice(start, start + _COMPARED)
            if back[block].tobytes() != arrays[name][block].tobytes():
                raise CorruptShardError(f"{folder / record['file']}: not what was written; check the disk")


def _seal(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "blake3": blake3().update_mmap(path).hexdigest()}
