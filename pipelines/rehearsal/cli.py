"""The command line of `python -m pipelines.rehearsal`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from pfgdata.flags import from_fields
from pfgdata.paths import user_folder
from pfgdata.screen import print_json, run_app, show_table
from pipelines.rehearsal import FAMILIES, Forecast, Rehearsal, RehearsalOptions, Step, forecast

__all__ = ["app", "main"]

GB = 1e9

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


_NUMBER: dict[str, Any] = {"metavar": "N", "min": 1}
_BOUNDS = dict.fromkeys(("images", "fit_steps", "sampler_steps"), _NUMBER)


@app.command(epilog="Example: python -m pipelines.rehearsal --family sdxl --out rehearsal/ --dry-run")
@from_fields(RehearsalOptions, {"": "images train fit_steps sampler_steps tagger keep"}, more=_BOUNDS)
def rehearsal(
    family: Annotated[Literal["sd15", "sdxl"], typer.Option(help="Whose true shape the base has.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", parser=user_folder, help="A folder that is not there yet.")
    ],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, and do nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a step on stdout.")] = False,
    **options: Any,
) -> None:
    """Say whether this machine does, and what it takes: every step at true shapes, with random weights.

    Makes a base of that family's true shape and a tagger of the ViT's, and runs ingest, latents, fit, export
    and generate on a few images by the product's own commands. The pictures mean nothing; time, memory and
    disk are those of a real run. What was made is removed, but for --keep, and
    for the logs where a step failed.
    """
    asked = Rehearsal(shape=FAMILIES[family], out=out, **options)
    if dry_run:
        asked.check_place()
        told = forecast(asked.shape, images=asked.images, tagger=asked.tagger is None)
        _print_forecast(told, as_json=as_json)
        return
    steps = []
    for step in asked.run(say=lambda line: typer.echo(line, err=True)):
        steps.append(step)
        if as_json:
            print_json(asdict(step))
            sys.stdout.flush()  # a step takes minutes
    if not as_json:
        _print_steps(steps)


def main() -> NoReturn:
    """Run `python -m pipelines.rehearsal` with the process's arguments, and exit."""
    run_app(app, name="python -m pipelines.rehearsal")


def _print_forecast(told: dict[str, Forecast], *, as_json: bool) -> None:
    if as_json:
        print_json({name: asdict(one) for name, one in told.items()})
        return
    rows = [(name, _size(one.memory), _size(one.disk)) for name, one in told.items()]
    rows.append(("all", _size(max(one.memory or 0 for one in told.values())), _size(_disk(told))))
    show_table(("step", "memory, told", "disk, told"), rows)


def _print_steps(steps: list[Step]) -> None:
    rows = [
        (
            step.name,
            f"{step.seconds:.1f} s",
            f"{step.cpu_seconds:.1f} s",
            _size(step.memory),
            _size(step.told.memory),
            _size(step.disk),
            _size(step.told.disk),
        )
        for step in steps
    ]
    show_table(("step", "took", "processor", "memory", "told", "disk", "told"), rows)


def _disk(told: dict[str, Forecast]) -> int:
    return sum(one.disk or 0 for one in told.values())


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / GB:.2f} GB"
