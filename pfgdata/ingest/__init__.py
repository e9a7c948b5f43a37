"""Corpus to store: what is new is read, tagged and committed shard by shard; nothing is done twice."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.ingest.captions import CaptionsReport, write_captions
    from pfgdata.ingest.job import IngestJob, IngestOptions
    from pfgdata.ingest.posts import SITES, PostsReport, attach_posts
    from pfgdata.ingest.pruning import PruneReport, prune
    from pfgdata.ingest.report import FailedImage, IngestReport
    from pfgdata.ingest.run import ingest, plan_ingest
    from pfgdata.ingest.setup import open_or_create, open_or_none, tagger_for

__all__ = [
    "SITES",
    "CaptionsReport",
    "FailedImage",
    "IngestJob",
    "IngestOptions",
    "IngestReport",
    "PostsReport",
    "PruneReport",
    "attach_posts",
    "ingest",
    "open_or_create",
    "open_or_none",
    "plan_ingest",
    "prune",
    "tagger_for",
    "write_captions",
]

_LAZY = {
    "SITES": "pfgdata.ingest.posts",
    "CaptionsReport": "pfgdata.ingest.captions",
    "FailedImage": "pfgdata.ingest.report",
    "IngestJob": "pfgdata.ingest.job",
    "IngestOptions": "pfgdata.ingest.job",
    "IngestReport": "pfgdata.ingest.report",
    "PostsReport": "pfgdata.ingest.posts",
    "PruneReport": "pfgdata.ingest.pruning",
    "attach_posts": "pfgdata.ingest.posts",
    "ingest": "pfgdata.ingest.run",
    "open_or_create": "pfgdata.ingest.setup",
    "open_or_none": "pfgdata.ingest.setup",
    "plan_ingest": "pfgdata.ingest.run",
    "prune": "pfgdata.ingest.pruning",
    "tagger_for": "pfgdata.ingest.setup",
    "write_captions": "pfgdata.ingest.captions",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name of the door when it is first asked for."""
        if name in _LAZY:
            return getattr(importlib.import_module(_LAZY[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
