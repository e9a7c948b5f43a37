"""What the page says of a guide's scores."""

from __future__ import annotations

import numpy as np

from pfgdata.vocabulary import Vocabulary
from pfgtrain.web.seen import what_is_seen


def test_a_tagger_without_ratings_is_told_without_one() -> None:
    plain = Vocabulary(names=("hat", "bow"), categories=np.zeros(2, np.uint8), counts=np.ones(2, np.int64))
    seen = what_is_seen(np.array([0.2, 0.9], np.float32), plain)
    assert seen["rating"] is None
    assert seen["tags"] == [["bow", 0.9, True], ["hat", 0.2, False]]
