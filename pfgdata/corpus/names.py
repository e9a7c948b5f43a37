"""What a name says: an image, an archive, or nothing for us. What a file really is, its content says.

Passed over are names with a leading dot, the thumbnail folders of other programs, and unfinished downloads:
what ends as one (no image's ending), the folder `x.jpg.download` that Safari writes into, and an image beside
which its control file `x.jpg.aria2` or `x.jpg.part` still lies.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "CONTROL_ENDINGS",
    "ArchiveKind",
    "archive_kind",
    "is_image",
    "is_passed_over",
    "is_wanted_folder",
]

ArchiveKind = Literal["tar", "zip", "packed"]  # packed: a compressed tar, which has no places to go to

_IMAGES = frozenset(b"jpg jpeg jfif png webp gif bmp tif tiff avif jxl heic heif".split())
_THUMBNAIL_FOLDERS = frozenset([b"@eaDir", b"__MACOSX"])  # of Synology NAS, of zips made on macOS
CONTROL_ENDINGS = (b".aria2", b".part")  # of aria2, and of Firefox, which makes the empty image at once
_ZIPS = (b".zip", b".cbz")
_PACKINGS = b"gz bz2 xz zst lz4 lzma Z".lower().split()
_PACKED_TARS = (b".tgz", b".tbz", b".tbz2", b".txz", b".tzst", *(b".tar." + ending for ending in _PACKINGS))


def is_image(name: bytes) -> bool:
    """Whether a file of this name, or path, is an image by its ending."""
    _, dot, ending = name.rpartition(b".")
    return bool(dot) and ending.lower() in _IMAGES


def archive_kind(name: bytes) -> ArchiveKind | None:
    """Which kind of archive a file of this name, or path, is by its ending; None for anything else."""
    lower = name.lower()
    if lower.endswith(b".tar"):
        return "tar"
    if lower.endswith(_ZIPS):
        return "zip"
    return "packed" if lower.endswith(_PACKED_TARS) else None


def is_wanted_folder(name: bytes) -> bool:
    """Whether a folder of this name is looked into."""
    if name.startswith(b".") or name in _THUMBNAIL_FOLDERS:
        return False
    return not (name.endswith(b".download") and is_image(name.removesuffix(b".download")))


def is_passed_over(path: bytes) -> bool:
    """Whether a name of the path, or a folder on it, is passed over; `.` and `..` are no names here."""
    *folders, name = path.split(b"/")
    if name.startswith(b"."):
        return True
    return not all(is_wanted_folder(folder) for folder in folders if folder not in (b".", b".."))
