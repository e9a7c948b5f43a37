"""What an evaluation is asked to do, and the options of `generate` that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from pfgdata.errors import ConfigError
from pfgtrain.generate import GenerateOptions

__all__ = ["EvaluateOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What to make of each guide, and how to count. Raises ConfigError for a value that cannot be."""

    images_per_guide: int = 4
    guidance_scale: float = 3.0
    pfg_scale: float = 1.0
    num_inference_steps: int = 20
    seed: int = 0  # of picture 0 of each guide and row; also of the resamples and the shuffle
    batch_size: int = 16  # pictures at once
    threshold: float = 0.35  # a tag counts from this score on: the WD14 taggers' customary one
    resamples: int = 2000  # of the guides, for the intervals

    def __post_init__(self) -> None:
        self.pictures()  # raises for what generate cannot do
        if not 0 < self.threshold < 1:
            raise ConfigError(f"threshold is {self.threshold}, must be between 0 and 1")
        if self.resamples < 1:
            raise ConfigError(f"resamples is {self.resamples}, must be 1 or more")

    def pictures(self) -> GenerateOptions:
        """The options of the pictures themselves."""
        return GenerateOptions(
            images_per_guide=self.images_per_guide,
            guidance_scale=self.guidance_scale,
            pfg_scale=self.pfg_scale,
            num_inference_steps=self.num_inference_steps,
            seed=self.seed,
            batch_size=self.batch_size,
        )
