"""Files below everything: what syncs, renames, locks and seals them, for stores, runs and caches alike.

Whatever writes a file that others read does it through a `Disk`, which is passed in.
"""

from __future__ import annotations

from pfgdata.files.cache import FileCache, cache_folder
from pfgdata.files.disk import CRASH_POINTS, TEMPORARY, CrashPoint, Disk
from pfgdata.files.objects import OBJECT_POINTS, ObjectDisk, ObjectPoint, disk_at
from pfgdata.files.os_errors import explained
from pfgdata.files.place_errors import TakenError
from pfgdata.files.places import ObjectInfo, ObjectPlace
from pfgdata.files.sealed import canonical_json, read_json

__all__ = [
    "CRASH_POINTS",
    "OBJECT_POINTS",
    "TEMPORARY",
    "CrashPoint",
    "Disk",
    "FileCache",
    "ObjectDisk",
    "ObjectInfo",
    "ObjectPlace",
    "ObjectPoint",
    "TakenError",
    "cache_folder",
    "canonical_json",
    "disk_at",
    "explained",
    "read_json",
]
