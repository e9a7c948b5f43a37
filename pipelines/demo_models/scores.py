"""Numbers for classifiers: average precision per tag, and how well features find the same character again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def average_precision(scores_N: npt.NDArray[np.floating], truth_N: npt.NDArray[np.bool_]) -> float:
    """Area under precision over recall: the mean precision at each positive; NaN without positives."""
    order = np.argsort(-scores_N, kind="stable")
    hits = truth_N[order]
    if not hits.any():
        return float("nan")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def tag_precisions(
    scores_NV: npt.NDArray[np.floating], truth_NV: npt.NDArray[np.bool_], *, least: int
) -> dict[int, float]:
    """Average precision by column, for the columns with at least `least` positives and one negative."""
    positives = truth_NV.sum(0)
    columns = np.flatnonzero((positives >= least) & (positives < len(truth_NV)))
    return {int(v): average_precision(scores_NV[:, v], truth_NV[:, v]) for v in columns}


def retrieval(features_NF: npt.NDArray[np.floating], characters: Sequence[str]) -> float:
    """Share of pictures whose nearest other picture, by centred cosine, shows the same character."""
    centred = features_NF - features_NF.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9
    likeness = centred @ centred.T
    np.fill_diagonal(likeness, -np.inf)
    names = np.asarray(characters)
    return float((names[likeness.argmax(1)] == names).mean())
