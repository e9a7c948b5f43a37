"""A fit's config from a TOML file, a recipe's table or flags above either."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pfgdata.errors import ConfigError
from pfgtrain.config.fit_config import FitConfig
from pfgtrain.config.optimizers import TABLES
from pfgtrain.config.tables import toml_value

__all__ = ["CONFIG_FILE", "RECIPE_TABLES", "load_config", "read_fit_table", "read_recipe_tables"]

CONFIG_FILE = "config.toml"  # in a run's folder
RECIPE_TABLES = ("ingest", "query", "latents", "features", "fit", "evaluate", "generate")


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> FitConfig:
    """The config of a TOML file (or the defaults) with `overrides` above it; None there means not given.

    Epochs given above a file's steps count: `max_train_steps` of the file is then dropped.
    """
    table: dict[str, Any] = {}
    if path is not None:
        table = read_fit_table(path)
        FitConfig.of(table, source=str(path))
    given = {key: value for key, value in overrides.items() if value is not None}
    if "num_train_epochs" in given:
        table.pop("max_train_steps", None)
    return FitConfig.of(_above(table, given), source="options" if path is None else f"{path} and options")


def _above(table: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`table` with the keys `given` above it, of which `a.b` is key `b` of the table `a` in it."""
    merged = dict(table)
    for key, value in given.items():
        outer, dot, inner = key.partition(".")
        held = merged.get(outer)
        merged[outer] = {**(held if isinstance(held, dict) else {}), inner: value} if dot else value
    return merged


def read_fit_table(path: Path) -> dict[str, Any]:
    """The [fit] table of a recipe, or the keys of a file that holds only such keys."""
    content = _read_toml(path)
    if not any(isinstance(value, dict) and key not in TABLES for key, value in content.items()):
        return content
    _require_recipe(path, content)
    if not isinstance(content.get("fit"), dict):
        raise ConfigError(f"{path}: this recipe has no table [fit]")
    return dict(content["fit"])


def read_recipe_tables(path: Path) -> dict[str, Any]:
    """The tables of a recipe, all of RECIPE_TABLES; their keys are for those who own them to check."""
    content = _read_toml(path)
    _require_recipe(path, content)
    for key, value in content.items():
        if not isinstance(value, dict):
            raise ConfigError(
                f"{path}: {key} = {toml_value(value)} is no table; write [{key}] and its keys below it"
            )
    return content


def _require_recipe(path: Path, content: Mapping[str, Any]) -> None:
    for key in content:
        if key not in RECIPE_TABLES:
            raise ConfigError(f"{path}: unknown table [{key}]; a recipe has [{'] ['.join(RECIPE_TABLES)}]")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror}); name a TOML file") from problem
    except (ValueError, RecursionError) as problem:  # TOMLDecodeError; no UTF-8; brackets without end
        raise ConfigError(f"{path}: not TOML ({problem})") from problem
