"""Corpus to store: what is new is read, tagged and committed shard by shard; nothing is done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgdata.ingest.adopting import Adopter, AdoptReport, adopt, adopt_waiting, plan_adoption
    from pfgdata.ingest.begin import require_fit
    from pfgdata.ingest.captions import CaptionsReport, write_captions
    from pfgdata.ingest.committer import finish
    from pfgdata.ingest.job import IngestJob, IngestOptions
    from pfgdata.ingest.making import (
        PartMaker,
        PartWork,
        Share,
        make_parts,
        plan_parts,
        require_planned,
        write_failed,
    )
    from pfgdata.ingest.posts import SITES, PostsReport, attach_posts
    from pfgdata.ingest.pruning import PruneReport, prune
    from pfgdata.ingest.ranges import (
        RANGE_ROWS,
        PlanOut,
        RangePlan,
        cut,
        plan_bytes,
        plan_from,
        plan_ranges,
        write_plan,
    )
    from pfgdata.ingest.report import FailedImage, IngestReport
    from pfgdata.ingest.run import ingest, plan_ingest
    from pfgdata.ingest.setup import open_or_create, open_or_none, tagger_for
    from pfgdata.ingest.spans import Covered
    from pfgdata.ingest.tasks import Plan
    from pfgdata.ingest.timing import bottleneck, stage_times

__all__ = [
    "RANGE_ROWS",
    "SITES",
    "AdoptReport",
    "Adopter",
    "CaptionsReport",
    "Covered",
    "FailedImage",
    "IngestJob",
    "IngestOptions",
    "IngestReport",
    "PartMaker",
    "PartWork",
    "Plan",
    "PlanOut",
    "PostsReport",
    "PruneReport",
    "RangePlan",
    "Share",
    "adopt",
    "adopt_waiting",
    "attach_posts",
    "bottleneck",
    "cut",
    "finish",
    "ingest",
    "make_parts",
    "open_or_create",
    "open_or_none",
    "plan_adoption",
    "plan_bytes",
    "plan_from",
    "plan_ingest",
    "plan_parts",
    "plan_ranges",
    "prune",
    "require_fit",
    "require_planned",
    "stage_times",
    "tagger_for",
    "write_captions",
    "write_failed",
    "write_plan",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
