"""Options that several commands share, and how each stands in its panel of the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pfgdata.hub import DEMO, resolve

__all__ = ["DryRun", "Json", "folder_for", "option", "run_folder"]

_OUTPUT = "Output"


def option(panel: str, *flags: str, help: str, **more: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*flags, help=help, rich_help_panel=panel, **more)


DryRun = Annotated[bool, option(_OUTPUT, "--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, option(_OUTPUT, "--json", help="Print the result as JSON on stdout.")]


def run_folder(run: Path) -> Path:
    """The folder of the run called `run`: `demo` is the one that travels inside the package."""
    return resolve(DEMO, what="run").folder if run == Path(DEMO) else run


def folder_for(what: str, run: Path | None) -> Path:
    """Where `what` is made of a run goes by default: into its folder, of the package's own run here."""
    return run / what if run and run != Path(DEMO) else Path(what)
