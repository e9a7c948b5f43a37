"""Derived sets on disk: arrays of images by content_id, made by one encoder and kept with its identity.

A set is a folder of the store, `<name>s/<id>/`: `<name>s.json` says what it is, its shards hold
`<name>s.parquet`, `<name>s.h5` and the images that failed. A subclass says what differs from kind to kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from pfgdata.errors import StoreFormatError
from pfgdata.files import Disk, canonical_json, explained
from pfgdata.store.identity import known_fields
from pfgdata.store.layout import DERIVED_FAILURES_SCHEMA, FORMAT, read_record
from pfgdata.store.shards import (
    ShardDraft,
    ShardMeta,
    list_shards,
    map_array,
    reading,
    require_undamaged,
    shard_names,
    write_shard,
)
from pfgdata.store.snapshot import content_ids_of

__all__ = ["DerivedIdentity", "DerivedIndex", "DerivedInfo", "DerivedSet", "DerivedSetWriter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedIdentity:
    """What must be equal for two arrays to be exchangeable; its digest names the set. A kind adds fields."""

    @property
    def id(self) -> str:
        """The name of the set's folder: 16 hex digits."""
        return blake3(canonical_json(asdict(self))).hexdigest(length=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedInfo:
    """What a set also knows, outside its identity, decided when it is made. A kind adds its fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedIndex:
    """Where each array of a set stands: entry i is row `rows[i]` of shard `shards[shard_index[i]]`."""

    content_ids: npt.NDArray[np.uint8]  # [M, 16]
    shards: tuple[str, ...]
    shard_index: npt.NDArray[np.int32]  # [M]
    rows: npt.NDArray[np.int64]  # [M]


I = TypeVar("I", bound=DerivedIdentity)  # noqa: E741
N = TypeVar("N", bound=DerivedInfo)


class DerivedSet(Generic[I, N]):
    """One derived set, open for reading; `writer` opens it for writing. A kind is a subclass."""

    name: ClassVar[str]  # of one array, as in `latent`
    schema: ClassVar[pa.Schema]  # of the rows beside the arrays: content_id first
    identity_type: type[I]
    info_type: type[N]

    def __init__(self, path: Path, identity: I, info: N, disk: Disk) -> None:
        self.path = path
        self.identity = identity
        self.info = info
        self.disk = disk
        self._metas: dict[str, ShardMeta] = {}

    @property
    def id(self) -> str:
        """The name of the set's folder."""
        return self.identity.id

    @classmethod
    def create(cls, store: Path, identity: I, info: N, *, disk: Disk) -> Self:
        """The set of `identity` in the store at `store`, made if there is none; one there keeps its info."""
        path = store / f"{cls.name}s" / identity.id
        described = path / f"{cls.name}s.json"
        if not disk.is_file(described):
            with explained(path):
                disk.make_folder(path / "shards")
            with disk.exclusive(path / "lock", what=f"{cls.name} set {path}"), explained(path):
                if not disk.is_file(described):  # another process was faster: its info stands
                    value = {"format": FORMAT, "identity": asdict(identity), "info": asdict(info)}
                    disk.replace_file(described, canonical_json(value))
        return cls.open(path, disk=disk)

    @classmethod
    def all_of(cls, store: Path, *, disk: Disk) -> list[Self]:
        """The sets of this kind in the store at `store`, by id."""
        made = [path for path in cls.folders(store, disk=disk) if disk.is_file(path / f"{cls.name}s.json")]
        return [cls.open(path, disk=disk) for path in made]

    @classmethod
    def folders(cls, store: Path, *, disk: Disk) -> list[Path]:
        """What stands among the sets of this kind, by name: also those whose creation was cut short."""
        folder = store / f"{cls.name}s"
        return [folder / name for name in sorted(disk.names(folder))] if disk.is_folder(folder) else []

    @classmethod
    def open(cls, path: Path, *, disk: Disk) -> Self:
        """Open the set in the folder `path`. Raises StoreFormatError where its JSON is damaged or newer."""
        advice = "delete the set and encode it again"
        value = read_record(disk, path / f"{cls.name}s.json", error=StoreFormatError, advice=advice)
        identity = known_fields(cls.identity_type, value["identity"], where=path)
        if identity.id != path.name:
            raise StoreFormatError(f"{path}: its identity has fields this pfgdata does not know; upgrade pfg")
        return cls(path, identity, known_fields(cls.info_type, value["info"], where=path), disk)

    def index(self) -> DerivedIndex:
        """Where every committed array stands, in commit order."""
        return self._index(self._with_arrays())

    def shard_ids(self) -> tuple[str, ...]:
        """The committed shards, in commit order: they are others once the set has grown."""
        return tuple(meta.id for meta in self._shards())

    def failures(self) -> pa.Table:
        """Every failure on record (content_id, kind, reason), in commit order."""
        metas = [meta for meta in self._shards() if "failures" in meta.tables]
        tables = [self._table(meta, "failures", DERIVED_FAILURES_SCHEMA.names) for meta in metas]
        tables = [table.cast(DERIVED_FAILURES_SCHEMA) for table in tables]
        return pa.concat_tables([DERIVED_FAILURES_SCHEMA.empty_table(), *tables])

    def failed_content(self) -> npt.NDArray[np.uint8]:
        """content_ids [M, 16] that are no usable image for this set, and are not tried again."""
        table = self.failures()
        kinds = np.array(table["kind"].to_pylist(), object)
        return content_ids_of(table["content_id"])[kinds == "content"]

    def array_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """The arrays of one shard, float16 [N, ...], mapped from disk."""
        self._shards()
        return map_array(self.disk, self.path / "shards" / shard_id, self._metas[shard_id], self.name)

    def rows(self, shard_id: str, columns: Sequence[str]) -> pa.Table:
        """The `columns` of `schema` of one shard: row i goes with its array i."""
        self._shards()
        return self._table(self._metas[shard_id], f"{self.name}s", columns)

    def require_undamaged(self, shard_id: str) -> None:
        """Raise CorruptShardError unless every byte of a shard is as written; takes about 1 s for 2 GB."""
        self._shards()
        require_undamaged(self.disk, self.path / "shards" / shard_id, self._metas[shard_id])

    @contextmanager
    def writer(self) -> Iterator[DerivedSetWriter]:
        """Hold the set's own lock and write. Raises StoreLockedError when another process does."""
        with self.disk.exclusive(self.path / "lock", what=f"{self.name} set {self.path}"):
            with explained(self.path):
                for folder in (self.path, self.path / "shards"):
                    self.disk.sweep(folder)
            yield DerivedSetWriter(self)

    def _with_arrays(self) -> list[ShardMeta]:
        return [meta for meta in self._shards() if f"{self.name}s" in meta.tables]

    def _index(self, metas: list[ShardMeta]) -> DerivedIndex:
        ids = [content_ids_of(self._table(meta, f"{self.name}s")["content_id"]) for meta in metas]
        counts = [len(part) for part in ids]
        return DerivedIndex(
            content_ids=np.concatenate([np.empty((0, 16), np.uint8), *ids]),
            shards=tuple(meta.id for meta in metas),
            shard_index=np.repeat(np.arange(len(metas), dtype=np.int32), counts),
            rows=np.concatenate([np.empty(0, np.int64), *(np.arange(count) for count in counts)]),
        )

    def _shards(self) -> list[ShardMeta]:
        folder = self.path / "shards"
        metas = list_shards(self.disk, folder, shard_names(self.disk, folder), cache=self._metas)
        replaced = {target for meta in metas for target in meta.replaces}
        return [meta for meta in metas if meta.id not in replaced]

    def _table(self, meta: ShardMeta, table: str, columns: Sequence[str] = ("content_id",)) -> pa.Table:
        path = self.path / "shards" / meta.id / f"{table}.parquet"
        with reading(self.disk, path) as local:
            return pq.read_table(local, columns=list(columns))


class DerivedSetWriter:
    """The one writer of a derived set, alive while its lock is held."""

    def __init__(self, derived: DerivedSet[Any, Any]) -> None:
        self._set = derived

    def commit(
        self,
        arrays: npt.NDArray[np.float16],
        *,
        rows: pa.Table,
        failures: pa.Table,
        facts: Mapping[str, Any],
        writer: Mapping[str, Any],
    ) -> ShardMeta:
        """Write one shard durably: `arrays` [N, ...] go with `rows`, one each; `facts` are of the shard."""
        assert rows.num_rows == len(arrays)
        name = self._set.name
        draft = ShardDraft(
            tables={f"{name}s": rows, "failures": failures},
            arrays={name: arrays},
            facts=facts,
            writer=writer,
        )
        with explained(self._set.path):
            return write_shard(self._set.disk, self._set.path / "shards", draft)
