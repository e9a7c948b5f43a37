"""The command line of `python -m pipelines.ray_fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pfgdata.flags import from_fields
from pfgdata.interrupts import INTERRUPTED, stop_on_interrupt
from pfgdata.paths import user_folder, user_path
from pfgdata.screen import ScreenProgress, duration, print_json, print_line, run_app, show_facts
from pipelines.ray_fit.group import Group

__all__ = ["app", "main"]

_BOUNDS: dict[str, dict[str, Any]] = {
    "workers": {"min": 1},
    "cores": {"min": 1},
    "retries": {"min": 0},
    "address": {"metavar": "HOST:PORT"},
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command(
    epilog="Example: python -m pipelines.ray_fit --config X.toml --store feats/ --out runs/a --workers 2"
)
@from_fields(Group, {"": "address workers cores retries"}, more=_BOUNDS)
def ray_fit(
    config: Annotated[Path, typer.Option(parser=user_path, help="A recipe, or a file of its \\[fit] keys.")],
    out: Annotated[Path, typer.Option(parser=user_folder, help="The run's folder, seen by every machine.")],
    store: Annotated[
        Path,
        typer.Option(parser=user_folder, envvar="PFG_STORE", help="The store, seen by every machine."),
    ] = Path("feats"),
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    **flags: Any,
) -> None:
    """Train as pfgtrain fit does, by the processes of a Ray cluster.

    Store, base and run lie where every machine sees them, under the same path. When a process or a machine
    dies, all start again from the newest checkpoint. Ctrl-C saves one and ends.
    """
    from pfgtrain.config import load_config
    from pipelines.ray_fit.driver import fit_on_ray
    from pipelines.ray_fit.worker import Job

    job = Job(store=store.absolute(), run_dir=out.absolute(), config=load_config(config, {}))
    with ScreenProgress() as progress, stop_on_interrupt() as stop:
        report = fit_on_ray(job, Group(**flags), resume=resume, progress=progress, stop=stop)
    done = f"step {report['last_step']:,} of {report['plan']['steps']:,}"
    rate = f"{duration(report['seconds'])}, {report['images_per_second']:.3g} images/s"
    show_facts({"run": f"{out}, {done}", "processes": str(report["plan"]["processes"]), "took": rate})
    if as_json:
        print_json(report)
    else:
        print_line(str(out))
    if report["interrupted"]:
        raise typer.Exit(INTERRUPTED)


def main() -> NoReturn:
    """Run `python -m pipelines.ray_fit` with the process's arguments, and exit."""
    run_app(app, name="python -m pipelines.ray_fit")
