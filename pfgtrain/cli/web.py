"""`pfgtrain web`: a page on this machine that draws what guides show."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.errors import ConfigError, PfgError
from pfgdata.flags import from_fields
from pfgdata.interrupts import INTERRUPTED
from pfgdata.paths import user_folder, user_path, user_store
from pfgdata.screen import one_line_error, print_line, show_facts
from pfgtrain.cli.options import MODEL, MODEL_FIELDS, MODEL_METAVARS, option, run_folder
from pfgtrain.web import WebJob

if TYPE_CHECKING:
    from pfgdata.records import Progress
    from pfgdata.web import Place
    from pfgtrain.generate import PFGModel
    from pfgtrain.web import Desk

__all__ = ["EXAMPLE", "web"]

EXAMPLE = (
    "Examples: pfgtrain web demo; pfgtrain web runs/a --shards feats/; "
    "pfgtrain web --adapter pfg-n5.pt --base BASE"
)
_SERVER = "The server"


@from_fields(WebJob, {MODEL: f"adapter {MODEL_FIELDS}"}, more=MODEL_METAVARS)
def web(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", parser=user_path, help="A run, or demo; left out with --adapter."),
    ] = None,
    *,
    shards: Annotated[
        Path | None,
        typer.Option("--shards", parser=user_store, help="A store to pick guides from.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=user_folder,
            help="Folder of guides and pictures.",
            show_default="web/ in RUN, or pfg-web/ here",
        ),
    ] = None,
    host: Annotated[
        str, option(_SERVER, help="Where to listen; any other address than this machine's asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        option(_SERVER, min=0, max=65535, help="Of the address.", show_default="the first free from 8788"),
    ] = None,
    open_it: Annotated[bool, option(_SERVER, "--open", help="Open it in the browser.")] = False,
    **words: Any,
) -> None:
    """Serve a page that draws: guides in, pictures out, each with the command that makes it again.

    Prints its address, and serves until Ctrl-C. Guides and pictures stay in the folder.
    """
    if (run is None) == (words["adapter"] is None):
        raise typer.BadParameter("name a run (or demo), or --adapter and --base")
    if words["adapter"] and not words["base"]:
        raise typer.BadParameter("--adapter needs --base, the model it was trained on")
    server = _server()
    folder = out or (run / "web" if run and run != Path("demo") else Path("pfg-web"))
    desk = _desk(WebJob(**words), run, folder)
    from pfgtrain.web import RULES, StoredGuides, drawing_app

    store = StoredGuides(shards) if shards else None

    def ready(place: Place) -> None:
        show_facts({"guides and pictures": folder, "stop with": "Ctrl-C"})
        print_line(place.address)
        sys.stdout.flush()
        desk.start()

    options = server.ServeOptions(host=host, port=port, usual=8788, open=open_it, rules=RULES)
    try:
        server.serve(drawing_app(desk, store), options, ready=ready)
    except KeyboardInterrupt:
        desk.stop()
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(
            INTERRUPTED
        )  # torch takes a second to leave, an import of it longer; no file is half written


def _server() -> Any:
    """pfgdata's server. Raises ConfigError where the packages of the extra are missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as problem:
        raise ConfigError(f"{problem.name} is not installed; run: pip install 'pfg[web]'") from None
    import pfgdata.web

    return pfgdata.web


def _desk(job: WebJob, run: Path | None, folder: Path) -> Desk:
    """The session of a run's model, or of an adapter's."""
    from pfgtrain.checkpoint import RunRecord, Sampling
    from pfgtrain.web import Desk

    drawing = job.drawing()
    if run is None:

        def load_adapter(progress: Progress) -> PFGModel:
            from pfgtrain.generate import adapter_model

            return _told(lambda: adapter_model(drawing, progress=progress))

        if not Path(drawing.adapter or "").is_file():
            raise ConfigError(f"{drawing.adapter}: no such file; name published weights, .pt or .safetensors")
        return Desk(folder, load_adapter, job=drawing, run=None)

    run_dir = run_folder(run)
    RunRecord.read(run_dir)  # what is no run is told before an address is

    def load_run(progress: Progress) -> PFGModel:
        from pfgtrain.generate import run_model

        return _told(lambda: run_model(run_dir, drawing, progress=progress))

    name = str(run) if run == Path("demo") else str(run.absolute())
    return Desk(folder, load_run, job=drawing, run=name, kept=Sampling.read(run_dir))


def _told(load: Callable[[], PFGModel]) -> PFGModel:
    """What `load` gives; why it gives nothing stands on the terminal too, not on the page alone."""
    try:
        return load()
    except PfgError as problem:
        print(one_line_error(problem), file=sys.stderr, flush=True)
        raise
