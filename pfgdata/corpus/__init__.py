"""What there is to ingest, and its bytes: folders walked in the stable order, files read safely and ahead.

Paths are bytes here, as the file system has them. Every source of images yields `Found` in the stable order
and `read` takes any of their keys: archives and list files join in there.
"""

from __future__ import annotations

from pfgdata.corpus.folders import WalkCounts, walk
from pfgdata.corpus.pool import ordered_pool
from pfgdata.corpus.reader import ReadResult, read
from pfgdata.corpus.segments import Segment, plan_segments
from pfgdata.corpus.sidecars import Sidecars, caption_text, list_sidecars, read_caption

__all__ = [
    "ReadResult",
    "Segment",
    "Sidecars",
    "WalkCounts",
    "caption_text",
    "list_sidecars",
    "ordered_pool",
    "plan_segments",
    "read",
    "read_caption",
    "walk",
]
