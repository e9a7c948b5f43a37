"""Options that several commands share, and how each stands in its panel of the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pfgdata.paths import user_store

__all__ = [
    "MODEL",
    "MODEL_FIELDS",
    "MODEL_METAVARS",
    "OUTPUT",
    "PICTURE",
    "DryRun",
    "Json",
    "ShardsAlias",
    "folder_for",
    "is_demo",
    "one_store",
    "option",
    "run_folder",
]

PICTURE, MODEL, OUTPUT = "The pictures", "The model", "Output"


def option(panel: str, *flags: str, help: str, **more: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*flags, help=help, rich_help_panel=panel, **more)


DryRun = Annotated[bool, option(OUTPUT, "--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, option(OUTPUT, "--json", help="Print the result as JSON on stdout.")]

ShardsAlias = Annotated[
    Path | None, typer.Option("--shards", parser=user_store, help="The same as --store.", show_default=False)
]

MODEL_FIELDS = (  # of a ModelJob
    "checkpoint no_ema base base_config prediction_type tagger extractor feature_scale allow_missing device"
)
MODEL_METAVARS = {
    "base_config": {"metavar": "DIR"},
    "extractor": {"metavar": "LABEL=MODEL"},
    "feature_scale": {"metavar": "NAME=SCALE"},
}


def one_store(context: typer.Context, store: Path | None, shards: Path | None) -> Path | None:
    """The store named by --store or by --shards, --shards above PFG_STORE. Raises BadParameter for both."""
    source = context.get_parameter_source("store")
    if shards and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("--store and --shards are the same; give one of them")
    return shards or store


def is_demo(run: Path) -> bool:
    """Whether the run called `run` is the one that travels inside the package."""
    from pfgdata.hub import DEMO

    return run == Path(DEMO)


def run_folder(run: Path) -> Path:
    """The folder of the run called `run`: `demo` is the one that travels inside the package."""
    from pfgdata.hub import DEMO, resolve

    return resolve(DEMO, what="run").folder if is_demo(run) else run


def folder_for(what: str, run: Path | None) -> Path:
    """Where `what` is made of a run goes by default: into its folder, of the package's own run here."""
    return run / what if run and not is_demo(run) else Path(what)
