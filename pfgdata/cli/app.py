"""The app: its commands in the order of the work, and what holds for all of them."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from pfgdata.cli.ingest import EXAMPLE as INGEST_EXAMPLE
from pfgdata.cli.ingest import ingest
from pfgdata.cli.latents import EXAMPLE as LATENTS_EXAMPLE
from pfgdata.cli.latents import latents
from pfgdata.cli.query import EXAMPLE as QUERY_EXAMPLE
from pfgdata.cli.query import query
from pfgdata.cli.verify import EXAMPLE as VERIFY_EXAMPLE
from pfgdata.cli.verify import verify
from pfgdata.screen import run_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="pfgdata",
    help="From a folder of images to a searchable feature store.",
    epilog=(
        "Example: pfgdata ingest ./images, then pfgdata query \"character = 'hatsune_miku'\", then "
        "pfgdata latents --base BASE. PFG_STORE sets the default store; PFG_DEBUG=1 shows tracebacks. "
        "Exit codes: 0 done, 1 you can fix it, 2 wrong usage, 130 interrupted."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("ingest", epilog=INGEST_EXAMPLE)(ingest)
app.command("query", epilog=QUERY_EXAMPLE)(query)
app.command("latents", epilog=LATENTS_EXAMPLE)(latents)
app.command("verify", epilog=VERIFY_EXAMPLE)(verify)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"pfgdata {version('pfg')}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


def main() -> NoReturn:
    """Run `pfgdata` with the process's arguments, and exit."""
    run_app(app, name="pfgdata")
