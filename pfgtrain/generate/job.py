"""Which model of a run is asked for: flags of the commands and keys of a recipe. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ModelJob"]


@dataclass(frozen=True, kw_only=True)
class ModelJob:
    """A checkpoint of a run, and what stands in for what the run has on record."""

    checkpoint: str = "latest"
    """latest, best, or a name, step-00000500."""
    no_ema: bool = False
    """Not the moving average."""
    base: str | None = None
    """The base; default: the run's."""
    base_config: str | None = None
    """A folder with the configs a single file lacks; default: the hub's."""
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the base predicts; default: the run's, or its own."""
    tagger: str | None = None
    """The tagger; default: the run's."""
    device: str | None = None
    """cpu, cuda, cuda:N; default: a GPU if any."""
