"""What the tests of evaluation share: a tagger that knows hair colours, and guides on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from pfgdata.vocabulary import CHARACTER, GENERAL, RATING, Vocabulary
from pfgtrain.evaluate import EvaluateOptions
from tests.conftest import make_images
from tests.doubles import CHARACTERS, RATINGS, CheapTagger

OPTIONS = EvaluateOptions(images_per_guide=2, num_inference_steps=1, batch_size=3, seed=5, resamples=50)
COUNT = 4  # of guides
TAGS = ("red_hair", "blue_hair", "long_hair", "glasses", "smile", "solo", "sky", "green_eyes")


class HairTagger(CheapTagger):
    """A cheap tagger of other weights and tags: the judge."""

    def __init__(self) -> None:
        super().__init__(name="hair", preprocess="webui")
        self.identity = replace(self.identity, weights_sha256="1" * 64)
        self.vocabulary = Vocabulary(
            names=RATINGS + TAGS + CHARACTERS,
            categories=np.array(
                [RATING] * 4 + [GENERAL] * len(TAGS) + [CHARACTER] * len(CHARACTERS), np.uint8
            ),
            counts=np.ones(4 + len(TAGS) + len(CHARACTERS), np.int64),
        )


def write_guides(folder: Path, *, characters: int, views: int = 2, seed: int = 0) -> list[dict[str, object]]:
    """Images of `characters`, in two styles by turns, and guides.jsonl; its lines."""
    paths = make_images(folder / "images", characters * views, size=(64, 64), seed=seed)
    rows: list[dict[str, object]] = [
        {
            "path": path.relative_to(folder).as_posix(),
            "style": "ab"[number // views % 2],
            "character": f"char-{seed}-{number // views}",
            "view": number % views,
            "tags_coarse": ["glasses", "solo"] if number // views else ["long_hair"],
        }
        for number, path in enumerate(paths)
    ]
    write_lines(folder, rows)
    return rows


def write_lines(folder: Path, rows: list[dict[str, object]]) -> None:
    (folder / "guides.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
