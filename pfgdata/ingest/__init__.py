"""Corpus to store: what is new is read, tagged and committed shard by shard; nothing is done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

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

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
