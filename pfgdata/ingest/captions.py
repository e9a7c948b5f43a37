"""Captions beside images into the store: the column `captions`, one text an image.

They are read again each time, folder by folder: a listing a folder, an open file a caption. Nothing is
written where nothing has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from pfgdata.corpus import Segment, read_caption
from pfgdata.errors import AccessError, ImageError, StoreError
from pfgdata.ingest.beside import Folder, folders_of, segment_of
from pfgdata.records import ImageKey, NoProgress, Progress, during
from pfgdata.store import KEY_COLUMNS, Store, StoreWriter, keys_of, stable_order

__all__ = ["CAPTIONS", "CaptionsReport", "write_captions"]

CAPTIONS = "captions"  # the column; its values are text

_VALUE = "value"
_TEXT, _BYTES = pa.string(), pa.binary()
_TYPES = {"root": _TEXT, "path": _TEXT, "member": _TEXT, "path_bytes": _BYTES, "member_bytes": _BYTES}
_SCHEMA = pa.schema([*((name, _TYPES[name]) for name in KEY_COLUMNS), (_VALUE, _TEXT)])  # as a store keeps it


@dataclass(slots=True, kw_only=True)
class CaptionsReport:
    """What was found beside the images of the store: images looked at = captions + without."""

    captions: int = 0  # images that have one, be it empty, or keep that of an earlier run
    without: int = 0
    orphans: list[str] = field(default_factory=list)  # captions of no picture, beside images of the store
    warnings: list[tuple[str, str]] = field(default_factory=list)  # a file or folder, why it gave none

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def write_captions(
    store: Store, segments: Sequence[Segment], *, wait: bool = False, progress: Progress | None = None
) -> CaptionsReport:
    """Read the captions beside the store's images under `segments` into the column `captions`.

    Images elsewhere keep the captions they had, and so does one whose caption could not be read this time;
    one whose caption is gone or unusable has none. Some 300 bytes an image are held, and its text. Raises
    StoreError where a column of that name was not made here, StoreLockedError while another process writes,
    unless `wait`. The lock is held throughout: what another run adds meanwhile would be lost.
    """
    with store.writer(wait=wait, progress=progress) as writer:
        return _write_captions(writer, segments, progress or NoProgress())


def _write_captions(writer: StoreWriter, segments: Sequence[Segment], progress: Progress) -> CaptionsReport:
    store, report = writer.store, CaptionsReport()
    before = _Before(store)
    folders, rows = folders_of(store, segments)
    texts: dict[int, str] = {}
    with during(progress, CAPTIONS, total=sum(len(folder.images) for folder in folders), brief=False):
        for folder in folders:
            texts |= _read_folder(folder, before, report)
            progress.advance(len(folder.images))
    report.captions = len(texts)
    report.without = sum(len(folder.images) for folder in folders) - len(texts)
    table = _table(rows, texts, before.elsewhere(segments))
    if not table.equals(before.table):
        writer.write_column(CAPTIONS, table, replace=True)
    return report


class _Before:
    """The captions of earlier runs."""

    def __init__(self, store: Store) -> None:
        self.table = _SCHEMA.empty_table()
        if CAPTIONS not in store.columns():
            return
        table = store.read_column(CAPTIONS)
        if table.schema.remove_metadata() != _SCHEMA:
            raise StoreError(
                f"{store.path}: its column {CAPTIONS} was not made from files beside images; write it under "
                f"another name and remove {CAPTIONS}.json and {CAPTIONS}.parquet from {store.path}/columns"
            )
        self.table = table

    @cached_property
    def _texts(self) -> dict[ImageKey, str]:
        return dict(zip(keys_of(self.table), self.table[_VALUE].to_pylist(), strict=True))

    def of(self, folder: Folder, images: Sequence[tuple[int, bytes]]) -> dict[int, str]:
        """What the images of a folder had, by their number."""
        texts = {number: self._texts.get(folder.key(name)) for number, name in images}
        return {number: text for number, text in texts.items() if text is not None}

    def elsewhere(self, segments: Sequence[Segment]) -> pa.Table:
        """The captions of images that `segments` do not cover."""
        apart = (segment_of(key, segments) is None for key in keys_of(self.table))
        return self.table.filter(pa.array(apart, pa.bool_()))


def _read_folder(folder: Folder, before: _Before, report: CaptionsReport) -> dict[int, str]:
    """The captions of a folder's images by their number; each file is read once, whoever share it."""
    try:
        sidecars = folder.sidecars()
    except ImageError as problem:
        report.warnings.append((folder.shown(), str(problem)))
        return before.of(folder, folder.images)
    report.orphans += [folder.shown(name) for name in sidecars.orphans]
    if sidecars.problem:
        report.warnings.append((folder.shown(), sidecars.problem))
    texts: dict[int, str] = {}
    for name, images in folder.owners(sidecars.of).items():
        if name is None:
            if sidecars.problem:  # of an archive: a caption that is not there may only be lost
                texts |= before.of(folder, images)
            continue
        try:
            text = read_caption(folder.segment.location, folder.key(name), follow_links=folder.follow_links)
            texts |= dict.fromkeys((number for number, _ in images), text)
        except ImageError as problem:
            report.warnings.append((folder.shown(name), str(problem)))
            if isinstance(problem, AccessError):
                texts |= before.of(folder, images)
    return texts


def _table(rows: pa.Table, texts: dict[int, str], elsewhere: pa.Table) -> pa.Table:
    """The column: the rows that have a text, and those of elsewhere, in the stable order."""
    numbers = sorted(texts)
    ours = rows.take(pa.array(numbers, pa.int64()))
    ours = ours.append_column(_VALUE, pa.array([texts[number] for number in numbers], pa.string()))
    table = pa.concat_tables([ours.cast(_SCHEMA), elsewhere])
    return table.take(stable_order(table))
