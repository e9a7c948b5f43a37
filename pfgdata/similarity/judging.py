"""Whether two images that may be copies are: from their small pictures, features and tags.

The thresholds were fixed on labelled pairs of three styles and tried on two others: benchmarks/duplicates.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pfgdata.similarity.pictures import Difference

__all__ = ["Kind", "Likeness", "judge"]

Kind = Literal["same", "copy", "variant", "unsure"]  # same: equal bytes

_COPY_CHANGE = 30.0  # levels: resampling, compression and a crop of 3 % change no more
_COPY_LOCAL = 12.0  # levels: of three styles 1,204 of 1,260 copies are told so, and 2 other pairs
_VARIANT_AREA = 0.35  # of the picture: where more was drawn otherwise, it may be another drawing
_LEAST_COSINE = 0.7  # below it the tagger sees something else, whatever the small pictures say
_LEAST_TAGS = 0.4  # of the tags that either has, those of both


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How alike two images are: differing bits of their hashes, their pictures, the cosine of their features.

    `tags` is the share of the tags that either has which both have; 1 where neither has any.
    """

    bits: int
    difference: Difference
    cosine: float
    tags: float


def judge(likeness: Likeness) -> Kind:
    """Copy (resized, recompressed, converted, cropped a little), variant (the drawing changed) or unsure."""
    if likeness.cosine < _LEAST_COSINE or likeness.tags < _LEAST_TAGS:
        return "unsure"
    if likeness.difference.change <= _COPY_CHANGE and likeness.difference.local <= _COPY_LOCAL:
        return "copy"
    return "variant" if likeness.difference.area <= _VARIANT_AREA else "unsure"
