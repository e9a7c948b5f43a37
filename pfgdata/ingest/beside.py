"""Where the files beside a store's images lie: the folders and archives that hold its rows, one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pfgdata.corpus import Segment, Sidecars, list_sidecars
from pfgdata.records import ImageKey, shown
from pfgdata.store import KEY_COLUMNS, Store, keys_of, stable_order

__all__ = ["Folder", "folders_of", "segment_of"]

Image = tuple[int, bytes]  # its number in the stable order, its name in the folder


@dataclass(slots=True, kw_only=True)
class Folder:
    """The store's images in one folder or archive: their names, and their numbers in the stable order."""

    segment: Segment
    path: bytes  # of a folder "" or ending in /, else of an archive
    images: list[Image] = field(default_factory=list)

    @property
    def follow_links(self) -> bool:
        """Whether links in it are followed."""
        return self.segment.options.follow_links

    def sidecars(self) -> Sidecars:
        """What lies beside its images. Raises ImageError where it cannot be listed."""
        return list_sidecars(self.segment.location, self.path, follow_links=self.follow_links)

    def owners(self, sidecar_of: Callable[[bytes], bytes | None]) -> dict[bytes | None, list[Image]]:
        """Which of its images share a sidecar, by the name that `sidecar_of` gives; None: those without."""
        owners: dict[bytes | None, list[Image]] = {}
        for number, name in self.images:
            owners.setdefault(sidecar_of(name), []).append((number, name))
        return owners

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


def folders_of(store: Store, segments: Sequence[Segment]) -> tuple[list[Folder], pa.Table]:
    """The folders and archives that hold the store's images under `segments`.

    And the keys of all its images in the stable order, where the numbers of the folders' images count.
    """
    rows = store.snapshot().images(KEY_COLUMNS).select(list(KEY_COLUMNS))
    rows = rows.take(stable_order(rows))
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
    return list(folders.values()), rows


def segment_of(key: ImageKey, segments: Sequence[Segment]) -> Segment | None:
    """The segment that the image belongs to."""
    return next((segment for segment in segments if segment.covers(key)), None)
