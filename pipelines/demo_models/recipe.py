"""The recipe file: one TOML with a table per stage, read into the stages' own dataclasses."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pfgdata.errors import ConfigError
from pipelines.demo_models.base import BaseRecipe
from pipelines.demo_models.loop import LoopRecipe
from pipelines.demo_models.tagger import ClassifierRecipe
from pipelines.demo_models.text import TextRecipe
from pipelines.demo_models.vae import VaeRecipe

RECIPE_FILE = Path(__file__).with_name("recipe.toml")
_Kind = TypeVar("_Kind", ClassifierRecipe, VaeRecipe, TextRecipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All stages."""

    tagger: ClassifierRecipe
    judge: ClassifierRecipe
    vae: VaeRecipe
    text: TextRecipe
    base: BaseRecipe


def load_recipe(path: Path = RECIPE_FILE) -> Recipe:
    """Read a recipe; a table that it lacks is the shipped one.

    ConfigError names the file and the key that is unknown or missing.
    """
    tables = {**_tables(RECIPE_FILE), **_tables(path)}
    try:
        return Recipe(
            tagger=_stage(ClassifierRecipe, tables["tagger"]),
            judge=_stage(ClassifierRecipe, tables["judge"]),
            vae=_stage(VaeRecipe, tables["vae"]),
            text=_stage(TextRecipe, tables["text"]),
            base=BaseRecipe(**_frozen(tables["base"])),
        )
    except KeyError as missing:
        raise ConfigError(f"{path}: the table [{missing.args[0]}] is missing") from None
    except TypeError as wrong:
        raise ConfigError(f"{path}: {wrong}") from None


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:  # TOMLDecodeError; no UTF-8
        raise ConfigError(f"{path}: no TOML ({problem})") from None


def _stage(kind: type[_Kind], table: dict[str, Any]) -> _Kind:
    return kind(**{**_frozen(table), "loop": LoopRecipe(**table["loop"])})


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    """The table with tuples for lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def with_steps(recipe: _Kind, steps: int | None) -> _Kind:
    """The same stage with another number of steps, or as it is."""
    return recipe if steps is None else replace(recipe, loop=dataclasses.replace(recipe.loop, steps=steps))
