"""What a tagger is to the other rooms, and the ones known by a short name.

Widths and numbers of tags are for people: those of a loaded tagger come from its files. What licences and
gates say was looked up in November 2026; a gated repository asks for a login and a click first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pfgdata.conventions import WD, Convention, Labels, read_convention
from pfgdata.hub import repository_of
from pfgdata.inference import Precision
from pfgdata.paths import user_path
from pfgdata.records import TaggerIdentity
from pfgdata.vocabulary import Vocabulary

__all__ = [
    "CATALOG",
    "DEFAULT_TAGGER",
    "CatalogEntry",
    "Tagger",
    "convention_named",
    "repository",
]


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
    """A published tagger: where it is on the hub (org/name, or org/name//folder) and what it takes.

    `convention` is None where the files of the repository say it; a number is None where no source does.
    """

    repository: str
    convention: Convention | None
    feature_dim: int | None
    num_tags: int | None
    licence: str
    gated: bool = False


def _wolf(name: str, feature_dim: int, num_tags: int) -> tuple[str, CatalogEntry]:
    return name, CatalogEntry(
        repository=f"SmilingWolf/{name}",
        convention=WD,
        feature_dim=feature_dim,
        num_tags=num_tags,
        licence="Apache-2.0",
    )


def _animetimm(name: str, feature_dim: int | None) -> tuple[str, CatalogEntry]:
    """Its preprocess.json, categories.json and selected_tags.csv say all."""
    return f"animetimm-{name.partition('.')[0]}", CatalogEntry(
        repository=f"animetimm/{name}",
        convention=None,
        feature_dim=feature_dim,
        num_tags=12476,
        licence="GPL-3.0",
        gated=True,
    )


_HALF = (0.5, 0.5, 0.5)  # mean and std of -1..1
_PIXAI_0_9 = Convention(  # deepghs' preprocess.json, and imgutils.tagging.pixai
    size=448,
    layout="NCHW",
    channels="RGB",
    mean=_HALF,
    std=_HALF,
    square=("stretch 448 bilinear",),
    labels=Labels(categories=((0, "general"), (4, "character"))),
)
_PIXAI_1_0 = (
    Convention(  # RescalePadProcessor of its tagger_pipeline.py; the numbers are of the ONNX export's CSV
        size=1008,
        layout="NCHW",
        channels="RGB",
        mean=_HALF,
        std=_HALF,
        square=("fit 1008 bilinear #000000 floor",),
        output="logits",
        labels=Labels(
            categories=(
                *(
                    (0, "general"),
                    (1, "style"),
                    (3, "copyright"),
                    (4, "character"),
                    (5, "meta"),
                    (9, "rating"),
                ),
            )
        ),
    )
)
_CL_1 = Convention(  # as the tools that run it feed it; not compared with the author's own code
    size=448,
    layout="NCHW",
    channels="BGR",
    mean=_HALF,
    std=_HALF,
    square=("pad #ffffff", "stretch 448 bicubic"),
    output="logits",
    labels=Labels(file="tag_mapping.json"),
)
_Z3D = Convention(  # as WD14's, with e621's categories
    size=448,
    layout="NHWC",
    channels="BGR",
    square=("smilingwolf",),
    labels=Labels(
        file="tags-selected.csv",
        count="post_count",
        categories=(
            *((0, "general"), (1, "artist"), (3, "copyright"), (4, "character"), (5, "species"), (7, "meta")),
            (8, "lore"),
        ),
    ),
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
        _animetimm("eva02_large_patch14_448.dbv4-full", 1024),
        _animetimm("swinv2_base_window8_256.dbv4-full", 1024),
        _animetimm("caformer_b36.dbv4-full", None),
    ]
) | {
    "pixai-tagger-v0.9": CatalogEntry(
        repository="deepghs/pixai-tagger-v0.9-onnx",
        convention=_PIXAI_0_9,
        feature_dim=1024,
        num_tags=13461,
        licence="Apache-2.0",
    ),
    "pixai-tagger-v1.0": CatalogEntry(
        repository="Mexes/pixai-tagger-v1.0-onnx-fp32-fp16-int8",  # the author publishes no ONNX
        convention=_PIXAI_1_0,
        feature_dim=None,
        num_tags=30877,
        licence="Apache-2.0",
    ),
    "cl-tagger-v1": CatalogEntry(
        repository="cella110n/cl_tagger//cl_tagger_1_02",
        convention=_CL_1,
        feature_dim=None,
        num_tags=42163,
        licence="Apache-2.0",
    ),
    "z3d-e621-convnext": CatalogEntry(
        repository="toynya/Z3D-E621-Convnext",
        convention=_Z3D,
        feature_dim=None,
        num_tags=None,
        licence="none stated",
    ),
}


def repository(name: str) -> str:
    """The name under which the hub knows `name`; a name not in the catalog is its own.

    Raises ModelNotFoundError if it only looks like a catalog name.
    """
    known = {one: entry.repository for one, entry in CATALOG.items()}
    return repository_of(name, known, what="tagger")


def convention_named(name: str, *, of_feature: bool = False) -> Convention:
    """The convention in the .toml or .json file `name`, or the one that the catalog has for a tagger.

    With `of_feature` what it says of pictures alone. Raises ConfigError.
    """
    entry = CATALOG.get(name)
    if entry is not None and entry.convention is not None:
        return entry.convention.of_feature() if of_feature else entry.convention
    return read_convention(user_path(name), of_feature=of_feature)
