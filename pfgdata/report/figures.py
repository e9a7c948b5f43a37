"""What a report says of a store, as values that go to JSON whole: the page shows these and no other figures.

What cannot be had (no image, no character, near copies that were not asked for) is None or empty, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = [
    "ColumnFigures",
    "Counted",
    "Example",
    "FailureFigures",
    "Grid",
    "Histogram",
    "IngestFigures",
    "NearCopies",
    "PolicyFigures",
    "RowFigures",
    "SizeFigures",
    "Star",
    "StoreReport",
    "TagFigures",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A name and how often it is there."""

    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Bin i counts what lies from `edges[i]` up to `edges[i + 1]`; the last has its upper edge too."""

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """`counts[row][column]` of images by height (row) and width (column), by the same rule as a Histogram."""

    widths: list[float]
    heights: list[float]
    counts: list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFigures:
    """How large the pictures are, in pixels; (least, median, most) of each side."""

    width: tuple[int, int, int]
    height: tuple[int, int, int]
    grid: Grid
    megapixels: Histogram
    ratios: Histogram  # width over height


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """What the buckets of one resolution would cost, over images; parts are 0..1."""

    resolution: int
    step: int
    buckets: int  # that the policy allows
    used: int  # that at least one image is nearest to
    cropped: float  # mean part of an image's area that is cut away
    cropped_much: float  # part of the images that lose over a tenth
    upscaled: float  # part of the images that are smaller than their bucket
    upscale: float | None  # median factor of those
    crop: Histogram  # images by the part that is cut away
    largest: list[Counted]  # buckets by their images, WxH


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFigures:
    """Tags that count, most frequent first: the first of `different`."""

    different: int
    top: list[Counted]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFigures:
    """What one reading of all rows gives."""

    bytes: int  # of the images' files
    ratings: list[Counted]
    formats: list[Counted]
    animated: int  # images of more than one frame
    without_character: int  # no character reaches its threshold
    tags_per_image: Histogram  # general tags that count
    general_scores: Histogram  # every score that is kept: from the floor on
    character_scores: Histogram
    rating_scores: dict[str, Histogram]
    sizes: SizeFigures | None
    policies: list[PolicyFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureFigures:
    """Images that could not be used for one reason; its numbers stand as … ; `example` is one's file."""

    kind: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFigures:
    """A column of the user's own: `top` of texts, truths and items of lists, `histogram` of numbers.

    `problem` says what is wrong with a damaged one.
    """

    name: str
    type: str = ""
    images: int = 0  # with a value
    different: int | None = None
    top: list[Counted] = field(default_factory=list)
    histogram: Histogram | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestFigures:
    """One ingest as its shards have it on record; `merged` where only the sum is left of it."""

    began: str  # ISO, UTC
    images: int
    shards: int
    seconds: float
    images_per_second: float | None
    stages: dict[str, float]  # seconds of work, in sum over threads
    writer: dict[str, str]  # tagger, provider, precision, decode, batch size and versions
    merged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture to show: `jpeg` is its thumbnail and stays out of JSON."""

    file: str
    content_id: str
    width: int
    height: int
    rating: str | None
    character: str | None
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Star:
    """A picture that is there twice: the one to keep, and its members with their kinds."""

    keep: Example
    members: list[tuple[str, Example]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearCopies:
    """What `pfgdata duplicates` counts, and a few of the stars it finds."""

    radius: int
    kept: int
    kinds: dict[str, int]  # same, copy, variant, unsure
    not_read: int
    stars: list[Star]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """All of it; `where` is None for the whole store, failures and ingests are always of the whole store."""

    store: str
    created: str  # ISO
    where: str | None
    thresholds: dict[str, float]
    score_floor: float
    tagger: dict[str, Any]
    images: int  # reported on
    total: int  # in the store
    contents: int  # distinct
    again: list[Counted]  # files whose bytes are there most often
    shards: int
    store_bytes: dict[str, int]  # of the shards, by what they hold
    rows: RowFigures
    general: TagFigures
    characters: TagFigures
    images_per_character: list[int]  # of every character, most first
    failures: list[FailureFigures]
    columns: list[ColumnFigures]
    ingests: list[IngestFigures]
    near: NearCopies | None
    examples: list[Example]
    examples_not_read: int
    seconds: float

    @property
    def failed(self) -> int:
        """Images that could not be used."""
        return sum(one.count for one in self.failures)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: every field, pictures by their names only."""
        value = asdict(replace(self, examples=[], near=None))
        near = self.near
        return {
            **value,
            "failed": self.failed,
            "near": near and {**asdict(replace(near, stars=[])), "stars": [_star(one) for one in near.stars]},
            "examples": [_named(one) for one in self.examples],
        }


def _named(example: Example) -> Mapping[str, Any]:
    return {name: value for name, value in asdict(example).items() if name != "jpeg"}


def _star(star: Star) -> Mapping[str, Any]:
    return {
        "keep": _named(star.keep),
        "members": [{"kind": kind, **_named(one)} for kind, one in star.members],
    }
