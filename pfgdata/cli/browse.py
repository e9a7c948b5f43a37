"""`pfgdata browse`: a page of a store on this machine, to look, search, select and judge."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pfgdata.cli.options import CharacterThreshold, StoreArgument, Threshold
from pfgdata.errors import ConfigError
from pfgdata.screen import print_line, show_facts

if TYPE_CHECKING:
    from pfgdata.web import Place

__all__ = ["EXAMPLE", "browse"]

EXAMPLE = "Example: pfgdata browse feats/ --open"
_SERVER, _SPEED = "Where", "Speed"
_UNITS = {"": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}


def browse(
    store: StoreArgument = Path("feats"),
    host: Annotated[
        str,
        typer.Option(
            help="Where to listen; any address that others reach asks for a token, which is printed.",
            rich_help_panel=_SERVER,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Which port; 0 is any free one.",
            show_default="8787, or the next free one",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in your browser.", rich_help_panel=_SERVER)
    ] = False,
    threshold: Threshold = 0.35,
    character_threshold: CharacterThreshold = 0.85,
    seconds: Annotated[
        float, typer.Option(metavar="N", help="End a question that takes longer.", rich_help_panel=_SPEED)
    ] = 60,
    thumbnails: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Keep so many bytes of thumbnails in the store's cache/, as 500mb or 2gb; 0: none.",
            rich_help_panel=_SPEED,
        ),
    ] = "2gb",
    follow_links: Annotated[
        bool,
        typer.Option(
            "--follow-links",
            help="Also show images behind a link out of the corpus, by their content.",
        ),
    ] = False,
) -> None:
    """Show a store as a page: search, facets, every image, what is like it, duplicates, selections.

    The page's address is the query, and can be copied as a command. Only this machine reaches it, unless
    --host says otherwise. Nothing is written but selections, verdicts and cache/thumbnails. It runs until
    Ctrl-C. docs/browse.md has its keys and its limits.
    """
    try:
        from pfgdata.web import BROWSE_RULES, DeskOptions, ServeOptions, browse_app, serve
    except ModuleNotFoundError as problem:
        if (problem.name or "").split(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise ConfigError(f"the page needs {problem.name}; run: pip install 'pfg[web]'") from None
    from pfgdata.query import Limits, Thresholds
    from pfgdata.store import Store

    there = Store.open(store)
    options = DeskOptions(
        thresholds=Thresholds(general=threshold, character=character_threshold),
        limits=Limits(seconds=seconds),
        thumbnails=_size(thumbnails),
        follow_links=follow_links,
    )

    def ready(place: Place) -> None:
        print_line(place.address)
        sys.stdout.flush()  # into a pipe too: the command goes on
        show_facts({"browse": f"{there.path}; Ctrl-C ends it"})

    where = ServeOptions(host=host, port=port, open=open_page, rules=BROWSE_RULES)
    serve(browse_app(there, options), where, ready=ready)


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([kmgt]?b?)", text.strip().lower())
    if found is None:
        raise typer.BadParameter(f"--thumbnails {text}: write a number and a unit, as 500mb or 2gb")
    unit = found[2] if found[2] in _UNITS else f"{found[2]}b"
    return int(float(found[1]) * _UNITS.get(unit, 1))
