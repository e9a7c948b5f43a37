"""Two small pictures compared: is one the other again, or was something drawn otherwise?

They are laid over each other first (a crop moves everything), and a pixel has changed only as far as it lies
outside what the other has within one pixel around: so resampling, edges and compression say little, and a
mouth that was drawn anew says much.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pfgdata.images import on_white

__all__ = ["SIDE", "Difference", "compare_pictures", "small_picture"]

SIDE = 96  # pixels: a mouth is some 10 of them wide in a portrait
_AROUND = np.ones((3, 3), np.uint8)
_STRONGEST = 0.005  # of the pixels: what was drawn anew may be as small
_STRONG = 0.05
_CHANGED = 24  # levels, of 255
_ALIKE = 16.0  # `change` of pictures that lie well already: no shift is looked for
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
_MOST = 0.12  # of the side, that a crop may have taken: what lies further away is no crop

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Difference:
    """How one small picture differs from another, as well as they can be laid over each other.

    `change` is the mean of the strongest 0.5 % of changes, 0..255; `local` how far it lies above that of the
    strongest 5 %: compression changes much by a little, a pen little by much. `area` is the share of pixels,
    0..1, that changed by over 24 levels.
    """

    change: float
    local: float
    area: float


def small_picture(array: npt.NDArray[np.uint8]) -> Picture:
    """uint8 RGB [96, 96, 3] of pixels [H, W, 3 or 4], on white, stretched; large ones shrunk by area."""
    white = on_white(array)
    how = cv2.INTER_AREA if min(white.shape[:2]) >= SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(white, (SIDE, SIDE), interpolation=how), np.uint8)


def compare_pictures(one: Picture, two: Picture) -> Difference:
    """How `two` differs from `one`, uint8 RGB [96, 96, 3] both."""
    plain = _difference(one, two, np.ones((SIDE, SIDE), np.bool_))
    if plain.change <= _ALIKE:
        return plain
    warp = _warp(one, two)
    if warp is None:
        return plain
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(two, warp, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full((SIDE, SIDE), 255, np.uint8), warp, (SIDE, SIDE), flags=flags) == 255
    laid = _difference(one, np.asarray(moved, np.uint8), inside)
    return min(plain, laid, key=lambda found: found.change)


def _difference(one: Picture, two: Picture, inside: npt.NDArray[np.bool_]) -> Difference:
    outside = np.maximum(_beyond(one, two), _beyond(two, one)).max(axis=2)
    values = cv2.blur(outside, (3, 3))[_shrunk(inside)]
    strongest, strong = _upper_mean(values, _STRONGEST), _upper_mean(values, _STRONG)
    return Difference(strongest, strongest - strong, float((values > _CHANGED).mean()))


def _upper_mean(values: npt.NDArray[np.float32], share: float) -> float:
    count = max(1, round(len(values) * share))
    return float(np.partition(values, len(values) - count)[len(values) - count :].mean())


def _beyond(one: Picture, two: Picture) -> npt.NDArray[np.float32]:
    """How far each value of `two` lies outside those of `one` within a pixel around, [96, 96, 3]."""
    high = cv2.subtract(two, cv2.dilate(one, _AROUND))  # both end at 0
    low = cv2.subtract(cv2.erode(one, _AROUND), two)
    return np.maximum(high, low).astype(np.float32)


def _shrunk(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Without the pixels whose surroundings are not all inside."""
    return np.asarray(cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8)), np.bool_)


def _warp(one: Picture, two: Picture) -> npt.NDArray[np.float32] | None:
    """The stretch and shift that lays `two` over `one` best, float32 [2, 3]; None where none does."""
    greys = [
        cv2.pyrDown(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)) for part in (one, two)
    ]  # a third of the time
    start, whole = np.eye(2, 3, dtype=np.float32), np.full(greys[0].shape, 255, np.uint8)
    try:
        _, warp = cv2.findTransformECC(greys[0], greys[1], start, cv2.MOTION_AFFINE, _STEPS, whole, 1)
    except cv2.error:  # it did not converge: nothing fits
        return None
    warp[:, 2] = 2 * warp[:, 2] + (warp[:, :2].sum(axis=1) - 1) / 2  # centres of pixels, twice as many
    corners = np.array([[0, 0, 1], [SIDE, 0, 1], [0, SIDE, 1], [SIDE, SIDE, 1]], np.float64)
    moved = np.abs(corners @ warp.T.astype(np.float64) - corners[:, :2]).max()
    return np.asarray(warp, np.float32) if moved <= _MOST * SIDE else None
