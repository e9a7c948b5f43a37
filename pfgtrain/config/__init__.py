"""What a fit is asked to do: one frozen dataclass, from TOML and flags, saved with its run as config.toml.

A key that is not one of ours is refused, never ignored: a misspelt `snr_gama` would otherwise cost a week of
training.
"""

from __future__ import annotations

from pfgtrain.config.features import (
    TAGGER_LABEL,
    TOKENS,
    AdapterPlan,
    FeaturePlan,
    FeatureSource,
    adapters_asked,
    named_parts,
    numbers_of,
    values_of,
)
from pfgtrain.config.files import (
    CONFIG_FILE,
    RECIPE_TABLES,
    load_config,
    read_fit_table,
    read_recipe_tables,
)
from pfgtrain.config.fit_config import LR_SCHEDULERS, FitConfig
from pfgtrain.config.optimizers import Adafactor, AdamW, AdamW8bit
from pfgtrain.config.tables import read_table, require_text, toml_of, toml_value

__all__ = [
    "CONFIG_FILE",
    "LR_SCHEDULERS",
    "RECIPE_TABLES",
    "TAGGER_LABEL",
    "TOKENS",
    "Adafactor",
    "AdamW",
    "AdamW8bit",
    "AdapterPlan",
    "FeaturePlan",
    "FeatureSource",
    "FitConfig",
    "adapters_asked",
    "load_config",
    "named_parts",
    "numbers_of",
    "read_fit_table",
    "read_recipe_tables",
    "read_table",
    "require_text",
    "toml_of",
    "toml_value",
    "values_of",
]
