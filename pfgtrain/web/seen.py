"""What the tagger saw in a guide, as the page shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.query import Thresholds
from pfgdata.vocabulary import Vocabulary

__all__ = ["what_is_seen"]

_TAGS = 24  # the best general tags
_CHARACTERS = 3


def what_is_seen(scores: npt.NDArray[np.float32], vocabulary: Vocabulary) -> dict[str, Any]:
    """Scores [V] as rating, characters and tags, the best first: of each [name, score, whether it counts].

    A score counts from the threshold that questions have by default.
    """
    thresholds = Thresholds()
    ratings = sorted(vocabulary.rating_ids.tolist(), key=lambda one: -scores[one])
    return {
        "rating": [vocabulary.names[ratings[0]], _rounded(scores[ratings[0]])] if ratings else None,
        "characters": [
            found
            for found in _best(
                scores, vocabulary.character_ids, vocabulary, thresholds.character, _CHARACTERS
            )
            if found[2]
        ],
        "tags": _best(scores, vocabulary.general_ids, vocabulary, thresholds.general, _TAGS),
        "thresholds": {"general": thresholds.general, "character": thresholds.character},
    }


def _best(
    scores: npt.NDArray[np.float32],
    columns: npt.NDArray[np.int64],
    vocabulary: Vocabulary,
    threshold: float,
    most: int,
) -> list[list[Any]]:
    order: Iterable[int] = columns[np.argsort(-scores[columns], kind="stable")][:most]
    return [[vocabulary.names[one], _rounded(scores[one]), bool(scores[one] >= threshold)] for one in order]


def _rounded(score: np.float32) -> float:
    return round(float(score), 4)
