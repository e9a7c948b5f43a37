"""What becomes of one planned image, and which contents have a row already.

The outcome of an image depends on its bytes and on the images before it, never on how many threads ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.ingest.runs import Keys, SortedRuns, keys_in
from pfgdata.ingest.tasks import Task
from pfgdata.store import Snapshot, content_ids_of

__all__ = [
    "Copied",
    "Failed",
    "KnownContents",
    "Outcome",
    "PixelFacts",
    "Scored",
    "Source",
    "Stat",
    "Tagged",
    "Untouched",
]


@dataclass(frozen=True, slots=True)
class Stat:
    """What was read: its content, and the stat of the file it was read from."""

    content_id: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class PixelFacts:
    """What decoding tells about an image, and its perceptual hash."""

    width: int
    height: int
    format: str
    frames: int
    phash: int


@dataclass(frozen=True, slots=True)
class Tagged:
    """A new content; its scores and feature stand in row `slot` of its batch."""

    task: Task
    stat: Stat
    pixels: PixelFacts
    slot: int


@dataclass(frozen=True, slots=True)
class Copied:
    """A content that the store, or this run before, already has a row for."""

    task: Task
    stat: Stat


@dataclass(frozen=True, slots=True)
class Untouched:
    """A file that was read again and is what its row says."""

    task: Task


@dataclass(frozen=True, slots=True)
class Failed:
    """An image that could not be used; `kind` is content or access."""

    task: Task
    kind: str
    reason: str


Outcome = Tagged | Copied | Untouched | Failed


@dataclass(frozen=True, slots=True)
class Scored:
    """Outcomes in corpus order, and scores float32 [B, V] and features float32 [B, F] of those tagged.

    `seconds` is what they took, by stage.
    """

    outcomes: list[Outcome]
    scores: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    seconds: dict[str, float] = field(default_factory=dict)


_PLACE = np.dtype([("shard", np.int32), ("row", np.int32)])  # shard: a position in a list of shards


class Source(Protocol):
    """Where rows are copied from: shards of a snapshot, or what is to be one."""

    def require_undamaged(self, shard_id: str) -> None:
        """Raise CorruptShardError unless a shard is as written."""

    def rows(self, shard_id: str, rows: npt.NDArray[np.int64]) -> pa.Table:
        """The given rows of a shard, in the order given."""

    def feature_map(self, shard_id: str) -> npt.NDArray[np.float16]:
        """The features of all rows of a shard."""


class KnownContents:
    """Which content_ids have a row, or will have: of a snapshot, committed since, or under way.

    24 bytes a content. One thread commits while others ask.
    """

    def __init__(self, snapshot: Snapshot | None) -> None:
        """Those of a snapshot; None knows none."""
        self._shards: list[str] = []
        self._places = SortedRuns(_PLACE)
        if snapshot:
            found = snapshot.by_shard("images", ["content_id"])
            self._places.fill(
                self._next(shard, content_ids_of(rows["content_id"]), rows["row"]) for shard, rows in found
            )
        self._under_way: set[bytes] = set()
        self._compared: set[str] = set()  # shards that rows were copied from

    def branch(self) -> KnownContents:
        """One that knows as much and learns apart from this one."""
        other = KnownContents(None)
        other._shards, other._places = list(self._shards), self._places.branch()
        other._compared = self._compared
        return other

    def __contains__(self, content: bytes) -> bool:
        return content in self._under_way or self.position(content) is not None

    def add(self, content: bytes) -> bool:
        """Note that `content` gets a row, to be committed; False where it was known."""
        if content in self:
            return False
        self._under_way.add(content)
        return True

    def commit(self, shard: str, rows: Mapping[bytes, int]) -> None:
        """Note the row of each content that `shard` brought."""
        self._places.add(*self._next(shard, b"".join(rows), np.fromiter(rows.values(), np.int32, len(rows))))
        self._under_way.difference_update(rows)  # last: who asks meanwhile finds each in one or the other

    def _next(
        self, shard: str, contents: bytes | npt.NDArray[np.uint8], rows: npt.ArrayLike
    ) -> tuple[Keys, npt.NDArray[np.void]]:
        """Contents of the next shard, and their places."""
        keys = keys_in(contents)
        places = np.empty(len(keys), _PLACE)
        places["shard"], places["row"] = len(self._shards), rows
        self._shards.append(shard)
        return keys, places

    def position(self, content: bytes) -> tuple[str, int] | None:
        """(shard, row) of a committed row of that content; None where there is none."""
        place = self._places.find_one(content)
        return None if place is None else (self._shards[place["shard"]], int(place["row"]))

    def rows_of(
        self, contents: Sequence[bytes], snapshot: Source
    ) -> tuple[pa.Table, npt.NDArray[np.float16]]:
        """A committed row of each of `contents`, at least one, and its feature, in their order.

        Raises CorruptShardError where a shard that holds one is not as written.
        """
        wanted: dict[str, list[tuple[int, int]]] = {}  # shard -> (position in contents, row)
        for at, content in enumerate(contents):
            position = self.position(content)
            assert position is not None
            wanted.setdefault(position[0], []).append((at, position[1]))
        for shard in wanted.keys() - self._compared:  # a copy of a damaged row would look whole
            snapshot.require_undamaged(shard)
            self._compared.add(shard)
        columns = {shard: np.array(positions, np.int64).T for shard, positions in wanted.items()}
        order = np.argsort(np.concatenate([at for at, _ in columns.values()]))
        tables = [snapshot.rows(shard, rows) for shard, (_, rows) in columns.items()]
        features = [snapshot.feature_map(shard)[rows] for shard, (_, rows) in columns.items()]
        table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        return table.take(pa.array(order)), np.concatenate(features)[order]
