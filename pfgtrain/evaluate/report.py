"""What an evaluation found, as values that go to JSON whole: every figure, and every guide's own numbers.

A figure that cannot be had (no other views, no styles, no such tags) is None and never 0.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from pfgtrain.evaluate.options import EvaluateOptions

__all__ = [
    "IN_STYLE",
    "Diversity",
    "EvaluateReport",
    "Figure",
    "GuideReport",
    "NearestTraining",
    "PixelReport",
    "Retrieval",
    "RowReport",
    "Trial",
    "Tuning",
    "ViewerReport",
    "report_json",
]

IN_STYLE = "_in_style"  # ends the name of a gallery that is searched one style at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number and the 95 % interval of a percentile bootstrap over the guides it is of."""

    value: float
    low: float
    high: float
    guides: int

    def __str__(self) -> str:
        return self.text(2)

    def text(self, places: int) -> str:
        """The number and its interval, with so many decimal places."""
        return f"{self.value:.{places}f} [{self.low:.{places}f}, {self.high:.{places}f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """How often the own guide is first, or among the first five, of a gallery.

    `ranks` has a list a guide, of each of its pictures (1 is first); None where it is left out or, with an
    oracle, where the figure is an expectation.
    """

    top1: Figure | None
    top5: Figure | None
    ranks: list[list[int] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReport:
    """One row: a way to make pictures for guides, and what a viewer sees in them.

    `cosines` are the guides' own: to the raw guide, centred on the mean of all guides; None: left out.
    """

    cosine: Figure | None
    scaled: Figure | None  # the same, so that the row shuffled is 0 and the row ceiling 1
    attributes: dict[str, Figure | None]  # F1 per group of tags
    retrieval: dict[str, Retrieval]  # by gallery
    cosines: list[float | None]
    face: dict[str, Figure | None]  # F1 of expression, eyes, mouth, ... over that of the row ceiling
    kid: Figure | None  # to the other views as they are; None for rows that are no set of pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelReport:
    """How a row's pictures are drawn, whoever looks: see `strokes`.

    `edges` and `lines` are energies over those of the guides through the VAE; `colour` is the error of flat
    colours against the guides as they are, 0..255.
    """

    edges: Figure | None
    lines: Figure | None
    colour: Figure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """Mean of 1 - centred cosine between pictures of one guide, and between real views of one character."""

    results: Figure | None
    views: Figure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerReport:
    """All rows as one viewer sees them. `chance` is of blind guessing, by gallery: top-1, top-5."""

    name: str
    weights_sha256: str
    recipe: str  # how its squares are made, by the name that records have
    tags: dict[str, int]  # tags counted, by group: known to the viewer and true of a guide
    chance: dict[str, tuple[float, float]]
    rows: dict[str, RowReport]
    diversity: Diversity
    kid_real: Figure | None  # of the guides as they are to their other views: about 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestTraining:
    """Cosine to the nearest training image, centred on the training mean, by the run's tagger."""

    images: int  # trained on, distinct
    results: Figure
    results_max: float
    guides: Figure
    guides_max: float
    per_guide: list[float]  # of the guide itself, through the VAE as the results are
    per_result: list[list[float]]  # of each guide's pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideReport:
    """A guide; `pictures` are files relative to the report: guide, vae, view, results, copy."""

    name: str
    character: str | None
    style: str | None
    content_id: str
    trained_on: bool | None  # by the run; None: its store is not here
    pictures: dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One setting tried on other guides, by the run's tagger."""

    guidance_scale: float
    pfg_scale: float
    scaled: Figure | None
    top1: Figure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was tried on other guides than those reported; `best` is the index of the trial that was used."""

    guides: list[str]
    trials: list[Trial]
    best: int

    def applied(self, options: EvaluateOptions) -> EvaluateOptions:
        """`options` with the setting that was best."""
        best = self.trials[self.best]
        return replace(options, guidance_scale=best.guidance_scale, pfg_scale=best.pfg_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateReport:
    """What an evaluation found. `viewers` are the run's `tagger` and, if one was given, the `judge`."""

    model: dict[str, Any]
    options: EvaluateOptions
    guides: list[GuideReport]
    viewers: dict[str, ViewerReport]
    pixels: dict[str, PixelReport]  # by row; `guide` is the guides as they are
    nearest_training: NearestTraining | None
    tuning: Tuning | None
    no_pfg_pictures: list[str]
    notes: list[str]
    seconds: float
    further: int = 0  # characters of the gallery beside the guides

    @property
    def flagged(self) -> list[str]:
        """The guides that the run was trained on."""
        return [guide.name for guide in self.guides if guide.trained_on]

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON's own types."""
        return json.loads(report_json(self))


def report_json(report: EvaluateReport) -> str:
    """The report as JSON."""
    return json.dumps(asdict(report), ensure_ascii=False, allow_nan=False, indent=1)
