"""Pictures that a store has twice: candidates by hash, each pair judged, stars around the one to keep.

A star is no chain: each copy was compared with the picture that is kept for it. A variant is kept too, and
may have copies of its own. Memory holds the small pictures (28 kB each) of one group of candidates at a time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pfgdata.corpus import ReadImage, read_images
from pfgdata.errors import ImageError, QueryError
from pfgdata.records import NoProgress, Progress, Selection, during
from pfgdata.similarity.contents import Contents
from pfgdata.similarity.judging import Kind, Likeness, judge
from pfgdata.similarity.pictures import compare_pictures, small_picture
from pfgdata.similarity.rows import tags_over
from pfgdata.store import SetFeatures, Snapshot

__all__ = ["DuplicateOptions", "DuplicateReport", "Member", "Star", "find_duplicates"]

_MOST_COMPARED = 32  # kept pictures that one is compared with, the nearest in bits first
_FEATURES = 4096  # in memory at a time
_FLAT_LEVELS = 4.0  # standard deviation of a picture of one colour, but for noise


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateOptions:
    """What counts as a candidate: hashes within `radius` bits; `least` [V] is from which score a tag counts.

    `features` are whose cosines are taken: those of a set, else the tagger's; every row must have one.

    Pairs of content_ids in `decided` (smaller first) are left alone: a person has judged them.
    """

    radius: int = 8
    least: npt.NDArray[np.float32]
    decided: Collection[tuple[bytes, bytes]] = ()
    features: SetFeatures | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= 32:
            raise QueryError(f"a radius of {self.radius} bits; hashes have 64: give 0 to 32, 8 is usual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What is like the kept one of a star: its place among `rows`; `likeness` is None for equal bytes."""

    row: int
    kind: Kind
    likeness: Likeness | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Star:
    """One row to keep, by its place among `rows`, and its members: same and copy may go, the others stay."""

    keep: int
    members: tuple[Member, ...]

    @property
    def worst(self) -> Member | None:
        """Of the copies the one that differs most; None where there is none but equal bytes."""
        copies = [one for one in self.members if one.kind == "copy" and one.likeness]
        return max(
            copies, key=lambda one: one.likeness.difference.change if one.likeness else 0, default=None
        )


@dataclass(slots=True, kw_only=True)
class DuplicateReport:
    """What was found among `rows`; of the `contents`, distinct, `flat` were compared by bytes alone."""

    rows: Selection
    contents: int
    stars: list[Star] = field(default_factory=list)
    flat: int = 0
    compared: int = 0  # pairs of pictures
    not_compared: int = 0  # pairs, beyond the 32 nearest of one picture
    decided: int = 0  # pairs that a person has judged
    failures: list[tuple[str, str, str]] = field(default_factory=list)  # file, kind, reason
    seconds: dict[str, float] = field(default_factory=dict)

    def count(self, kind: Kind) -> int:
        """How many members are of a kind."""
        return sum(one.kind == kind for star in self.stars for one in star.members)

    @property
    def copies(self) -> Selection:
        """The rows that are copies of a kept one, in row order; equal bytes alone make none."""
        places = [one.row for star in self.stars for one in star.members if one.kind == "copy"]
        return self.rows.take(np.array(sorted(set(places)), np.int64))


def find_duplicates(
    snapshot: Snapshot,
    rows: Selection,
    *,
    options: DuplicateOptions,
    roots: Mapping[str, str],
    between: Selection | None = None,
    progress: Progress | None = None,
) -> DuplicateReport:
    """The stars among `rows`; with `between` only of pairs of which one is in `rows`, the other in that.

    `roots` says where the corpus roots are now. Files are only read. An image that cannot be read is named,
    and compared by its bytes alone.
    """
    begun = time.perf_counter()
    sides = _Sides(rows, between)
    contents = Contents.of(snapshot, sides.rows)
    groups = contents.groups(options.radius)
    report = DuplicateReport(rows=sides.rows, contents=len(contents), flat=int(contents.flat.sum()))
    report.seconds["hashes"] = time.perf_counter() - begun
    search = _Search(snapshot, contents, sides, options, report)
    search.prepare(groups)
    with during(progress or NoProgress(), "compare", total=sum(map(len, groups)), brief=False):
        search.run(groups, roots, progress or NoProgress())
    report.stars = search.stars()
    return report


class _Sides:
    """The rows of one or two selections, each once, and on which sides a content stands: bits 1 and 2."""

    def __init__(self, rows: Selection, between: Selection | None) -> None:
        self.rows = rows
        self.two = between is not None
        if between is not None:
            self.rows = _union(rows, between)
            self._one = {one.tobytes() for one in rows.content_ids}
            self._other = {one.tobytes() for one in between.content_ids}

    def apart(self, one: bytes, two: bytes) -> bool:
        """Whether a pair is asked about: always, or where one is on this side and the other on that."""
        if not self.two:
            return True
        return (one in self._one and two in self._other) or (one in self._other and two in self._one)


class _Search:
    """Groups one after the other: small pictures come in order, and each group is judged when it is whole."""

    def __init__(
        self,
        snapshot: Snapshot,
        contents: Contents,
        sides: _Sides,
        options: DuplicateOptions,
        report: DuplicateReport,
    ) -> None:
        self._snapshot = snapshot
        self._contents = contents
        self._sides = sides
        self._options = options
        self._report = report
        self._tags: dict[int, npt.NDArray[np.uint32]] = {}  # as sets they would be 10 kB a picture
        self._features: dict[int, npt.NDArray[np.float16]] = {}  # of the groups at hand
        self._members: dict[int, list[Member]] = {}

    def prepare(self, groups: Sequence[npt.NDArray[np.int64]]) -> None:
        """Read the tags of every candidate: shard by shard, once."""
        every = np.concatenate([np.empty(0, np.int64), *groups])
        rows = self._contents.rows.take(self._contents.places[self._contents.starts[every]])
        tags = tags_over(self._snapshot, rows, self._options.least)
        self._tags = dict(zip(every.tolist(), tags, strict=True))

    def run(
        self, groups: Sequence[npt.NDArray[np.int64]], roots: Mapping[str, str], progress: Progress
    ) -> None:
        """Decode and judge every group."""
        every = np.concatenate([np.empty(0, np.int64), *groups])
        images = self._contents.images(self._snapshot, every)
        threads = self._options.threads or os.cpu_count() or 1
        asked, spent = time.perf_counter(), 0.0
        with closing(
            read_images(images, _small, roots=roots, threads=threads, ahead=8 * threads)
        ) as pictures:
            for group in self._with_features(groups):
                found: dict[int, npt.NDArray[np.uint8]] = {}
                for content in group.tolist():
                    image, picture = next(pictures)
                    if isinstance(picture, ImageError):
                        failure = (picture.file or str(image), picture.kind, str(picture))
                        self._report.failures.append(failure)
                    elif picture.std(axis=(0, 1)).max() < _FLAT_LEVELS:
                        self._report.flat += 1
                    else:
                        found[content] = picture
                    progress.advance()
                began = time.perf_counter()
                self._judge(found)
                spent += time.perf_counter() - began
        self._report.seconds |= {"decode": time.perf_counter() - asked - spent, "compare": spent}

    def stars(self) -> list[Star]:
        """Every star, the best kept first; equal bytes are members of the star of their content."""
        for content in np.flatnonzero(np.diff(self._contents.starts) > 1).tolist():
            if self._sides.apart(self._contents.ids(content), self._contents.ids(content)):
                same = [Member(row=int(row), kind="same") for row in self._contents.again(content)]
                self._members.setdefault(content, [])[:0] = same
        return [
            Star(keep=self._contents.row(content), members=tuple(members))
            for content, members in sorted(self._members.items())
        ]

    def _judge(self, pictures: Mapping[int, npt.NDArray[np.uint8]]) -> None:
        """Each content, best first, joins the first kept one whose copy it is, or is kept itself."""
        kept: list[int] = []
        for content in pictures:  # in the order of their rank
            found: list[tuple[int, Member]] = []
            for other, bits in self._near(content, kept):
                likeness = self._likeness(other, content, bits, pictures)
                self._report.compared += 1
                member = Member(row=self._contents.row(content), kind=judge(likeness), likeness=likeness)
                found.append((other, member))
                if member.kind == "copy":
                    found = found[-1:]  # it goes: of what else it is a variant is said of the one that stays
                    break
            else:
                kept.append(content)
            for other, member in found:
                self._members.setdefault(other, []).append(member)

    def _near(self, content: int, kept: Sequence[int]) -> list[tuple[int, int]]:
        """The kept ones to compare `content` with, the nearest first, and how many bits differ."""
        others = np.array(kept, np.int64)
        bits = np.bitwise_count(self._contents.hashes[others] ^ self._contents.hashes[content])
        found = []
        for place in np.lexsort((others, bits)):
            if bits[place] > self._options.radius:
                break
            one, two = sorted((self._contents.ids(content), self._contents.ids(int(others[place]))))
            if not self._sides.apart(one, two):
                continue
            if (one, two) in self._options.decided:
                self._report.decided += 1
            else:
                found.append((int(others[place]), int(bits[place])))
        self._report.not_compared += len(found[_MOST_COMPARED:])
        return found[:_MOST_COMPARED]

    def _likeness(
        self, one: int, two: int, bits: int, pictures: Mapping[int, npt.NDArray[np.uint8]]
    ) -> Likeness:
        tags = self._tags[one], self._tags[two]
        both = len(np.intersect1d(*tags, assume_unique=True))
        either = sum(map(len, tags)) - both
        return Likeness(
            bits=bits,
            difference=compare_pictures(pictures[one], pictures[two]),
            cosine=_cosine(self._features[one], self._features[two]),
            tags=both / either if either else 1.0,
        )

    def _with_features(self, groups: Sequence[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.int64]]:
        """The groups, with the features of some at a time; maps kept for all would hold whole shards."""
        ends = np.cumsum([len(group) for group in groups])
        for _, part in itertools.groupby(
            zip(ends // _FEATURES, groups, strict=True), key=lambda pair: pair[0]
        ):
            some = [group for _, group in part]
            contents = np.concatenate(some)
            rows = self._contents.rows.take(self._contents.places[self._contents.starts[contents]])
            own = self._options.features
            features = self._snapshot.features(rows) if own is None else own.features(own.placed(rows))
            self._features = dict(zip(contents.tolist(), features, strict=True))
            yield from some


def _small(image: ReadImage) -> npt.NDArray[np.uint8]:
    return small_picture(image.pixels)


def _cosine(*pair: npt.NDArray[np.float16]) -> float:
    one, two = (feature.astype(np.float64) for feature in pair)
    norms = np.linalg.norm(one) * np.linalg.norm(two)
    return float(one @ two / norms) if np.isfinite(norms) and norms > 0 else 0.0


def _union(one: Selection, two: Selection) -> Selection:
    """The rows of both, each once, in the order of shards and rows."""
    shards = tuple(sorted({*one.shards, *two.shards}))
    number = {shard: index for index, shard in enumerate(shards)}
    parts = [
        (np.array([number[shard] for shard in part.shards], np.int32)[part.shard_index], part)
        for part in (one, two)
        if len(part)
    ]
    index = np.concatenate([np.empty(0, np.int32), *(places for places, _ in parts)])
    rows = np.concatenate([np.empty(0, np.int64), *(part.rows for _, part in parts)])
    ids = np.concatenate([np.empty((0, 16), np.uint8), *(part.content_ids for _, part in parts)])
    _, first = np.unique(np.stack([index, rows], axis=1), axis=0, return_index=True)
    return Selection(content_ids=ids[first], shards=shards, shard_index=index[first], rows=rows[first])
