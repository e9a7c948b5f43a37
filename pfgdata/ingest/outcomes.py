"""What becomes of one planned image, and which contents have a row already.

The outcome of an image depends on its bytes and on the images before it, never on how many threads ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.ingest.plan import Task
from pfgdata.records import CONTENT_ID_BYTES, ids_as_keys
from pfgdata.store import Snapshot

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


class _Index(NamedTuple):
    """Contents with a row, sorted by the first half of their ids: 32 bytes each."""

    halves: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.void]
    shard: npt.NDArray[np.int32]  # a position in KnownContents' list of shards
    row: npt.NDArray[np.int32]


_NONE = _Index(np.empty(0, np.uint64), np.empty(0, "V16"), np.empty(0, np.int32), np.empty(0, np.int32))


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

    The search is by the first half of an id: integers are sorted many times as fast as whole ids (600,000 in
    0.1 s). One thread commits while others ask.
    """

    def __init__(self, snapshot: Snapshot | None) -> None:
        """Those of a snapshot; None knows none."""
        everything = snapshot.everything if snapshot else None
        self._shards = list(everything.shards) if everything else []
        self._index = (
            _index(everything.content_ids, everything.shard_index, everything.rows) if everything else _NONE
        )
        self._under_way: set[bytes] = set()
        self._compared: set[str] = set()  # shards that rows were copied from

    def branch(self) -> KnownContents:
        """One that knows as much and learns apart from this one."""
        other = KnownContents(None)
        other._shards, other._index = list(self._shards), self._index
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
        contents = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, CONTENT_ID_BYTES)
        positions = np.fromiter(rows.values(), np.int32, len(rows))
        fresh = _index(contents, np.full(len(rows), len(self._shards), np.int32), positions)
        self._shards.append(shard)
        old, at = self._index, np.searchsorted(self._index.halves, fresh.halves)
        self._index = _Index(
            np.insert(old.halves, at, fresh.halves),
            np.insert(old.ids, at, fresh.ids),
            np.insert(old.shard, at, fresh.shard),
            np.insert(old.row, at, fresh.row),
        )
        self._under_way.difference_update(rows)  # last: who asks meanwhile finds each in one or the other

    def position(self, content: bytes) -> tuple[str, int] | None:
        """(shard, row) of a committed row of that content; None where there is none."""
        index = self._index
        half = np.frombuffer(content, np.uint64, 1)[0]
        at = int(index.halves.searchsorted(half))
        while at < len(index.halves) and index.halves[at] == half:
            if index.ids[at].tobytes() == content:
                return self._shards[index.shard[at]], int(index.row[at])
            at += 1
        return None

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


def _index(content_ids: npt.NDArray[np.uint8], shard: npt.NDArray[np.int32], row: npt.NDArray[Any]) -> _Index:
    """An _Index of content_ids, uint8 [N, 16]; equal ones keep their order, so that the first is found."""
    halves = np.ascontiguousarray(content_ids[:, :8]).view(np.uint64).ravel()
    order = np.argsort(halves, kind="stable")
    return _Index(halves[order], ids_as_keys(content_ids)[order], shard[order], row[order].astype(np.int32))
