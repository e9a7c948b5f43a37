"""A recipe: one TOML file with the tables [ingest] [query] [latents] [features] [fit] [evaluate] [generate],
of which [ingest] must be there.

Paths in it are relative to the recipe's own folder, so that a recipe runs from anywhere. A key that no step
knows is refused, with the nearest name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfgdata.errors import ConfigError
from pfgdata.features import FeatureJob
from pfgdata.hub import DEMO
from pfgdata.ingest import IngestJob
from pfgdata.latents import LatentJob
from pfgdata.paths import user_path
from pfgdata.query import QueryJob
from pfgtrain.config import FitConfig, read_recipe_tables, read_table
from pfgtrain.evaluate import EvaluateJob
from pfgtrain.generate import GenerateJob

__all__ = [
    "RECIPES",
    "GenerateTable",
    "IngestTable",
    "QueryTable",
    "Recipe",
    "find_recipe",
    "read_recipe",
]

RECIPES = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class IngestTable(IngestJob):
    """[ingest]: the images, and all that the command can be asked."""

    images: str | list[str]


@dataclass(frozen=True, kw_only=True)
class QueryTable(QueryJob):
    """[query]: a question, answered on screen by how many images it finds and its first `limit`."""

    limit: int | None = 5


@dataclass(frozen=True, kw_only=True)
class GenerateTable(GenerateJob):
    """[generate]: the guide images, what to make of them by which model, and a run to show beside."""

    guides: list[str] = field(default_factory=list)
    beside: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe as read; a step whose table is absent is not run."""

    name: str
    folder: Path
    ingest: IngestTable
    query: QueryTable | None
    latents: LatentJob | None
    features: FeatureJob | None
    fit: FitConfig | None
    evaluate: EvaluateJob | None
    generate: GenerateTable | None

    def path(self, text: str) -> Path:
        """The path that this recipe means by `text`, relative to its own folder."""
        return user_path(text, start=self.folder)

    def paths(self, texts: str | list[str]) -> list[Path]:
        """The paths that this recipe means by a text or several."""
        return [self.path(text) for text in ([texts] if isinstance(texts, str) else texts)]

    def model(self, name: str) -> str:
        """A model's name as this recipe means it: a folder or file beside it, else the name itself."""
        beside = self.path(name)
        return str(beside.absolute()) if name != DEMO and beside.exists() else name


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that is shipped. Raises ConfigError."""
    shipped = RECIPES / f"{name}.toml"
    if (named := user_path(name)).is_file():
        return named
    if shipped.is_file():
        return shipped
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
    raise ConfigError(f"{name}: no such recipe; name a TOML file, or one of: {names}")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises ConfigError naming file, table and key."""
    content = read_recipe_tables(path)
    if "ingest" not in content:
        raise ConfigError(f"{path}: a recipe needs [ingest] with images = the folder to ingest")
    known = {
        "ingest": IngestTable,
        "query": QueryTable,
        "latents": LatentJob,
        "features": FeatureJob,
        "fit": FitConfig,
        "evaluate": EvaluateJob,
        "generate": GenerateTable,
    }
    tables: dict[str, Any] = dict.fromkeys(known)
    for name, table in content.items():
        source = f"{path} [{name}]"
        is_fit = name == "fit"  # it knows the tables within it
        tables[name] = (
            FitConfig.of(table, source=source) if is_fit else read_table(known[name], table, source=source)
        )
    return Recipe(name=path.stem, folder=path.parent, **tables)
