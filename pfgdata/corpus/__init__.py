"""What there is to ingest, and its bytes: folders walked in the stable order, files read safely and ahead.

Paths are bytes here, as the file system has them. Every source of images yields `Found` in the stable order
and `read` takes any of their keys: archives and list files join in there.
"""

from __future__ import annotations

from pfgdata.corpus.folders import WalkCounts, walk
from pfgdata.corpus.isolated import Isolated
from pfgdata.corpus.pool import OrderedPool, Patience, background, ordered_pool
from pfgdata.corpus.reader import MAX_BYTES, ReadResult, read
from pfgdata.corpus.segments import Segment, plan_segments

__all__ = [
    "MAX_BYTES",
    "Isolated",
    "OrderedPool",
    "Patience",
    "ReadResult",
    "Segment",
    "WalkCounts",
    "background",
    "ordered_pool",
    "plan_segments",
    "read",
    "walk",
]
