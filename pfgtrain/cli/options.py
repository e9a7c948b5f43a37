"""Options that several commands share, and how each stands in its panel of the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pfgdata.hub import DEMO, resolve
from pfgdata.paths import user_folder

__all__ = [
    "MODEL",
    "PICTURE",
    "Base",
    "BaseConfig",
    "Checkpoint",
    "Device",
    "DryRun",
    "ImagesPerGuide",
    "Json",
    "NoEma",
    "PfgScale",
    "Prediction",
    "ShardsAlias",
    "TaggerName",
    "folder_for",
    "one_store",
    "option",
    "run_folder",
]

PICTURE, MODEL, _OUTPUT = "The pictures", "The model", "Output"


def option(panel: str, *flags: str, help: str, **more: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*flags, help=help, rich_help_panel=panel, **more)


DryRun = Annotated[bool, option(_OUTPUT, "--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, option(_OUTPUT, "--json", help="Print the result as JSON on stdout.")]

ShardsAlias = Annotated[
    Path | None, typer.Option("--shards", parser=user_folder, help="The same as --store.", show_default=False)
]

ImagesPerGuide = Annotated[int, option(PICTURE, "-n", help="Pictures a guide.")]
PfgScale = Annotated[
    float | None,
    option(PICTURE, "--pfg-scale", help="Multiplies the tokens.", show_default="the run's, or 1"),
]
Checkpoint = Annotated[str, option(MODEL, help="latest, best, or a name, step-00000500.")]
NoEma = Annotated[bool, option(MODEL, "--no-ema", help="Not the moving average.")]
Base = Annotated[str | None, option(MODEL, help="The base.", show_default="the run's")]
BaseConfig = Annotated[
    Path | None,
    option(
        MODEL,
        "--base-config",
        metavar="DIR",
        help="A folder with the configs a single file lacks.",
        show_default="the hub's",
    ),
]
Prediction = Annotated[
    Literal["epsilon", "v_prediction"] | None,
    option(MODEL, "--prediction-type", help="What the base predicts.", show_default="the run's, or its own"),
]
TaggerName = Annotated[str | None, option(MODEL, help="The tagger.", show_default="the run's")]
Device = Annotated[str | None, option(MODEL, help="cpu, cuda, cuda:N.", show_default="a GPU if any")]


def one_store(context: typer.Context, store: Path | None, shards: Path | None) -> Path | None:
    """The store named by --store or by --shards, --shards above PFG_STORE. Raises BadParameter for both."""
    source = context.get_parameter_source("store")
    if shards and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("--store and --shards are the same; give one of them")
    return shards or store


def run_folder(run: Path) -> Path:
    """The folder of the run called `run`: `demo` is the one that travels inside the package."""
    return resolve(DEMO, what="run").folder if run == Path(DEMO) else run


def folder_for(what: str, run: Path | None) -> Path:
    """Where `what` is made of a run goes by default: into its folder, of the package's own run here."""
    return run / what if run and run != Path(DEMO) else Path(what)
