"""Corpus to store: what is new is read, tagged and committed shard by shard; nothing is done twice."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.ingest.plan import IngestOptions
    from pfgdata.ingest.report import FailedImage, IngestReport
    from pfgdata.ingest.run import ingest, plan_ingest

__all__ = ["FailedImage", "IngestOptions", "IngestReport", "ingest", "plan_ingest"]

_LAZY = {
    "FailedImage": "pfgdata.ingest.report",
    "IngestOptions": "pfgdata.ingest.plan",
    "IngestReport": "pfgdata.ingest.report",
    "ingest": "pfgdata.ingest.run",
    "plan_ingest": "pfgdata.ingest.run",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
