"""From tasks to outcomes: read, hash, decode and square in threads; score in full batches; order kept.

A failed image keeps its slot in the batch, blank, and the last batch is padded: what an image's
neighbours are never depends on whether it could be read.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pfgdata.corpus import Segment, ordered_pool, read
from pfgdata.errors import AccessError, ImageError, ModelError
from pfgdata.images import decode, perceptual_hash, square
from pfgdata.ingest.plan import Plan, Task
from pfgdata.records import content_id, ids_as_keys
from pfgdata.store import Snapshot
from pfgdata.taggers import Tagger

__all__ = ["Copied", "Failed", "KnownContents", "Outcome", "Stat", "Tagged", "Untouched", "run_stages"]


@dataclass(frozen=True, slots=True)
class Stat:
    """What was read: its content, and the stat of the file it was read from."""

    content_id: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Tagged:
    """A new content, scored: scores float32 [V] and feature float32 [F]."""

    task: Task
    stat: Stat
    pixels: PixelFacts
    scores: npt.NDArray[np.float32]
    feature: npt.NDArray[np.float32]


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


@dataclass(frozen=True, slots=True)
class PixelFacts:
    """What decoding tells about an image, and its perceptual hash."""

    width: int
    height: int
    format: str
    frames: int
    phash: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """A new content, decoded: `square` is the tagger's uint8 RGB [S, S, 3]."""

    task: Task
    stat: Stat
    pixels: PixelFacts
    square: npt.NDArray[np.uint8]


_LARGEST = float(np.finfo(np.float16).max)  # features are stored as float16
Outcome = Tagged | Copied | Untouched | Failed


class KnownContents:
    """Which content_ids have a row: those of a snapshot, by binary search, and those of this run."""

    def __init__(self, snapshot: Snapshot) -> None:
        selection = snapshot.everything
        ids = ids_as_keys(selection.content_ids)
        order = np.argsort(ids, kind="stable")
        self._ids, self._order, self._selection = ids[order], order, selection
        self.new: dict[bytes, tuple[str, int] | None] = {}  # place once committed

    def __contains__(self, content: bytes) -> bool:
        return content in self.new or self._find(content) is not None

    def place(self, content: bytes) -> tuple[str, int] | None:
        """(shard, row) of a committed row of that content; None while it is not committed."""
        if content in self.new:
            return self.new[content]
        at = self._find(content)
        assert at is not None
        index = int(self._order[at])
        return self._selection.shards[self._selection.shard_index[index]], int(self._selection.rows[index])

    def _find(self, content: bytes) -> int | None:
        wanted = ids_as_keys(np.frombuffer(content, np.uint8))
        at = int(np.searchsorted(self._ids, wanted)[0]) if len(self._ids) else 0
        return at if at < len(self._ids) and self._ids[at].tobytes() == content else None


def run_stages(
    plan: Plan,
    segments: Sequence[Segment],
    tagger: Tagger,
    known: KnownContents,
    *,
    batch_size: int,
    threads: int,
) -> Generator[tuple[list[Outcome], dict[str, float]]]:
    """Outcomes of every task of `plan`, in its order, a list for each batch that was scored.

    Beside each list the seconds it took: `read` (waiting for images read and decoded), `model`.
    """

    def prepare(task: Task) -> _Ready | Copied | Untouched | Failed:
        return _prepare(task, segments[task.segment], tagger, known)

    window: list[_Ready | Copied | Untouched | Failed] = []
    slots, since = 0, time.perf_counter()

    def scored() -> tuple[list[Outcome], dict[str, float]]:
        begun = time.perf_counter()
        outcomes = _score(window, tagger, batch_size)
        return outcomes, {"read": begun - since, "model": time.perf_counter() - begun}

    for item in ordered_pool(plan, prepare, threads=threads, ahead=2 * batch_size + threads):
        if isinstance(item, _Ready):
            if item.stat.content_id in known.new:  # an earlier image of this run, seen after it was decoded
                item = Copied(item.task, item.stat)
            else:
                known.new[item.stat.content_id] = None
        window.append(item)
        slots += isinstance(item, _Ready | Failed)
        if slots == batch_size or len(window) >= 64 * batch_size:
            yield scored()
            window, slots, since = [], 0, time.perf_counter()
    if window:
        yield scored()


def _prepare(
    task: Task, segment: Segment, tagger: Tagger, known: KnownContents
) -> _Ready | Copied | Untouched | Failed:
    try:
        result = read(segment.location, task.found.key)
        stat = Stat(content_id(result.data), result.size, result.mtime_ns)
        if stat.content_id == task.old_content and stat.mtime_ns == task.found.mtime_ns:
            return Untouched(task)
        if stat.content_id in known:
            return Copied(task, stat)
        pixels = decode(result.data)
        facts = PixelFacts(
            pixels.width, pixels.height, pixels.format, pixels.frames, perceptual_hash(pixels.array)
        )
        tile = square(pixels.array, recipe=tagger.identity.recipe, size=tagger.image_size)
        return _Ready(task, stat, facts, tile)
    except ImageError as problem:
        return Failed(task, problem.kind, str(problem))
    except MemoryError:
        return Failed(task, AccessError.kind, "out of memory while decoding")


def _require_finite(
    scores: npt.NDArray[np.float32], features: npt.NDArray[np.float32], tagger: Tagger
) -> None:
    """Raise ModelError for scores or features that a store could not hold: one would poison a training."""
    if not np.isfinite(scores).all() or not np.abs(features).max() <= _LARGEST:
        raise ModelError(
            f"tagger {tagger.identity.name} gave numbers that are not finite in float16 ({tagger.provider}); "
            "use another precision or provider"
        )


def _score(
    window: Sequence[_Ready | Copied | Untouched | Failed], tagger: Tagger, batch_size: int
) -> list[Outcome]:
    slots = [item for item in window if isinstance(item, _Ready | Failed)]
    batch = np.zeros((batch_size, tagger.image_size, tagger.image_size, 3), np.uint8)
    for slot, item in enumerate(slots):
        if isinstance(item, _Ready):
            batch[slot] = item.square
    scored: dict[int, Tagged] = {}
    if any(isinstance(item, _Ready) for item in slots):
        scores, features = tagger.predict(batch)
        _require_finite(scores, features, tagger)
        for slot, item in enumerate(slots):
            if isinstance(item, _Ready):
                scored[id(item)] = Tagged(item.task, item.stat, item.pixels, scores[slot], features[slot])
    return [scored[id(item)] if isinstance(item, _Ready) else item for item in window]
