"""What the files beside a model say of its pixels: side, mean and std, and the steps of the square.

preprocess.json is what deepghs and animetimm publish, config.json timm's own, preprocessor_config.json that
of transformers. What they leave out is not filled in: they are refused by what they lack.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pfgdata.errors import ConfigError

__all__ = ["UNREADABLE", "deepghs_pixels", "json_in", "processor_pixels", "timm_pixels"]

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
_FILTERS = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}  # Pillow's numbers
_COLOURS = {"white": "#ffffff", "black": "#000000", "gray": "#808080", "grey": "#808080"}
_SHORTER = ("CLIP", "Bit")  # whose one number is the shorter side, and which crop unless told not to
_TIMM_CROPS = ("center", "squash")
_BOTH = ("Siglip", "ViT", "DeiT", "DINOv3ViT")  # whose one number is both sides, and which do not crop
_KNOWN = "resize, pad_to_size, center_crop, to_tensor, maybe_to_tensor, normalize, convert_rgb"


def deepghs_pixels(record: Any, size: int | None) -> dict[str, Any] | None:
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
        "size": _last_size(square, size),
        "square": tuple(square),
        "mean": mean or unit[0],
        "std": std or unit[1],
    }


def _last_size(square: list[str], size: int | None) -> int:
    if not square:
        raise ConfigError("no stage makes a square")
    return size or int(square[-1].split()[1])


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


def timm_pixels(record: Any, size: int | None) -> dict[str, Any] | None:
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


def processor_pixels(record: Any, size: int | None) -> dict[str, Any] | None:
    """The pixels of transformers' preprocessor_config.json, by its own words alone.

    The order of its resize and its division by 255 differs from processor to processor, by rounding only.
    """
    if not isinstance(record, dict):
        return None
    kind = str(record.get("image_processor_type") or record.get("feature_extractor_type") or "")
    if kind.startswith("Siglip2"):
        raise ConfigError(f"{kind} keeps each picture's own shape; take a checkpoint of one size")
    if record.get("do_pad") or record.get("do_resize") is False or record.get("do_rescale") is False:
        raise ConfigError("do_pad, or no do_resize or do_rescale")
    if abs(255 * float(record.get("rescale_factor") or 1 / 255) - 1) > 1e-6:
        raise ConfigError(f"rescale_factor {record['rescale_factor']}; known is 1/255")
    square = [_processor_resize(record, kind)]
    if _crops(record, kind):
        crop = record["crop_size"]
        square.append(f"crop {_sides(crop) if isinstance(crop, dict) else int(crop)}")
    mean, std = record.get("image_mean"), record.get("image_std")
    if record.get("do_normalize") is False:
        mean, std = 0.0, 1.0
    if mean is None or std is None:
        raise ConfigError("no image_mean or image_std")
    return {
        "size": int(square[-1].split()[1]),
        "square": tuple(square),
        "mean": _three(mean),
        "std": _three(std),
    }


def _processor_resize(record: Mapping[str, Any], kind: str) -> str:
    """Its resize as a step. One number is the shorter side to some processors, both sides to others."""
    size, resample = record.get("size"), record.get("resample")
    if resample is None or size is None:
        raise ConfigError(f"no {'size' if size is None else 'resample'}")
    filter = _filter(resample)
    if isinstance(size, dict) and "shortest_edge" in size and not size.keys() - {"shortest_edge"}:
        return f"shorter {int(size['shortest_edge'])} {filter}"
    if isinstance(size, dict):
        return f"stretch {_sides(size)} {filter}"
    if not kind.startswith((*_SHORTER, *_BOTH)):
        raise ConfigError(f"size {size}, and {kind or 'no image_processor_type'} does not say of which sides")
    return f"{'shorter' if kind.startswith(_SHORTER) else 'stretch'} {int(size)} {filter}"


def _crops(record: Mapping[str, Any], kind: str) -> bool:
    said = record.get("do_center_crop")
    if said is None and record.get("crop_size") is not None and not kind.startswith((*_SHORTER, *_BOTH)):
        raise ConfigError("it has a crop_size, and no do_center_crop that says whether it is used")
    return kind.startswith(_SHORTER) if said is None else bool(said)


def _sides(size: Mapping[str, Any]) -> int:
    return _side([size["height"], size["width"]])


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


def json_in(path: Path) -> Any:
    """The value in a JSON file; None where there is none."""
    if not path.is_file():
        return None
    return json.loads(path.read_text("utf-8"))
