"""The JSON index beside a tar, as cheesechaser, hfutils and webshart write it: listed without being read.

`NAME.json` beside `NAME.tar` has `files`: name -> `offset` of the bytes and `size`. It is a claim of another
file: one that cannot be of this tar is no index, and the header before a member's bytes must agree.
"""

from __future__ import annotations

import json
import os
import tarfile
from typing import Any

from pfgdata.corpus.members import Index, Member
from pfgdata.errors import AccessError

__all__ = ["HEADER", "MAX_INDEX_BYTES", "index_beside", "index_from_json", "require_header"]

HEADER = 512  # bytes before those of a member
MAX_INDEX_BYTES = 256 << 20  # of two million members; the tar of a larger one is read instead
_WRONG = "its tar has something else where the index beside it says; write the index anew, or remove it"


def index_beside(path: bytes) -> bytes | None:
    """The path of the index of the tar at `path`; None for what is no tar by its name."""
    return path[:-4] + b".json" if path[-4:].lower() == b".tar" else None


def index_from_json(data: bytes, *, tar_size: int) -> Index | None:
    """The index in `data` of a tar of so many bytes; None where it is none, or of another tar."""
    try:
        value = json.loads(data)
        files = value["files"]
        if value.get("filesize", tar_size) != tar_size:
            return None
        index = Index()
        for name, one in files.items():
            index.add(os.fsencode(name), _member(one, tar_size))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None
    return index


def _member(one: Any, tar_size: int) -> Member:
    """Raises ValueError for what cannot be in a tar of that size."""
    offset, size = one["offset"], one["size"]
    if (
        type(offset) is not int
        or type(size) is not int
        or offset < HEADER
        or not 0 <= size <= tar_size - offset
    ):
        raise ValueError
    return Member(size, offset, size, listed=True)


def require_header(block: bytes, size: int) -> None:
    """Raise AccessError unless `block` is the header of a member of `size` bytes."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        raise AccessError(_WRONG) from None
    if header.size != size or not header.isreg():
        raise AccessError(_WRONG)
