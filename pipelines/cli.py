"""`python -m pipelines RECIPE`: run a recipe from images to pictures, and say what each step did.

Everything it makes goes below one folder (feats/, runs/NAME/, evaluation/, pictures/); recipes run with the
same folder share its store. Each step skips what is done, so the same command goes on after a stop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pfgdata.interrupts import INTERRUPTED, stop_on_interrupt
from pfgdata.paths import user_folder, user_path
from pfgdata.screen import ScreenProgress, run_app, show_table

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command(epilog="Example: python -m pipelines demo")
def recipe(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of a shipped one.")],
    out: Annotated[
        Path | None,
        typer.Option(parser=user_folder, help="The folder for what is made.", show_default="NAME-out"),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(parser=user_path, help="The folder of images.", show_default="the recipe's"),
    ] = None,
) -> None:
    """Run a recipe: ingest, query, latents, features, fit, evaluate, generate."""
    from pipelines.recipe import find_recipe, read_recipe
    from pipelines.steps import run_steps

    read = read_recipe(find_recipe(name))
    folder = out or Path(f"{read.name}-out")
    rows = []
    with ScreenProgress() as progress, stop_on_interrupt() as stop:
        for step in run_steps(read, folder, images=images, progress=progress, stop=stop):
            rows.append((step.name, step.result, f"{step.seconds:.1f} s"))
    show_table(("step", "result", "took"), rows)
    if stop():
        raise typer.Exit(INTERRUPTED)


def main() -> NoReturn:
    """Run `python -m pipelines` with the process's arguments, and exit."""
    run_app(app, name="python -m pipelines")
