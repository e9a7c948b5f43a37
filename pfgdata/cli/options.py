"""Options that several commands share, and how a command says what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pfgdata.paths import user_folder
from pfgdata.screen import show_facts

__all__ = [
    "CharacterThreshold",
    "DryRun",
    "Json",
    "Replace",
    "Seconds",
    "StoreArgument",
    "StoreOption",
    "Threshold",
    "Where",
    "show_failures",
]

_STORE = Path("feats")
_STORE_HELP = "The store, a folder."
_ROWS, _OUTPUT = "Which images", "Output"

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="PFG_STORE", parser=user_folder, help=_STORE_HELP)
]
StoreArgument = Annotated[
    Path, typer.Argument(metavar="STORE", envvar="PFG_STORE", parser=user_folder, help=_STORE_HELP)
]
Threshold = Annotated[
    float,
    typer.Option("--threshold", help="General tags count from this score on.", rich_help_panel=_ROWS),
]
CharacterThreshold = Annotated[
    float,
    typer.Option("--character-threshold", help="Characters count from this score on.", rich_help_panel=_ROWS),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="EXPR",
        help="Only images for which this is true, as pfgdata query takes it.",
        show_default="all",
        rich_help_panel=_ROWS,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=_OUTPUT)
]
Replace = Annotated[bool, typer.Option("--replace", help="Also where there is one of that name already.")]
Seconds = Annotated[
    float, typer.Option(metavar="N", help="End a query that takes longer.", rich_help_panel="Speed")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.", rich_help_panel=_OUTPUT)
]

_SHOWN_FAILURES = 10  # the rest is in --json


def show_failures(failures: Sequence[tuple[str, str, str]]) -> None:
    """Name the images that could not be used, (file, kind, reason), on stderr."""
    for file, kind, reason in failures[:_SHOWN_FAILURES]:
        show_facts({f"failed ({kind})": f"{file}: {reason}"})
    if len(failures) > _SHOWN_FAILURES:
        show_facts({"failed": f"and {len(failures) - _SHOWN_FAILURES} more; --json names them all"})
