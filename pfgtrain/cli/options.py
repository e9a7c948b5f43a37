"""Options that several commands share, and how each stands in its panel of the help."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["DryRun", "Json", "option"]

_OUTPUT = "Output"


def option(panel: str, *flags: str, help: str, **more: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*flags, help=help, rich_help_panel=panel, **more)


DryRun = Annotated[bool, option(_OUTPUT, "--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, option(_OUTPUT, "--json", help="Print the result as JSON on stdout.")]
