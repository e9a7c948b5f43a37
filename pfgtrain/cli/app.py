"""The app: its commands in the order of the work, and what holds for all of them."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from pfgdata.screen import run_app
from pfgtrain.cli.export import EXAMPLE as EXPORT_EXAMPLE
from pfgtrain.cli.export import export
from pfgtrain.cli.fit import EXAMPLE as FIT_EXAMPLE
from pfgtrain.cli.fit import fit
from pfgtrain.cli.generate import EXAMPLE as GENERATE_EXAMPLE
from pfgtrain.cli.generate import generate

__all__ = ["app", "main"]

app = typer.Typer(
    name="pfgtrain",
    help="From a feature store to a Prompt Free Generation model, and from guide images to pictures.",
    epilog=(
        "Example: pfgtrain fit --shards feats/ --out runs/a, then pfgtrain generate runs/a guide.png. "
        "PFG_STORE sets the default store; PFG_DEBUG=1 shows tracebacks. "
        "Exit codes: 0 done, 1 you can fix it, 2 wrong usage, 130 interrupted."
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("fit", epilog=FIT_EXAMPLE)(fit)
app.command("generate", epilog=GENERATE_EXAMPLE)(generate)
app.command("export", epilog=EXPORT_EXAMPLE)(export)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"pfgtrain {version('pfg')}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


def main() -> NoReturn:
    """Run `pfgtrain` with the process's arguments, and exit."""
    run_app(app, name="pfgtrain")
