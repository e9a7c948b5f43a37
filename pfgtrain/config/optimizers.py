"""The keys that only one optimizer has, a dataclass each: its table in a config has its name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pfgdata.errors import ConfigError
from pfgtrain.config.tables import toml_value

__all__ = ["TABLES", "Adafactor", "AdamW", "AdamW8bit"]

TABLES = ("adamw", "adamw8bit", "adafactor")  # of a config: the fields of FitConfig that are such dataclasses


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
        _check_adam("adamw", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW8bit:
    """The table `adamw8bit`. Raises ConfigError naming the key when a value cannot be."""

    beta1: float = 0.9
    """AdamW8bit's decay of the first moment, 0..1."""
    beta2: float = 0.999
    """AdamW8bit's decay of the second moment, 0..1."""
    weight_decay: float = 1e-2
    """AdamW8bit's decoupled weight decay."""
    epsilon: float = 1e-8
    """AdamW8bit's denominator floor."""

    def __post_init__(self) -> None:
        _check_adam("adamw8bit", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adafactor:
    """The table `adafactor`. Raises ConfigError naming the key when a value cannot be."""

    beta1: float | None = None
    """Adafactor's decay of a first moment, 0..1, which takes 4 bytes a number; default: none is kept."""
    decay_rate: float = -0.8
    """Adafactor's exponent: the second moment of step n decays by 1 - n^decay_rate."""
    clip_threshold: float = 1.0
    """Adafactor scales the update of each tensor down to this root mean square."""
    weight_decay: float = 0.0
    """Adafactor's decoupled weight decay."""
    epsilon: float = 1e-30
    """Added to Adafactor's squared gradients."""
    scale_parameter: bool = False
    """Let Adafactor multiply the learning rate by the root mean square of each tensor."""

    def __post_init__(self) -> None:
        _check(
            "adafactor",
            self,
            [
                ("beta1", self.beta1 is None or 0.0 <= self.beta1 < 1.0, "0 to 1, and below 1"),
                ("decay_rate", math.isfinite(self.decay_rate) and self.decay_rate < 0, "below 0"),
                ("clip_threshold", math.isfinite(self.clip_threshold) and self.clip_threshold > 0, "above 0"),
                ("weight_decay", math.isfinite(self.weight_decay) and self.weight_decay >= 0, "0 or more"),
                ("epsilon", math.isfinite(self.epsilon) and self.epsilon > 0, "above 0"),
            ],
        )


def _check_adam(table: str, keys: AdamW | AdamW8bit) -> None:
    _check(
        table,
        keys,
        [
            ("beta1", 0.0 <= keys.beta1 < 1.0, "0 to 1, and below 1"),
            ("beta2", 0.0 <= keys.beta2 < 1.0, "0 to 1, and below 1"),
            ("weight_decay", math.isfinite(keys.weight_decay) and keys.weight_decay >= 0, "0 or more"),
            ("epsilon", math.isfinite(keys.epsilon) and keys.epsilon > 0, "above 0"),
        ],
    )


def _check(table: str, keys: object, checks: Iterable[tuple[str, bool, str]]) -> None:
    for name, possible, wanted in checks:
        if not possible:
            raise ConfigError(f"{table}.{name} = {toml_value(getattr(keys, name))} is not {wanted}")
