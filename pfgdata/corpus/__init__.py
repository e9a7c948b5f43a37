"""What there is to ingest, and its bytes: inputs walked in the stable order, images read safely and ahead.

Paths are bytes here, as the file system has them. Folders, lists, archives and single images all become
segments; a walk of any yields `Found` in the stable order, and `read` takes any of their keys. `read_image`
gives the pixels of a row of a store, or of a file.
"""

from __future__ import annotations

from pfgdata.corpus.chunks import Chunk, WalkCounts
from pfgdata.corpus.folders import walk, walk_chunks
from pfgdata.corpus.inputs import plan_segments
from pfgdata.corpus.isolated import Isolated
from pfgdata.corpus.names import archive_kind
from pfgdata.corpus.pixels import ReadImage, read_image, read_images, stored_bytes
from pfgdata.corpus.pool import OrderedPool, Timeout, background, ordered_pool
from pfgdata.corpus.reader import MAX_BYTES, ReadResult, file_time, read
from pfgdata.corpus.remote import remote_files, require_reachable
from pfgdata.corpus.segments import Segment, WalkOptions
from pfgdata.corpus.sidecars import (
    Sidecars,
    caption_text,
    list_sidecars,
    read_caption,
    read_json_beside,
    tags_of_post,
)
from pfgdata.corpus.watch import Watch, far_readers, too_long

__all__ = [
    "MAX_BYTES",
    "Chunk",
    "Isolated",
    "OrderedPool",
    "ReadImage",
    "ReadResult",
    "Segment",
    "Sidecars",
    "Timeout",
    "WalkCounts",
    "WalkOptions",
    "Watch",
    "archive_kind",
    "background",
    "caption_text",
    "far_readers",
    "file_time",
    "list_sidecars",
    "ordered_pool",
    "plan_segments",
    "read",
    "read_caption",
    "read_image",
    "read_images",
    "read_json_beside",
    "remote_files",
    "require_reachable",
    "stored_bytes",
    "tags_of_post",
    "too_long",
    "walk",
    "walk_chunks",
]
