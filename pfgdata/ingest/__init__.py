"""Corpus to store: what is new is read, tagged and committed shard by shard; nothing is done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.ingest.adopting import AdoptReport, adopt, plan_adoption
    from pfgdata.ingest.begin import require_fit
    from pfgdata.ingest.captions import CaptionsReport, write_captions
    from pfgdata.ingest.job import IngestJob, IngestOptions
    from pfgdata.ingest.making import PartWork, Share, make_parts, plan_parts
    from pfgdata.ingest.posts import SITES, PostsReport, attach_posts
    from pfgdata.ingest.pruning import PruneReport, prune
    from pfgdata.ingest.ranges import RANGE_ROWS, PlanOut, RangePlan, write_plan
    from pfgdata.ingest.report import FailedImage, IngestReport
    from pfgdata.ingest.run import ingest, plan_ingest
    from pfgdata.ingest.setup import open_or_create, open_or_none, tagger_for
    from pfgdata.ingest.spans import Covered

__all__ = [
    "RANGE_ROWS",
    "SITES",
    "AdoptReport",
    "CaptionsReport",
    "Covered",
    "FailedImage",
    "IngestJob",
    "IngestOptions",
    "IngestReport",
    "PartWork",
    "PlanOut",
    "PostsReport",
    "PruneReport",
    "RangePlan",
    "Share",
    "adopt",
    "attach_posts",
    "ingest",
    "make_parts",
    "open_or_create",
    "open_or_none",
    "plan_adoption",
    "plan_ingest",
    "plan_parts",
    "prune",
    "require_fit",
    "tagger_for",
    "write_captions",
    "write_plan",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
