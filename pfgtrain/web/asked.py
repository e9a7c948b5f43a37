"""From what a browser sends to a job of `generate`, judged word by word.

Numbers that a person would call whole are whole here: `settings` that say 2.0 steps are refused, but a
guidance of 2 is 2.0, for a picture's name stands for its settings to the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pfgdata.errors import ConfigError
from pfgtrain.generate import GenerateJob
from pfgtrain.web.bounds import Bounds

__all__ = ["settings_of", "text_of"]

_STRONGEST = 1_000.0  # guidance and scale, either way: far beyond what draws anything
_STEPS = 1_000  # no schedule has more


def settings_of(given: object, job: GenerateJob, *, bounds: Bounds) -> GenerateJob:
    """`job` with the settings a browser sent. Raises ConfigError that names the one that cannot be."""
    if not isinstance(given, Mapping):
        raise ConfigError("settings: must be an object")
    readers = _readers(bounds)
    if unknown := sorted(str(name)[:40] for name in set(given) - set(readers)):
        raise ConfigError(f"settings: {unknown[0]} is none of {', '.join(readers)}")
    changed = replace(job, **{name: readers[name](name, value) for name, value in given.items()})
    if (changed.width is None) != (changed.height is None):
        raise ConfigError("settings: width and height, both or neither")
    return changed


def text_of(given: object, name: str, *, most: int) -> str:
    """A text that a browser sent. Raises ConfigError for what is none, or has over `most` letters."""
    if not isinstance(given, str):
        raise ConfigError(f"{name}: must be a text")
    if len(given) > most:
        raise ConfigError(f"{name}: {len(given):,} letters, {most:,} at most")
    return given


def _readers(bounds: Bounds) -> dict[str, Callable[[str, Any], Any]]:
    def prompt(name: str, value: Any) -> str:
        return text_of(value, name, most=bounds.text)

    return {
        "images_per_guide": _whole(1, bounds.images),
        "num_inference_steps": _whole(1, _STEPS),
        "seed": _whole(0, 2**53 - 1),  # what a browser's numbers hold
        "batch_size": _whole(1, bounds.batch),
        "width": _or_none(_whole(1, bounds.side)),
        "height": _or_none(_whole(1, bounds.side)),
        "guidance_scale": _or_none(_number),
        "guidance_rescale": _or_none(_number),  # GenerateOptions knows how much
        "pfg_scale": _or_none(_number),
        "no_pfg": _yes,
        "prompt": _or_none(prompt),
        "negative_prompt": prompt,
        "uncond": _or_none(prompt),  # GenerateOptions knows which there are
    }


def _or_none(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else read(name, value)


def _whole(least: int, most: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ConfigError(f"{name}: a whole number from {least} to {most:,}")
        return value

    return read


def _number(name: str, value: Any) -> float:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not known or not abs(value) <= _STRONGEST:  # NaN is not; a whole number may be too large for a float
        raise ConfigError(f"{name}: a number from {-_STRONGEST:g} to {_STRONGEST:g}")
    return float(value)


def _yes(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: true or false")
    return value
