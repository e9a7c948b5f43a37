"""Latent sets on disk: one folder per identity under the store's `latents/`, its shards of one bucket each.

A set's bucket list is decided when the set is made and frozen: images that come later take the nearest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from pfgdata.errors import StoreFormatError
from pfgdata.files import Disk, canonical_json, explained, read_json
from pfgdata.store.identity import known_fields
from pfgdata.store.layout import FORMAT, LATENT_FAILURES_SCHEMA
from pfgdata.store.shards import (
    ShardMeta,
    list_shards,
    map_array,
    new_shard_id,
    reading,
    require_undamaged,
    shard_names,
    write_shard,
)
from pfgdata.store.snapshot import content_ids_of

__all__ = [
    "LatentIdentity",
    "LatentIndex",
    "LatentInfo",
    "LatentSet",
    "LatentSetWriter",
    "create_latent_set",
    "latent_folders",
    "list_latent_sets",
    "open_latent_set",
]


_CROPS = ("crop_top", "crop_left", "resized_width", "resized_height", "width", "height")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentIdentity:
    """What must be equal for two latents to be exchangeable; its digest names the set."""

    vae_digest: str  # BLAKE3 of the state dict, see pfgdata.vaes
    compute_dtype: str
    stored_dtype: str
    resolution: int  # pixels; area = resolution ** 2
    step: int  # pixels
    area: int  # pixels
    min_side: int
    max_side: int
    max_ratio: float
    small_rule: str  # what happens to buckets with few images: "keep"
    crop_rule: str  # "centre"
    pixel_recipe: str  # decode and resize, with versions
    flip: bool
    kind: str  # "mean" or "moments"

    @property
    def id(self) -> str:
        """The name of the set's folder: 16 hex digits."""
        return blake3(canonical_json(asdict(self))).hexdigest(length=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentInfo:
    """What a set also knows, outside its identity."""

    buckets: tuple[tuple[int, int], ...]  # width, height in pixels
    base_name: str
    base_revision: str | None
    scaling_factor: float  # of the VAE; the stored latents are unscaled
    probe: tuple[Any, ...]  # latent of a fixed image, nested floats [C][h][w]: tells VAEs apart by effect


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentIndex:
    """Where each latent of a set stands: entry i is row `rows[i]` of shard `shards[shard_index[i]]`."""

    content_ids: npt.NDArray[np.uint8]  # [M, 16]
    bucket: npt.NDArray[np.int32]  # [M], into LatentInfo.buckets
    shards: tuple[str, ...]
    shard_index: npt.NDArray[np.int32]  # [M]
    rows: npt.NDArray[np.int64]  # [M]


class LatentSet:
    """One latent set, open for reading; `writer` opens it for writing."""

    def __init__(self, path: Path, identity: LatentIdentity, info: LatentInfo, disk: Disk) -> None:
        self.path = path
        self.identity = identity
        self.info = info
        self.disk = disk
        self._metas: dict[str, ShardMeta] = {}

    @property
    def id(self) -> str:
        """The name of the set's folder."""
        return self.identity.id

    def index(self) -> LatentIndex:
        """Where every committed latent stands, in commit order."""
        metas = [meta for meta in self._shards() if "latents" in meta.tables]
        ids = [self._ids(meta, "latents") for meta in metas]
        counts = [len(part) for part in ids]
        bucket_of = {bucket: index for index, bucket in enumerate(self.info.buckets)}
        buckets = [bucket_of[tuple(meta.facts["bucket"])] for meta in metas]
        return LatentIndex(
            content_ids=np.concatenate([np.empty((0, 16), np.uint8), *ids]),
            bucket=np.repeat(np.array(buckets, np.int32), counts),
            shards=tuple(meta.id for meta in metas),
            shard_index=np.repeat(np.arange(len(metas), dtype=np.int32), counts),
            rows=np.concatenate([np.empty(0, np.int64), *(np.arange(count) for count in counts)]),
        )

    def failures(self) -> pa.Table:
        """Every failure on record (content_id, kind, reason), in commit order."""
        metas = [meta for meta in self._shards() if "failures" in meta.tables]
        columns = LATENT_FAILURES_SCHEMA.names
        tables = [self._table(meta, "failures", columns).cast(LATENT_FAILURES_SCHEMA) for meta in metas]
        return pa.concat_tables([LATENT_FAILURES_SCHEMA.empty_table(), *tables])

    def failed_content(self) -> npt.NDArray[np.uint8]:
        """content_ids [M, 16] that are no usable image for this set, and are not tried again."""
        table = self.failures()
        kinds = np.array(table["kind"].to_pylist(), object)
        return content_ids_of(table["content_id"])[kinds == "content"]

    def latent_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """The latents of one shard, float16 [N, C, h, w] (2C for moments), mapped from disk; unscaled."""
        self._shards()
        return map_array(self.disk, self.path / "shards" / shard_id, self._metas[shard_id], "latent")

    def require_undamaged(self, shard_id: str) -> None:
        """Raise CorruptShardError unless every byte of a shard is as written; takes about 1 s for 2 GB."""
        self._shards()
        require_undamaged(self.disk, self.path / "shards" / shard_id, self._metas[shard_id])

    def crops(self, shard_id: str) -> npt.NDArray[np.int64]:
        """How each image of one shard was cut, pixels [N, 6]: top, left, resized and original width, height.

        Top and left are of the resized image.
        """
        self._shards()
        table = self._table(self._metas[shard_id], "latents", list(_CROPS))
        return np.stack([table[name].to_numpy().astype(np.int64) for name in _CROPS], axis=1)

    @contextmanager
    def writer(self) -> Iterator[LatentSetWriter]:
        """Hold the set's own lock and write. Raises StoreLockedError when another process does."""
        with self.disk.exclusive(self.path / "lock", what=f"latent set {self.path}"):
            with explained(self.path):
                for folder in (self.path, self.path / "shards"):
                    self.disk.sweep(folder)
            yield LatentSetWriter(self)

    def _shards(self) -> list[ShardMeta]:
        folder = self.path / "shards"
        metas = list_shards(self.disk, folder, shard_names(self.disk, folder), cache=self._metas)
        replaced = {target for meta in metas for target in meta.replaces}
        return [meta for meta in metas if meta.id not in replaced]

    def _ids(self, meta: ShardMeta, table: str) -> npt.NDArray[np.uint8]:
        return content_ids_of(self._table(meta, table, ["content_id"])["content_id"])

    def _table(self, meta: ShardMeta, table: str, columns: list[str]) -> pa.Table:
        path = self.path / "shards" / meta.id / f"{table}.parquet"
        with reading(self.disk, path) as local:
            return pq.read_table(local, columns=columns)


class LatentSetWriter:
    """The one writer of a latent set, alive while its lock is held."""

    def __init__(self, latent_set: LatentSet) -> None:
        self._set = latent_set

    def commit(
        self,
        latents: npt.NDArray[np.float16],
        *,
        bucket: tuple[int, int],
        rows: pa.Table,
        failures: pa.Table,
        writer: Mapping[str, Any],
    ) -> ShardMeta:
        """Write one shard of one bucket durably: `latents` [N, C, h, w] go with `rows`, one each."""
        assert rows.num_rows == len(latents)
        folder = self._set.path / "shards"
        with explained(self._set.path):
            return write_shard(
                self._set.disk,
                folder,
                new_shard_id(self._set.disk, folder),
                tables={"latents": rows, "failures": failures},
                arrays={"latent": latents},
                facts={"bucket": list(bucket)},
                writer=writer,
            )


def create_latent_set(folder: Path, identity: LatentIdentity, info: LatentInfo, *, disk: Disk) -> LatentSet:
    """The set of `identity` under `folder` (`latents/`), made if there is none."""
    path = folder / identity.id
    if not disk.is_file(path / "latents.json"):
        with explained(path):
            disk.make_folder(path / "shards")
        with disk.exclusive(path / "lock", what=f"latent set {path}"), explained(path):
            if not disk.is_file(path / "latents.json"):  # another process was faster: its bucket list stands
                value = {"format": FORMAT, "identity": asdict(identity), "info": asdict(info)}
                disk.replace_file(path / "latents.json", canonical_json(value))
    return open_latent_set(path, disk=disk)


def list_latent_sets(folder: Path, *, disk: Disk) -> list[LatentSet]:
    """The sets under `folder` (`latents/`), by id."""
    made = [path for path in latent_folders(disk, folder) if disk.is_file(path / "latents.json")]
    return [open_latent_set(path, disk=disk) for path in made]


def latent_folders(disk: Disk, folder: Path) -> list[Path]:
    """What stands in `folder` (`latents/`), by name: sets, and those whose creation was cut short."""
    return [folder / name for name in sorted(disk.names(folder))] if disk.is_folder(folder) else []


def open_latent_set(path: Path, *, disk: Disk) -> LatentSet:
    """Open the set in the folder `path`. Raises StoreFormatError where latents.json is damaged or newer."""
    advice = "delete the set and encode it again"
    value = read_json(path / "latents.json", error=StoreFormatError, advice=advice, disk=disk)
    if value["format"] > FORMAT:
        raise StoreFormatError(f"{path}: written in format {value['format']}; upgrade pfg")
    identity = known_fields(LatentIdentity, value["identity"], where=path)
    if identity.id != path.name:
        raise StoreFormatError(f"{path}: its identity has fields this pfgdata does not know; upgrade pfg")
    buckets = tuple((int(width), int(height)) for width, height in value["info"]["buckets"])
    info = known_fields(LatentInfo, {**value["info"], "buckets": buckets}, where=path)
    return LatentSet(path, identity, info, disk)
