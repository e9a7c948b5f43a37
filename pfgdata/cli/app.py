"""The app: its commands in the order of the work, and what holds for all of them."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn

from pfgdata.cli.browse import EXAMPLE as BROWSE_EXAMPLE
from pfgdata.cli.browse import browse
from pfgdata.cli.columns import EXAMPLE as ATTACH_EXAMPLE
from pfgdata.cli.columns import LEAVE_EXAMPLE, attach, columns, detach
from pfgdata.cli.columns import LIST_EXAMPLE as COLUMNS_EXAMPLE
from pfgdata.cli.compact import EXAMPLE as COMPACT_EXAMPLE
from pfgdata.cli.compact import compact
from pfgdata.cli.doctor import EXAMPLE as DOCTOR_EXAMPLE
from pfgdata.cli.doctor import doctor
from pfgdata.cli.duplicates import EXAMPLE as DUPLICATES_EXAMPLE
from pfgdata.cli.duplicates import duplicates
from pfgdata.cli.features import EXAMPLE as FEATURES_EXAMPLE
from pfgdata.cli.features import features
from pfgdata.cli.gc import EXAMPLE as GC_EXAMPLE
from pfgdata.cli.gc import gc
from pfgdata.cli.ingest import EXAMPLE as INGEST_EXAMPLE
from pfgdata.cli.ingest import ingest
from pfgdata.cli.latents import EXAMPLE as LATENTS_EXAMPLE
from pfgdata.cli.latents import latents
from pfgdata.cli.parts import ADOPT_EXAMPLE, adopt
from pfgdata.cli.prune import EXAMPLE as PRUNE_EXAMPLE
from pfgdata.cli.prune import prune
from pfgdata.cli.query import EXAMPLE as QUERY_EXAMPLE
from pfgdata.cli.query import query
from pfgdata.cli.report import EXAMPLE as REPORT_EXAMPLE
from pfgdata.cli.report import report
from pfgdata.cli.sample import EXAMPLE as SAMPLE_EXAMPLE
from pfgdata.cli.sample import sample
from pfgdata.cli.select import EXAMPLE as SELECT_EXAMPLE
from pfgdata.cli.select import LIST_EXAMPLE, select, selections
from pfgdata.cli.similar import EXAMPLE as SIMILAR_EXAMPLE
from pfgdata.cli.similar import similar
from pfgdata.cli.tags import EXAMPLE as TAGS_EXAMPLE
from pfgdata.cli.tags import tags
from pfgdata.cli.verify import EXAMPLE as VERIFY_EXAMPLE
from pfgdata.cli.verify import verify
from pfgdata.interrupts import INTERRUPTED
from pfgdata.screen import FIXABLE, make_app, run_app

__all__ = ["app", "main"]

app = make_app(
    "pfgdata",
    help="From a folder of images to a searchable feature store.",
    example=(
        "pfgdata ingest ./images, then pfgdata query \"character = 'hatsune_miku'\", then pfgdata latents"
        " --base BASE"
    ),
)
app.command("ingest", epilog=INGEST_EXAMPLE)(ingest)
app.command("adopt", epilog=ADOPT_EXAMPLE)(adopt)
app.command("query", epilog=QUERY_EXAMPLE)(query)
app.command("select", epilog=SELECT_EXAMPLE)(select)
app.command("selections", epilog=LIST_EXAMPLE)(selections)
app.command("attach", epilog=ATTACH_EXAMPLE)(attach)
app.command("columns", epilog=COLUMNS_EXAMPLE)(columns)
app.command("detach", epilog=LEAVE_EXAMPLE)(detach)
app.command("tags", epilog=TAGS_EXAMPLE)(tags)
app.command("sample", epilog=SAMPLE_EXAMPLE)(sample)
app.command("similar", epilog=SIMILAR_EXAMPLE)(similar)
app.command("duplicates", epilog=DUPLICATES_EXAMPLE)(duplicates)
app.command("browse", epilog=BROWSE_EXAMPLE)(browse)
app.command("report", epilog=REPORT_EXAMPLE)(report)
app.command("latents", epilog=LATENTS_EXAMPLE)(latents)
app.command("features", epilog=FEATURES_EXAMPLE)(features)
app.command("verify", epilog=VERIFY_EXAMPLE)(verify)
app.command("prune", epilog=PRUNE_EXAMPLE)(prune)
app.command("compact", epilog=COMPACT_EXAMPLE)(compact)
app.command("gc", epilog=GC_EXAMPLE)(gc)
app.command("doctor", epilog=DOCTOR_EXAMPLE)(doctor)


def main() -> NoReturn:
    """Run `pfgdata` with the process's arguments, and exit."""
    try:
        run_app(app, name="pfgdata")
    except SystemExit as leaving:
        if threading.active_count() > 1 and (leaving.code == INTERRUPTED or _querying()):
            # a thread that is in the model's C++ while the interpreter ends aborts the process, and one in
            # DuckDB's holds it
            sys.stderr.flush()
            os._exit(leaving.code if isinstance(leaving.code, int) else FIXABLE)
        raise


def _querying() -> bool:
    from pfgdata.query import unfinished

    return unfinished()
