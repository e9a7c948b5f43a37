"""Files below everything: what syncs, renames, locks and seals them, for stores, runs and caches alike.

Whatever writes a file that others read does it through a `Disk`, which is passed in.
"""

from __future__ import annotations

from pfgdata.files.cache import FileCache, cache_folder
from pfgdata.files.disk import CRASH_POINTS, TEMPORARY, CrashPoint, Disk
from pfgdata.files.os_errors import explained
from pfgdata.files.place_errors import TakenError
from pfgdata.files.places import ObjectInfo, ObjectPlace, is_url
from pfgdata.files.sealed import canonical_json, read_json

__all__ = [
    "CRASH_POINTS",
    "TEMPORARY",
    "CrashPoint",
    "Disk",
    "FileCache",
    "ObjectInfo",
    "ObjectPlace",
    "TakenError",
    "cache_folder",
    "canonical_json",
    "explained",
    "is_url",
    "read_json",
]
