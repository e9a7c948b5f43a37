"""The pure measures: centred cosines, ranks, ratios with bootstrap intervals, a shuffle.

Every figure of an evaluation is a ratio of two sums over guides (a mean, an F1, a scaled cosine), so one
bootstrap serves all of them, and rows are resampled alike.

Shapes: M pictures, G gallery entries, K guides, F feature width, R resamples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pfgtrain.evaluate.report import Figure

__all__ = [
    "TIE",
    "Floats",
    "Ints",
    "cosines",
    "derangement",
    "pair_distance",
    "quotient",
    "ranks",
    "ratio",
    "resamples",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TIE = 1e-6  # cosines this near are equal: batch size alone moves a feature by 1e-6 in onnxruntime


def cosines(left_MF: npt.ArrayLike, right_KF: npt.ArrayLike, *, mean_F: npt.ArrayLike) -> Floats:
    """Cosines [M, K] after `mean_F` is taken off both; a vector equal to the mean has cosine 0 to all."""
    return _unit(left_MF, mean_F) @ _unit(right_KF, mean_F).T


def ranks(cosines_MG: Floats, *, own: int) -> Ints:
    """The rank of gallery entry `own` for each picture, from 1; of equal entries, or with nan, it is last."""
    return np.sum(~(cosines_MG < cosines_MG[:, own, None] - TIE), axis=1).astype(np.int64)


def pair_distance(features_MF: npt.ArrayLike, *, mean_F: npt.ArrayLike) -> float:
    """Mean of 1 - centred cosine over the pairs of M vectors; nan for fewer than two."""
    all_MM = cosines(features_MF, features_MF, mean_F=mean_F)
    above = all_MM[np.triu_indices(len(all_MM), k=1)]
    return float(np.mean(1 - above)) if len(above) else float("nan")


def resamples(guides: int, *, count: int, seed: int) -> Ints:
    """How often each guide is drawn in each of `count` bootstrap samples: [R, K], rows sum to K."""
    rng = np.random.default_rng([seed, guides])
    return rng.multinomial(guides, np.full(guides, 1 / guides), size=count).astype(np.int64)


def ratio(above_K: npt.ArrayLike, below_K: npt.ArrayLike, resamples_RK: Ints) -> Figure | None:
    """sum(above) / sum(below) over the guides where both are numbers, and its 95 % percentile interval.

    None where there is no such guide, or the sum below is not positive (in all resamples).
    """
    above, below = np.asarray(above_K, np.float64), np.asarray(below_K, np.float64)
    here = np.isfinite(above) & np.isfinite(below)
    above, below = np.where(here, above, 0.0), np.where(here, below, 0.0)
    if below.sum() <= 0:
        return None
    totals_R = resamples_RK @ below
    drawn = (resamples_RK @ above)[totals_R > 0] / totals_R[totals_R > 0]
    if not len(drawn):
        return None
    low, high = np.percentile(drawn, [2.5, 97.5])
    value = float(above.sum() / below.sum())
    return Figure(value=value, low=float(low), high=float(high), guides=int(here.sum()))


def quotient(
    ours: tuple[npt.ArrayLike, npt.ArrayLike], theirs: tuple[npt.ArrayLike, npt.ArrayLike], resamples_RK: Ints
) -> Figure | None:
    """One `ratio` over another, (above, below) each, over the guides where all four are numbers.

    None where either is, or theirs is 0.
    """
    all_4K = np.array([*ours, *theirs], np.float64)
    here: npt.NDArray[np.bool_] = np.asarray(np.isfinite(all_4K).all(axis=0))
    sums_R4 = np.concatenate([np.ones((1, len(here))), resamples_RK]) @ np.where(here, all_4K, 0.0).T
    above_R, below_R = sums_R4[:, 0] * sums_R4[:, 3], sums_R4[:, 1] * sums_R4[:, 2]
    found_R = np.divide(above_R, below_R, out=np.full(len(sums_R4), np.nan), where=below_R > 0)
    drawn = found_R[1:][np.isfinite(found_R[1:])]
    if not np.isfinite(found_R[0]) or not len(drawn):
        return None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(value=float(found_R[0]), low=float(low), high=float(high), guides=int(here.sum()))


def derangement(count: int, *, seed: int) -> Ints:
    """A permutation of `count` (2 or more) that leaves nothing in its place, [K]."""
    rng = np.random.default_rng([seed, count])
    while True:  # 1 in e of all permutations is one
        order = rng.permutation(count)
        if not np.any(order == np.arange(count)):
            return order.astype(np.int64)


def _unit(features_MF: npt.ArrayLike, mean_F: npt.ArrayLike) -> Floats:
    centred_MF = np.asarray(features_MF, np.float64) - np.asarray(mean_F, np.float64)
    length_M1 = np.linalg.norm(centred_MF, axis=1, keepdims=True)
    return centred_MF / np.where(length_M1 > 0, length_M1, 1.0)
