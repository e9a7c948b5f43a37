"""From tasks to scored batches, in order: squares, batches and scores are made in threads of their own.

A failed image keeps its slot in the batch, blank, and the last batch is padded: what an image's
neighbours are never depends on whether it could be read.

Shapes: B images a batch, S side of the square, V tags, F feature width.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pfgdata.corpus import OrderedPool, Timeout, background
from pfgdata.errors import ModelError, PfgError
from pfgdata.ingest.outcomes import Copied, Failed, KnownContents, Outcome, Scored, Tagged, Untouched
from pfgdata.ingest.prepare import Halt, Prepared, Preparer, Ready
from pfgdata.ingest.tasks import Task
from pfgdata.taggers import Tagger

__all__ = ["Stages"]

_Images = npt.NDArray[np.uint8]

_LARGEST = float(np.finfo(np.float16).max)  # features are stored as float16
_SHORT = 64  # batches' worth of outcomes without an image to score, after which they are handed on anyway
_WAITING = 2  # batches gathered and not begun: the model goes on while the caller gathers rows


class Stages:
    """The stages of one ingest, running while it is iterated: yields Scored batches in the order of `tasks`.

    It ends early on `stop` and where it cannot go on; `error` then says why, and what came before it is
    whole. `close` it.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        preparer: Preparer,
        tagger: Tagger,
        known: KnownContents,
        *,
        batch_size: int,
        threads: int,
    ) -> None:
        self.error: PfgError | None = None
        self.threads = threads  # that read and decode
        self.parallel = tagger.parallel  # threads that call the model
        self._preparer = preparer
        readers = preparer.readers(threads)
        self._squares: OrderedPool[Task, Prepared] = OrderedPool(
            tasks,
            preparer,
            threads=readers,
            ahead=2 * batch_size + readers,
            timeout=Timeout(seconds=preparer.timeout, instead=preparer.overdue, more=preparer.more),
        )
        preparer.stuck = lambda: self._squares.abandoned
        scorer = _Scorer(tagger, batch_size)
        self._batches = background(
            _gather(self._squares, known, scorer.blank), ahead=1, interrupt=self._squares.close
        )
        self._scored = OrderedPool(
            self._batches, scorer, threads=tagger.parallel, ahead=tagger.parallel + _WAITING
        )

    @property
    def abandoned(self) -> int:
        """Threads left behind in a decoder that did not return."""
        return self._squares.abandoned

    def __iter__(self) -> Generator[Scored]:
        try:
            for scored, error in self._scored:
                self.error = error
                yield scored
        except ModelError as problem:
            self.error = problem

    def stop(self) -> None:
        """Begin no more batch; those under way still come out."""
        self._scored.cancel()

    def close(self) -> None:
        """End every thread and process, waiting for what has begun."""
        self._scored.cancel()
        self._batches.close()
        self._squares.close()  # again: batches that were never asked for did not
        self._scored.close()
        self._preparer.close()


@dataclass(slots=True)
class _Batch:
    """Outcomes and the images of those to score: `images` uint8 [B, S, S, 3], blank where there is none."""

    images: _Images
    outcomes: list[Outcome] = field(default_factory=list)
    slots: int = 0  # taken
    tagged: int = 0  # of them with an image
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    error: PfgError | None = None  # what ended the reading after this batch

    @property
    def is_due(self) -> bool:
        """Whether it is full, or holds as many outcomes as one should."""
        return self.slots == len(self.images) or len(self.outcomes) >= _SHORT * len(self.images)

    def add(self, item: Ready | Copied | Untouched | Failed) -> None:
        """Take the next outcome; an image or a failure fills a slot."""
        if isinstance(item, Ready):
            self.images[self.slots] = item.square.array
            self.outcomes.append(Tagged(item.task, item.stat, item.square.facts, self.slots))
            self.tagged += 1
        else:
            self.outcomes.append(item)
            if isinstance(item, Failed):
                self.images[self.slots] = 0
        self.slots += isinstance(item, Ready | Failed)

    def padded(self) -> _Batch:
        """The batch with every slot that nothing took blank."""
        self.images[self.slots :] = 0
        return self


def _gather(
    squares: Iterable[Prepared], known: KnownContents, blank: Callable[[], _Images]
) -> Generator[_Batch]:
    """Batches of `squares`, in their order; a content seen before in this run becomes a copy."""
    batch = _Batch(blank())
    for prepared in squares:
        item = prepared.item
        for stage, seconds in prepared.seconds.items():
            batch.seconds[stage] += seconds
        if isinstance(item, Halt):
            batch.error = item.error
            break
        if isinstance(item, Ready) and not known.add(item.stat.content_id):
            item = Copied(item.task, item.stat)  # of an earlier image of this run, seen after it was decoded
        batch.add(item)
        if batch.is_due:
            yield batch.padded()
            batch = _Batch(blank())
    if batch.outcomes or batch.error:
        yield batch.padded()


class _Scorer:
    """The work of the model's threads; keeps the arrays of batches for the next ones.

    Fresh memory is touched page by page: filling 77 MB (128 images) took 250 ms, again in place 7 ms.
    """

    def __init__(self, tagger: Tagger, batch_size: int) -> None:
        self._tagger = tagger
        self._shape = (batch_size, tagger.image_size, tagger.image_size, 3)
        self._free: deque[_Images] = deque()

    def blank(self) -> _Images:
        """An array for a batch, with any content."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty(self._shape, np.uint8)

    def __call__(self, batch: _Batch) -> tuple[Scored, PfgError | None]:
        """Score a batch, and hand on what ended the reading after it."""
        tagger = self._tagger
        scores = np.zeros((0, len(tagger.vocabulary)), np.float32)
        features = np.zeros((0, tagger.feature_dim), np.float32)
        if batch.tagged:
            begun = time.perf_counter()
            scores, features = tagger.predict(batch.images)
            batch.seconds["model"] += time.perf_counter() - begun
            _require_finite(scores, features, tagger)
        self._free.append(batch.images)
        return Scored(batch.outcomes, scores, features, dict(batch.seconds)), batch.error


def _require_finite(
    scores: npt.NDArray[np.float32], features: npt.NDArray[np.float32], tagger: Tagger
) -> None:
    """Raise ModelError for scores or features that a store could not hold: one would poison a training."""
    if not np.isfinite(scores).all() or not np.abs(features).max() <= _LARGEST:
        raise ModelError(
            f"tagger {tagger.identity.name} gave numbers that are not finite in float16 ({tagger.provider}); "
            "use another precision or provider"
        )
