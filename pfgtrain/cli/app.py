"""The app: its commands in the order of the work, and what holds for all of them."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from pfgdata.query import unfinished
from pfgdata.screen import FIXABLE, make_app, run_app
from pfgtrain.cli.evaluate import EXAMPLE as EVALUATE_EXAMPLE
from pfgtrain.cli.evaluate import evaluate
from pfgtrain.cli.export import EXAMPLE as EXPORT_EXAMPLE
from pfgtrain.cli.export import export
from pfgtrain.cli.fit import EXAMPLE as FIT_EXAMPLE
from pfgtrain.cli.fit import fit
from pfgtrain.cli.generate import EXAMPLE as GENERATE_EXAMPLE
from pfgtrain.cli.generate import generate
from pfgtrain.cli.web import EXAMPLE as WEB_EXAMPLE
from pfgtrain.cli.web import web

__all__ = ["app", "main"]

app = make_app(
    "pfgtrain",
    help="From a feature store to a Prompt Free Generation model, and from guide images to pictures.",
    example="pfgtrain fit --store feats/ --out runs/a, then pfgtrain generate runs/a guide.png",
)
app.command("fit", epilog=FIT_EXAMPLE)(fit)
app.command("generate", epilog=GENERATE_EXAMPLE)(generate)
app.command("web", epilog=WEB_EXAMPLE)(web)
app.command("evaluate", epilog=EVALUATE_EXAMPLE)(evaluate)
app.command("export", epilog=EXPORT_EXAMPLE)(export)


def main() -> NoReturn:
    """Run `pfgtrain` with the process's arguments, and exit."""
    try:
        run_app(app, name="pfgtrain")
    except SystemExit as leaving:
        if unfinished():  # a query that was given up holds the process in DuckDB's C++
            sys.stderr.flush()
            os._exit(leaving.code if isinstance(leaving.code, int) else FIXABLE)
        raise
