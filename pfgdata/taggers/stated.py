"""The convention that the files beside a model state; what none states is asked for, never guessed.

preprocess.json is what deepghs and animetimm publish, config.json timm's own. Both speak of a graph with the
channels first: SmilingWolf's repositories have a config.json too, of other weights than the NHWC model.onnx.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pfgdata.conventions import SELECTED_TAGS, WD, Convention, Labels, read_convention
from pfgdata.errors import ConfigError, ModelError, VocabularyError
from pfgdata.inference import UNREADABLE, deepghs_pixels, json_in, timm_pixels
from pfgdata.taggers.labels import DANBOORU

__all__ = ["LABEL_FILES", "OWN", "Graph", "Stated", "stated"]

OWN = ("convention.toml", "convention.json")  # a convention that lies beside its model
LABEL_FILES = (SELECTED_TAGS, "tags-selected.csv", "tag_mapping.json", "config.json")
_NEEDS = (
    "pass --convention FILE with channels, mean and std, square, output and labels (docs/taggers.md), or the"
    " name of a tagger in the catalog that takes the same"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What a graph itself says: its layout, its side where it has one, whether a sigmoid makes an output."""

    layout: Literal["NHWC", "NCHW"]
    size: int | None
    has_scores: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """A convention, and where it was said."""

    convention: Convention
    source: str


def stated(folder: Path, graph: Graph) -> Stated:
    """What the files of `folder` say of its model. Raises ModelError where they do not say enough."""
    for name in OWN:
        if (folder / name).is_file():
            return Stated(convention=read_convention(folder / name), source=name)
    if graph.layout == "NCHW":
        try:
            for name, read in (("preprocess.json", deepghs_pixels), ("config.json", timm_pixels)):
                pixels = read(json_in(folder / name), graph.size)
                if pixels is not None:
                    return Stated(convention=_complete(pixels, folder, graph), source=name)
        except (ConfigError, *UNREADABLE) as problem:
            reason = (
                str(problem) if isinstance(problem, ConfigError) else f"{type(problem).__name__}: {problem}"
            )
            raise ModelError(
                f"{folder / name}: says no convention that is known ({reason}); {_NEEDS}"
            ) from None
    if graph.layout == "NHWC" and (folder / SELECTED_TAGS).is_file():
        return Stated(convention=WD, source=f"{SELECTED_TAGS}, as WD14 taggers have it")
    there = [name for name in LABEL_FILES if (folder / name).is_file()]
    if not there:
        raise VocabularyError(
            f"{folder / SELECTED_TAGS} is missing; place the model's {SELECTED_TAGS} there, or {_NEEDS}"
        )
    raise ModelError(f"{folder}: {', '.join(there)} does not say how the model wants its pictures; {_NEEDS}")


def _complete(pixels: Mapping[str, Any], folder: Path, graph: Graph) -> Convention:
    """`pixels` (size, mean, std, square) with the output and the tags."""
    there = [name for name in LABEL_FILES if (folder / name).is_file() and _has_tags(folder / name)]
    if not there:
        raise ConfigError(f"there is none of {', '.join(LABEL_FILES)} that names its tags")
    categories = _categories(folder) if there[0].endswith(".csv") else ()
    return Convention(
        layout="NCHW",
        channels="RGB",
        output="probabilities" if graph.has_scores else "logits",
        labels=Labels(file=there[0], categories=categories),
        **pixels,
    )


def _has_tags(path: Path) -> bool:
    return path.name != "config.json" or "tags_split" in (json_in(path) or ())


def _categories(folder: Path) -> tuple[tuple[int, str], ...]:
    """What the numbers of categories mean: categories.json, else danbooru's."""
    record = json_in(folder / "categories.json")
    if not isinstance(record, list):
        return DANBOORU
    return tuple(sorted((int(one["category"]), str(one["name"])) for one in record))
