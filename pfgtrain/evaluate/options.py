"""What an evaluation is asked to do, and the options of `generate` that follow from it. Nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pfgdata.errors import ConfigError
from pfgtrain.generate import GenerateOptions, PictureFields

__all__ = ["EvaluateFields", "EvaluateOptions"]


@dataclass(frozen=True, kw_only=True)
class EvaluateFields(PictureFields):
    """What an evaluation is asked beside how strongly to follow guide and prompt."""

    num_inference_steps: int = 20
    seed: int = 0  # also of the resamples and the shuffle
    """Of the first picture of each guide and row."""
    batch_size: int = 16
    threshold: float = 0.35  # the WD14 taggers' customary one
    """A tag counts from this score on."""
    resamples: int = 2000
    """Of the guides, for the intervals."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(EvaluateFields):
    """What to make of each guide, and how to count. Raises ConfigError for a value that cannot be."""

    guidance_scale: float = 3.0
    guidance_rescale: float = 0.0
    pfg_scale: float = 1.0

    def __post_init__(self) -> None:
        self.pictures()  # raises for what generate cannot do
        if not 0 < self.threshold < 1:
            raise ConfigError(f"threshold is {self.threshold}, must be between 0 and 1")
        if self.resamples < 1:
            raise ConfigError(f"resamples is {self.resamples}, must be 1 or more")

    def pictures(self) -> GenerateOptions:
        """The options of the pictures themselves."""
        names = {one.name for one in fields(self)} & {one.name for one in fields(GenerateOptions)}
        return GenerateOptions(**{name: getattr(self, name) for name in names})
