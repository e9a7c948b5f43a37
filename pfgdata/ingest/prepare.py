"""From a task to the tagger's square: read, hash, decode, shrink. Runs in the pool's threads.

A decoder that does not return keeps its thread, and a core, until the run ends; another thread takes its
place. After four of those the pixels are made in processes, which can be killed.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pfgdata.conventions import Convention
from pfgdata.corpus import Isolated, ReadResult, Segment, Watch, far_readers, read, too_long
from pfgdata.errors import AccessError, ContentError, ImageError, PfgError, refused_by_system
from pfgdata.images import Limits, decode, perceptual_hash, picture_in, square
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.outcomes import Copied, Failed, KnownContents, PixelFacts, Stat, Untouched
from pfgdata.ingest.tasks import Task
from pfgdata.paths import Url
from pfgdata.records import content_id
from pfgdata.taggers import Tagger

__all__ = ["Halt", "Item", "PixelWork", "Prepared", "Preparer", "Ready", "Square"]

_STUCK_THREADS = 4  # each may hold a core and the pixels of one image until the run ends
_ENOUGH = 128  # pixels of the shorter side to take a perceptual hash from
_FAST_SIDES = 1  # decode="fast" leaves at least the side of the square; at 2 a megapixel is not scaled at all
# Not the image's fault, and the next would fare no better: the run ends, rather than fail a thousand images.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Square:
    """A decoded image: `array` is the tagger's uint8 RGB [S, S, 3]; seconds that hash and shrink took."""

    facts: PixelFacts
    array: npt.NDArray[np.uint8]
    preprocess_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelWork:
    """Turns an image's bytes into a Square. A plain value, so that a process can be given it."""

    preprocess: str
    size: int
    limits: Limits
    at_least: int | None

    @classmethod
    def of(cls, tagger: Tagger, options: IngestOptions) -> PixelWork:
        """What `tagger` wants, within the limits of `options`."""
        size = tagger.image_size
        side = Convention.of(tagger.identity.preprocess).longer_side(size)
        at_least = _FAST_SIDES * side if options.decode == "fast" and side else None
        return cls(preprocess=tagger.identity.preprocess, size=size, limits=options.limits, at_least=at_least)

    def __call__(self, data: bytes) -> Square:
        """Decode and shrink. Raises ContentError for what is no usable image."""
        pixels = decode(data, limits=self.limits, at_least=self.at_least)
        decoded = time.perf_counter()
        array = square(pixels.array, preprocess=self.preprocess, size=self.size)
        phash = perceptual_hash(
            _small(pixels.array, picture_in(array, pixels.array, preprocess=self.preprocess))
        )
        facts = PixelFacts(pixels.width, pixels.height, pixels.format, pixels.frames, phash)
        return Square(facts, array, time.perf_counter() - decoded)


def _small(pixels: npt.NDArray[np.uint8], part: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What to hash of a picture: its part of the square, the cheaper one, where alpha and size allow."""
    return part if pixels.shape[2] == 3 and min(part.shape[:2]) >= _ENOUGH else pixels


@dataclass(frozen=True, slots=True)
class Ready:
    """A new content, decoded."""

    task: Task
    stat: Stat
    square: Square


@dataclass(frozen=True, slots=True)
class Halt:
    """The run cannot go on from this task: `error` says why."""

    task: Task
    error: PfgError


Item = Ready | Copied | Untouched | Failed | Halt


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a task in the pool, and the seconds it took there by stage."""

    item: Item
    seconds: dict[str, float]


class Preparer:
    """The work of the pool's threads on one task; `stuck` says when pixels are to be made in a process."""

    def __init__(
        self,
        segments: Sequence[Segment],
        known: KnownContents,
        pixels: Callable[[bytes], Square],
        options: IngestOptions,
    ) -> None:
        self._segments = segments
        self._known = known
        self._pixels = pixels
        self._options = options
        self._isolated = Isolated(pixels, seconds=options.image_seconds)
        self._watch = Watch(seconds=options.image_seconds)
        self.stuck: Callable[[], int] = lambda: 0  # threads left behind so far

    def readers(self, threads: int) -> int:
        """How many threads should call this, where `threads` are to decode."""
        readers = far_readers(threads, [segment.location for segment in self._segments])
        if readers > threads:
            self._watch = Watch(seconds=self._options.image_seconds, decoders=threads)
        return readers

    def more(self, task: Task) -> float:
        """Seconds beyond its own that `task` may take."""
        return self._watch.more(task)

    def __call__(self, task: Task) -> Prepared:
        """Read and decode `task`, or say why not."""
        seconds: dict[str, float] = {}
        if isinstance(self._segments[task.segment].location, Url):
            with self._watch.far(task, task.found.size):
                return Prepared(self._item(task, seconds), seconds)
        return Prepared(self._item(task, seconds), seconds)

    def timeout(self) -> float:
        """Seconds that one task may take: a process has its own limit, which must come first."""
        seconds = self._options.image_seconds
        return seconds if self.stuck() < _STUCK_THREADS else 2 * seconds + Isolated.START_SECONDS

    def overdue(self, task: Task) -> Prepared:
        """What stands for a task whose work did not end in time."""
        seconds, stage = self._options.image_seconds, self._watch.left_behind(task)
        kind, timed = (ContentError.kind, "decode") if stage == "decoding" else (AccessError.kind, "read")
        return Prepared(Failed(task, kind, too_long(stage, seconds)), {timed: seconds})

    def close(self) -> None:
        """End the processes, if there are any."""
        self._isolated.close()

    def _item(self, task: Task, seconds: dict[str, float]) -> Item:
        try:
            return self._made(task, seconds)
        except ImageError as problem:
            cause = problem.__cause__
            if isinstance(cause, OSError) and cause.errno in _EXHAUSTED:
                advice = f"{refused_by_system(cause)} and run the same again"
                return Halt(task, PfgError(f"{task.found.key}: {advice}; what was done before it is kept"))
            return Failed(task, problem.kind, str(problem))

    def _made(self, task: Task, seconds: dict[str, float]) -> Ready | Copied | Untouched:
        begun = time.perf_counter()
        try:
            result = self._read(task)
            stat = Stat(content_id(result.data), result.size, result.mtime_ns)
        finally:
            read_until = time.perf_counter()
            seconds["read"] = read_until - begun
        if stat.content_id == task.old_content and stat.mtime_ns == task.found.mtime_ns:
            return Untouched(task)
        if stat.content_id in self._known:
            return Copied(task, stat)
        decoded_from = read_until
        try:
            with self._watch.decoding(task, result.data, limits=self._options.limits):
                decoded_from = time.perf_counter()  # others may have had to be waited for
                square = self._square(result.data)
        finally:
            seconds["decode"] = time.perf_counter() - decoded_from
        seconds["decode"] -= square.preprocess_seconds
        seconds["preprocess"] = square.preprocess_seconds
        return Ready(task, stat, square)

    def _read(self, task: Task) -> ReadResult:
        segment = self._segments[task.segment]
        return read(
            segment.location,
            task.found.key,
            max_bytes=self._options.max_bytes,
            follow_links=segment.options.follow_links,
        )

    def _square(self, data: bytes) -> Square:
        if self.stuck() < _STUCK_THREADS:
            return self._pixels(data)
        try:
            return self._isolated(data)
        except TimeoutError:
            raise ContentError(too_long("decoding", self._options.image_seconds)) from None
        except EOFError:
            raise ContentError("the decoder crashed") from None
