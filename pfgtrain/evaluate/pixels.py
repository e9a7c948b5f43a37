"""The figures of pixels, row by row: how sharp, how lined, in which colours; whoever looks.

Shapes: K guides, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pfgtrain.evaluate.measures import Floats, Ints, derangement, ratio
from pfgtrain.evaluate.report import PixelReport
from pfgtrain.evaluate.strokes import Strokes, colour_error

__all__ = ["PIXEL_ROWS", "pixel_rows"]

PIXEL_ROWS = {  # and the kind of picture that each is of
    "pfg": "results",
    "no_pfg": "results",
    "shuffled": "results",
    "copier": "copy",
    "ceiling": "vae",
    "guide": "guide",
}
Kept = Mapping[tuple[int, str], Sequence[Strokes]]  # of each (guide, kind); guide -1: of none


def pixel_rows(kept: Kept, count: int, *, seed: int, resamples_RK: Ints) -> dict[str, PixelReport]:
    """The rows that there are pictures of; the shuffle is that of the other figures of `seed`."""
    owners = {"no_pfg": np.full(count, -1), "shuffled": derangement(count, seed=seed)}
    guides = [kept[k, "guide"][0] for k in range(count)]
    through_vae = [kept[k, "vae"] for k in range(count)]
    rows = {}
    for row, kind in PIXEL_ROWS.items():
        pictures = [kept.get((int(owner), kind), ()) for owner in owners.get(row, np.arange(count))]
        if not any(pictures):
            continue
        colour_K = _mean(
            [[colour_error(one, guide) for one in some] for some, guide in zip(pictures, guides, strict=True)]
        )
        rows[row] = PixelReport(
            edges=ratio(_edges(pictures), _edges(through_vae), resamples_RK),
            lines=ratio(_lines(pictures), _lines(through_vae), resamples_RK),
            colour=ratio(colour_K, np.where(np.isfinite(colour_K), 1.0, np.nan), resamples_RK),
        )
    return rows


def _edges(pictures: Sequence[Sequence[Strokes]]) -> Floats:
    return _mean([[one.edges for one in some] for some in pictures])


def _lines(pictures: Sequence[Sequence[Strokes]]) -> Floats:
    return _mean([[one.lines for one in some] for some in pictures])


def _mean(values: Sequence[Sequence[float]]) -> Floats:
    """Of each guide's pictures, those that have a number; nan where none has."""
    numbers = [[value for value in some if np.isfinite(value)] for some in values]
    return np.array([np.mean(some) if some else np.nan for some in numbers])
