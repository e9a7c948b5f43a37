"""What an evaluation is asked: the flags of the command and the keys of a recipe. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from pfgdata.errors import ConfigError
from pfgtrain.evaluate.options import EvaluateFields, EvaluateOptions
from pfgtrain.generate import PictureJob

__all__ = ["EvaluateJob"]


@dataclass(frozen=True, kw_only=True)
class EvaluateJob(EvaluateFields, PictureJob):
    """All that an evaluation is asked beside its run and store.

    Raises ConfigError for what cannot be: guides named twice, a setting to keep that nothing chooses.
    """

    guides: str | None = None
    """Images, and guides.jsonl if there is one."""
    where: str | None = None
    """Or images of the store, as in pfgdata query."""
    gallery: str | None = None
    """More characters to search among, which are also the guides where none are named: a folder as of guides,
    or large: 500 of the demo's styles."""
    limit: int | None = None
    """Guides at most, evenly spread; default: all."""
    tune: str | None = None
    """Other guides, to choose guidance on first."""
    keep: bool = False
    """What `tune` chose becomes the run's, for generate too."""
    guidance_scale: float | None = None
    """1 or less: none; default: the run's, or 3.0."""
    judge: str | None = None
    """A second tagger that looks; default: demo for the demo tagger, else none."""

    def __post_init__(self) -> None:
        named = (self.guides is not None) + (self.where is not None)
        if named > 1 or not (named or self.gallery):
            raise ConfigError("name the guides: guides, a folder, or where, an expression, or a gallery")
        if self.keep and not self.tune:
            raise ConfigError("keep keeps what tune chooses; name a folder of guides to tune on")
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"limit is {self.limit}, must be 2 or more")
        self.options(EvaluateOptions)
