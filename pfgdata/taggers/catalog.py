"""What a tagger is to the other rooms, and the ones known by a short name.

The table is for people and for finding a repository. Layout and width of a loaded tagger come from its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from pfgdata.errors import ModelNotFoundError
from pfgdata.records import TaggerIdentity, nearest
from pfgdata.vocabulary import Vocabulary

__all__ = ["CATALOG", "DEFAULT_TAGGER", "CatalogEntry", "Precision", "Tagger", "repository"]


Precision = Literal["float32", "float16"]


class Tagger(Protocol):
    """Scores images; two implementations: `OnnxTagger`, and the small ones of tests."""

    @property
    def identity(self) -> TaggerIdentity:
        """What its features mean."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What its score columns mean."""

    @property
    def feature_dim(self) -> int:
        """F, the width of a feature."""

    @property
    def image_size(self) -> int:
        """S, the side of the square it looks at."""

    @property
    def provider(self) -> str:
        """What it runs on, as the shard's record names it: CPUExecutionProvider."""

    @property
    def precision(self) -> Precision:
        """What it computes in, as the shard's record names it."""

    @property
    def batch_size(self) -> int | None:
        """The only batch its graph takes; None if any."""

    @property
    def parallel(self) -> int:
        """How many threads may call `predict` at once with profit: 1 on a CPU, more on GPUs."""

    def predict(
        self, images: npt.NDArray[np.uint8], /
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Scores [B, V] in 0..1 and features [B, F] of images, uint8 RGB [B, S, S, 3]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """A published tagger: its repository on the hub, the layout of its input, the width of its feature."""

    repository: str
    layout: Literal["NHWC", "NCHW"]
    feature_dim: int
    num_tags: int


def _wolf(name: str, feature_dim: int, num_tags: int) -> tuple[str, CatalogEntry]:
    return name, CatalogEntry(
        repository=f"SmilingWolf/{name}", layout="NHWC", feature_dim=feature_dim, num_tags=num_tags
    )


DEFAULT_TAGGER = "wd-v1-4-vit-tagger-v2"  # the article's
_V2_TAGS, _V3_TAGS = 9083, 10861  # rows of the two generations' selected_tags.csv
CATALOG: dict[str, CatalogEntry] = dict(
    [
        _wolf(DEFAULT_TAGGER, 768, _V2_TAGS),
        _wolf("wd-v1-4-swinv2-tagger-v2", 1024, _V2_TAGS),
        _wolf("wd-v1-4-convnext-tagger-v2", 1024, _V2_TAGS),
        _wolf("wd-v1-4-convnextv2-tagger-v2", 1024, _V2_TAGS),
        _wolf("wd-v1-4-moat-tagger-v2", 768, _V2_TAGS),
        _wolf("wd-vit-tagger-v3", 768, _V3_TAGS),
        _wolf("wd-swinv2-tagger-v3", 1024, _V3_TAGS),
        _wolf("wd-convnext-tagger-v3", 1024, _V3_TAGS),
        _wolf("wd-vit-large-tagger-v3", 1024, _V3_TAGS),
        _wolf("wd-eva02-large-tagger-v3", 1024, _V3_TAGS),
    ]
)


def repository(name: str) -> str:
    """The name under which the hub knows `name`; a name not in the catalog is its own.

    Raises ModelNotFoundError if it only looks like a catalog name.
    """
    if name in CATALOG:
        return CATALOG[name].repository
    similar = nearest(name, list(CATALOG))
    if similar and "/" not in name:
        raise ModelNotFoundError(f"no tagger {name!r} in the catalog; nearest: {', '.join(similar)}")
    return name
