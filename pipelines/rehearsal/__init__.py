"""Will this machine do? A base of true shape and random weights, through every step to a picture."""

from __future__ import annotations

from pipelines.rehearsal.shapes import FAMILIES, Shape
from pipelines.rehearsal.steps import Forecast, Rehearsal, RehearsalOptions, Step, forecast

__all__ = ["FAMILIES", "Forecast", "Rehearsal", "RehearsalOptions", "Shape", "Step", "forecast"]
