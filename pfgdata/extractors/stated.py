"""How an extractor takes its pictures, and who says so; what nobody states is asked for, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pfgdata.conventions import Convention, read_convention
from pfgdata.errors import ConfigError, ModelError
from pfgdata.inference import UNREADABLE, deepghs_pixels, json_in, processor_pixels, timm_pixels

__all__ = ["Stated", "stated"]

_OWN = ("convention.toml", "convention.json")
_READ = (
    ("preprocess.json", deepghs_pixels),
    ("preprocessor_config.json", processor_pixels),
    ("config.json", timm_pixels),
)
_NEEDS = "pass --convention FILE with size, channels, mean and std, and square (docs/features.md)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """A convention, and where it was said."""

    convention: Convention
    source: str


def stated(folder: Path, asked: Convention | None) -> Stated:
    """The convention asked for, else what the files of `folder` say of the model in it. Raises ModelError.

    preprocess.json, preprocessor_config.json and timm's config.json speak of models with the channels first.
    """
    if asked is not None:
        return Stated(convention=asked.of_feature(), source="as asked for")
    for name in _OWN:
        if (folder / name).is_file():
            return Stated(convention=read_convention(folder / name, of_feature=True), source=name)
    for name, read in _READ:
        try:
            pixels = read(json_in(folder / name), None)
            if pixels is not None:
                how = Convention(layout="NCHW", channels="RGB", output="feature", **pixels)
                return Stated(convention=how, source=name)
        except (ConfigError, *UNREADABLE) as problem:
            told = isinstance(problem, ConfigError)
            reason = str(problem) if told else f"{type(problem).__name__}: {problem}"
            raise ModelError(
                f"{folder / name}: says no convention that is known ({reason}); {_NEEDS}"
            ) from None
    raise ModelError(f"{folder}: nothing there says how the model wants its pictures; {_NEEDS}")
