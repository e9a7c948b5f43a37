"""The convention that the files beside a model state; what none states is asked for, never guessed.

preprocess.json is what deepghs and animetimm publish, config.json timm's own. Both speak of a graph with the
channels first: SmilingWolf's repositories have a config.json too, of other weights than the NHWC model.onnx.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pfgdata.conventions import SELECTED_TAGS, WD, Convention, Labels, read_convention
from pfgdata.errors import ConfigError, ModelError, VocabularyError
from pfgdata.taggers.labels import DANBOORU

__all__ = ["LABEL_FILES", "OWN", "Graph", "Stated", "stated"]

OWN = ("convention.toml", "convention.json")  # a convention that lies beside its model
LABEL_FILES = (SELECTED_TAGS, "tags-selected.csv", "tag_mapping.json", "config.json")
_NEEDS = (
    "pass --convention FILE with channels, mean and std, square, output and labels (docs/taggers.md), or the"
    " name of a tagger in the catalog that takes the same"
)
_FILTERS = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}  # Pillow's numbers
_COLOURS = {"white": "#ffffff", "black": "#000000", "gray": "#808080", "grey": "#808080"}
_KNOWN = "resize, pad_to_size, center_crop, to_tensor, maybe_to_tensor, normalize, convert_rgb"
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
_TIMM_CROPS = ("center", "squash")


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
            for name, read in (("preprocess.json", _deepghs), ("config.json", _timm)):
                pixels = read(_json(folder / name), graph)
                if pixels is not None:
                    return Stated(convention=_complete(pixels, folder, graph), source=name)
        except (ConfigError, *_UNREADABLE) as problem:
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
    return path.name != "config.json" or "tags_split" in (_json(path) or ())


def _categories(folder: Path) -> tuple[tuple[int, str], ...]:
    """What the numbers of categories mean: categories.json, else danbooru's."""
    record = _json(folder / "categories.json")
    if not isinstance(record, list):
        return DANBOORU
    return tuple(sorted((int(one["category"]), str(one["name"])) for one in record))


def _json(path: Path) -> Any:
    """The value in a JSON file; None where there is none."""
    if not path.is_file():
        return None
    return json.loads(path.read_text("utf-8"))


def _deepghs(record: Any, graph: Graph) -> dict[str, Any] | None:
    """The pixels of a preprocess.json: its list `stages`, or that of the `test` transforms."""
    if not isinstance(record, dict):
        return None
    stages = record["stages"] if "stages" in record else record["test"]
    mean = std = None
    square: list[str] = []
    for stage in stages:
        words, kind = dict(stage), stage["type"]
        if kind == "normalize":
            mean, std = _three(words["mean"]), _three(words["std"])
        elif kind in ("resize", "pad_to_size", "center_crop"):
            square.append(_STAGES[kind](words))
        elif kind not in ("to_tensor", "maybe_to_tensor", "convert_rgb"):
            raise ConfigError(f"stage {kind}; known are {_KNOWN}")
    unit = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # to_tensor alone: 0..1
    return {
        "size": _last_size(square, graph),
        "square": tuple(square),
        "mean": mean or unit[0],
        "std": std or unit[1],
    }


def _last_size(square: list[str], graph: Graph) -> int:
    if not square:
        raise ConfigError("no stage makes a square")
    return graph.size or int(square[-1].split()[1])


def _resize(words: Mapping[str, Any]) -> str:
    if words.get("max_size") is not None or words.get("antialias") is False:
        raise ConfigError("resize with max_size or without antialias")
    size, filter = words["size"], _filter(words.get("interpolation", "bilinear"))
    if isinstance(size, list) and len(size) == 2:
        return f"stretch {_side(size)} {filter}"
    return f"shorter {size[0] if isinstance(size, list) else size} {filter}"


def _pad_to_size(words: Mapping[str, Any]) -> str:
    colour = words.get("background_color", "white")
    filter = _filter(words.get("interpolation", "bilinear"))
    return f"fit {_side(words['size'])} {filter} {_colour(colour)} round"


_STAGES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "resize": _resize,
    "pad_to_size": _pad_to_size,
    "center_crop": lambda words: f"crop {_side(words['size'])}",
}


def _timm(record: Any, graph: Graph) -> dict[str, Any] | None:
    """The pixels of timm's config.json: `pretrained_cfg`, as its create_transform evaluates."""
    told = record.get("pretrained_cfg") if isinstance(record, dict) else None
    if not isinstance(told, dict):
        return None
    _, height, width = told.get("test_input_size") or told["input_size"]
    size, mode = _side([height, width]), told.get("crop_mode") or "center"
    if mode not in _TIMM_CROPS:
        raise ConfigError(f"crop_mode {mode}; known are {', '.join(_TIMM_CROPS)}")
    larger = math.floor(size / (told.get("test_crop_pct") or told.get("crop_pct") or 1.0))
    filter = _filter(told["interpolation"])
    square = [f"{'stretch' if mode == 'squash' else 'shorter'} {larger} {filter}", f"crop {size}"]
    return {"size": size, "square": tuple(square), "mean": _three(told["mean"]), "std": _three(told["std"])}


def _side(size: Any) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ConfigError(f"size {size}: a square has equal sides")
    return int(sides.pop())


def _filter(value: str | int) -> str:
    return _FILTERS[value] if isinstance(value, int) else value.lower()


def _colour(value: Any) -> str:
    if isinstance(value, str):
        return _COLOURS.get(value, value)
    parts = [value] * 3 if isinstance(value, int) else list(value)[:3]
    return "#" + "".join(f"{int(part):02x}" for part in parts)


def _three(values: Any) -> tuple[float, ...]:
    numbers = [values] * 3 if isinstance(values, int | float) else list(values)
    return tuple(float(number) for number in (numbers * 3 if len(numbers) == 1 else numbers))
