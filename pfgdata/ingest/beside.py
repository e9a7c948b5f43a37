"""Where the files beside a store's images lie: the folders and archives that hold its rows, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pfgdata.corpus import Segment
from pfgdata.records import ImageKey, shown
from pfgdata.store import keys_of

__all__ = ["Folder", "folders_under", "segment_of"]


@dataclass(slots=True, kw_only=True)
class Folder:
    """The store's images in one folder or archive: their names, and their numbers in the stable order."""

    segment: Segment
    path: bytes  # of a folder "" or ending in /, else of an archive
    images: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def _is_archive(self) -> bool:
        return bool(self.path) and not self.path.endswith(b"/")

    def key(self, name: bytes) -> ImageKey:
        """The key of a file in it."""
        if self._is_archive:
            return ImageKey(root=self.segment.root, path=self.path, member=name)
        return ImageKey(root=self.segment.root, path=self.path + name)

    def shown(self, name: bytes | None = None) -> str:
        """Where it, or a file in it, is now."""
        folder = f"{self.segment.location}/{shown(self.path)}".rstrip("/")
        return folder if name is None else f"{folder}{'!' if self._is_archive else '/'}{shown(name)}"


def folders_under(rows: pa.Table, segments: Sequence[Segment]) -> list[Folder]:
    """The folders and archives that hold the images of `rows` under `segments`."""
    folders: dict[tuple[str, bytes], Folder] = {}
    for number, key in enumerate(keys_of(rows)):
        segment = segment_of(key, segments)
        if segment is None:
            continue
        at = key.path.rfind(b"/") + 1
        path, name = (key.path[:at], key.path[at:]) if key.member is None else (key.path, key.member)
        if (key.root, path) not in folders:
            folders[key.root, path] = Folder(segment=segment, path=path)
        folders[key.root, path].images.append((number, name))
    return list(folders.values())


def segment_of(key: ImageKey, segments: Sequence[Segment]) -> Segment | None:
    """The segment that the image belongs to."""
    return next((segment for segment in segments if segment.covers(key)), None)
