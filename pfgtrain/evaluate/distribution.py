"""How far two sets of pictures are apart as a viewer sees them: the kernel distance KID, unbiased.

Pictures of one character resemble each other, in a set and across two, so every pair of one character is left
out: what remains is a mean over pairs of independent characters, which is what makes the figure unbiased.

Shapes: M pictures of one set, K characters, F feature width, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pfgtrain.evaluate.measures import Floats, Ints
from pfgtrain.evaluate.report import Figure

__all__ = ["PictureSet", "kernel", "kernel_distance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSet:
    """Features [M, F] of pictures, and the character of each [M], 0 to K - 1."""

    features_MF: npt.ArrayLike
    owners_M: Ints


def kernel(left_MF: npt.ArrayLike, right_NF: npt.ArrayLike, *, unit: float) -> Floats:
    """(x.y / unit + 1)^3 of every pair [M, N]: KID's kernel (Binkowski et al. 2018), whose unit is F.

    Inception's features have a mean square of about 1, a tagger's any; with the mean of y.y over real
    pictures as the unit they are alike.
    """
    products = np.asarray(left_MF, np.float64) @ np.asarray(right_NF, np.float64).T
    return np.asarray((products / unit + 1) ** 3, np.float64)


def kernel_distance(made: PictureSet, real: PictureSet, *, resamples_RK: Ints) -> Figure | None:
    """KID between two sets, and its 95 % percentile interval over characters; None for fewer than two.

    About 0 where both are drawn from one distribution, and as often below as above. Pictures of no such
    character, a gallery's, take no part.
    """
    count = resamples_RK.shape[1]
    features_MF = np.asarray(real.features_MF, np.float64)[real.owners_M < count]
    unit = float(np.mean(np.sum(features_MF**2, axis=1))) if len(features_MF) else 0.0
    if unit <= 0:
        return None
    sets = (_by_character(made, count), _by_character(real, count))
    pairs = [
        _Pairs(one, other, _kernel_of(one, other, unit))
        for one, other in ((sets[0], sets[0]), (sets[1], sets[1]), (sets[0], sets[1]))
    ]
    weights = np.concatenate([np.ones((1, count)), resamples_RK.astype(np.float64)])
    own_R, real_R, across_R = (pair.means(weights) for pair in pairs)
    found_R = own_R + real_R - 2 * across_R
    if not np.isfinite(found_R[0]):
        return None
    drawn = found_R[1:][np.isfinite(found_R[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (found_R[0], found_R[0])
    here = int(np.sum(sets[0].there_K & sets[1].there_K))
    return Figure(value=float(found_R[0]), low=float(low), high=float(high), guides=here)


@dataclass(frozen=True, slots=True)
class _ByCharacter:
    """A set, the share [K, M] that each picture has in its character, and which characters are there [K]."""

    features_MF: Floats
    share_KM: Floats
    there_K: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The mean kernel between pictures of two characters [K, K]; of one character with itself 0."""

    left: _ByCharacter
    right: _ByCharacter
    kernel_KK: Floats

    def means(self, weights_RK: Floats) -> Floats:
        """The mean over pairs of different characters, each by its weight [R]; nan where there is none."""
        left_RK, right_RK = weights_RK * self.left.there_K, weights_RK * self.right.there_K
        sums_R = np.einsum("rk,rk->r", left_RK @ self.kernel_KK, right_RK)
        pairs_R = left_RK.sum(axis=1) * right_RK.sum(axis=1) - np.sum(left_RK * right_RK, axis=1)
        return np.divide(sums_R, pairs_R, out=np.full(len(sums_R), np.nan), where=pairs_R > 0)


def _by_character(pictures: PictureSet, count: int) -> _ByCharacter:
    owned_KM = (np.arange(count)[:, None] == pictures.owners_M[None]).astype(np.float64)
    each_K1 = owned_KM.sum(axis=1, keepdims=True)
    return _ByCharacter(
        features_MF=np.asarray(pictures.features_MF, np.float64),
        share_KM=owned_KM / np.maximum(each_K1, 1),
        there_K=each_K1[:, 0] > 0,
    )


def _kernel_of(left: _ByCharacter, right: _ByCharacter, unit: float) -> Floats:
    between_MN = kernel(left.features_MF, right.features_MF, unit=unit)
    between_KK = left.share_KM @ between_MN @ right.share_KM.T
    np.fill_diagonal(between_KK, 0.0)
    return between_KK
