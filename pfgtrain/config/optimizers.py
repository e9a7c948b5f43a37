"""The keys that only one optimizer has, a dataclass each: its table in a config has its name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pfgdata.errors import ConfigError

__all__ = ["TABLES", "AdamW"]

TABLES = ("adamw",)  # of a config: the fields of FitConfig that are such dataclasses


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW:
    """The table `adamw`. Raises ConfigError naming the key when a value cannot be."""

    beta1: float = 0.9
    """AdamW's decay of the first moment, 0..1."""
    beta2: float = 0.999
    """AdamW's decay of the second moment, 0..1."""
    weight_decay: float = 1e-2
    """AdamW's decoupled weight decay."""
    epsilon: float = 1e-8
    """AdamW's denominator floor."""

    def __post_init__(self) -> None:
        for name, possible, wanted in (
            ("beta1", 0.0 <= self.beta1 < 1.0, "0 to 1, and below 1"),
            ("beta2", 0.0 <= self.beta2 < 1.0, "0 to 1, and below 1"),
            ("weight_decay", math.isfinite(self.weight_decay) and self.weight_decay >= 0, "0 or more"),
            ("epsilon", math.isfinite(self.epsilon) and self.epsilon > 0, "above 0"),
        ):
            if not possible:
                raise ConfigError(f"adamw.{name} = {getattr(self, name)!r} is not {wanted}")
