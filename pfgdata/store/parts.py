"""Parts: shards made without the store's lock, by anyone and anywhere, until the lock's holder adopts them.

A part is a shard folder whose shard.json says of which store, plan and images it is. It is named by those, so
that who makes it again finds it. What it hides is decided when it is adopted: who makes it cannot know.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pfgdata.errors import CorruptShardError, StoreError
from pfgdata.files import TEMPORARY, Disk, canonical_json, disk_at, explained
from pfgdata.store.contents import Shadow, ShardContents, shadows_table
from pfgdata.store.identity import StoreIdentity, identity_of, identity_record
from pfgdata.store.layout import FAILURES_SCHEMA, FORMAT, IMAGES_SCHEMA, PLANNED_SCHEMA, read_record
from pfgdata.store.shards import (
    ShardDraft,
    ShardMeta,
    adopt_shard,
    map_array,
    read_meta,
    reading,
    require_undamaged,
    write_shard,
)

__all__ = [
    "Part",
    "PartWriter",
    "Span",
    "adopt_part",
    "adopted_spans",
    "announce_plan",
    "is_announced",
    "list_parts",
    "orphans",
    "retire_part",
    "whole_spans",
    "withdraw_plan",
]

_NAME = re.compile(r"([0-9a-f]{12})-(\d{5,})-(\d{8,})")
_AGAIN = "make it again by the command that made it"
_PLANNED = "planned"
_SIGN = "-under-way.json"


class Span(NamedTuple):
    """The images `start` to `stop` of the range `number` of a plan."""

    plan: str  # 12 hex digits
    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Of the part that brings them; names sort as the images do."""
        return f"{self.plan}-{self.number:05d}-{self.start:08d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part as its shard.json describes it."""

    path: Path
    span: Span
    identity: StoreIdentity
    unchanged: int  # images of the span that are what their row says
    failed: int  # of the span, those on record already too
    plan: Mapping[str, Any]  # what the whole plan found
    meta: ShardMeta
    disk: Disk

    @classmethod
    def read(cls, disk: Disk, path: Path) -> Part:
        """Raises CorruptShardError where it is damaged, StoreFormatError where a newer pfgdata wrote it."""
        meta = read_meta(disk, path, advice=_AGAIN)
        try:
            facts = meta.facts
            return cls(
                path=path,
                span=Span(*facts["span"]),
                identity=identity_of(facts["identity"], where=path),
                unchanged=facts["unchanged"],
                failed=facts["failed"],
                plan=facts["plan"],
                meta=meta,
                disk=disk,
            )
        except (KeyError, TypeError):
            raise CorruptShardError(f"{path}: is no part, but a shard; name a folder of parts") from None

    @property
    def bytes(self) -> int:
        """Of its files."""
        return sum(file["size"] for file in self.meta.files.values())

    def require_whole(self) -> None:
        """Raise CorruptShardError unless every byte is as written, FileNotFoundError where it is gone."""
        try:
            require_undamaged(self.disk, self.path, self.meta, advice=_AGAIN)
        except StoreError:
            if self.is_gone:
                raise FileNotFoundError(self.path) from None
            raise

    @property
    def is_gone(self) -> bool:
        """Whether it was adopted or thrown away since it was read: who makes it again does that too."""
        return not self.disk.is_folder(self.path)

    def images(self, columns: Sequence[str]) -> pa.Table:
        """`columns` of IMAGES_SCHEMA of its rows."""
        return self._read("images", pa.schema([IMAGES_SCHEMA.field(name) for name in columns]))

    def features(self) -> npt.NDArray[np.float16]:
        """The features of its rows, float16 [N, F], mapped from disk."""
        if "feature" not in self.meta.arrays:
            return np.empty((0, self.identity.feature_dim), np.float16)
        return map_array(self.disk, self.path, self.meta, "feature")

    def failures(self) -> pa.Table:
        """Its failures, as FAILURES_SCHEMA."""
        return self._read("failures", FAILURES_SCHEMA)

    def planned(self) -> pa.Table:
        """What the plan saw under each key, as PLANNED_SCHEMA: of the images, then of the failures."""
        return self._read(_PLANNED, PLANNED_SCHEMA)

    def _read(self, table: str, schema: pa.Schema) -> pa.Table:
        if table not in self.meta.tables:
            return schema.empty_table()
        with reading(self.disk, self.path / f"{table}.parquet") as local:
            return pq.read_table(local, columns=schema.names, use_threads=False).cast(schema)


class PartWriter:
    """Writes parts into one folder, without a lock: who else writes there makes others, or the same ones."""

    def __init__(self, folder: Path, identity: StoreIdentity, *, disk: Disk | None = None) -> None:
        """For a store of that identity; `disk` is that of `folder`."""
        self.folder = folder
        self._identity = identity
        self.disk = disk or disk_at(folder)
        with explained(folder):
            self.disk.make_folder(folder)

    def write(
        self, span: Span, contents: ShardContents, *, planned: pa.Table, facts: Mapping[str, Any]
    ) -> None:
        """Write the part that brings `span`, durably; `facts` are its `unchanged`, `failed` and `plan`.

        One of that name stays if it is whole and brings as much: another process has made it then.
        """
        draft = ShardDraft(
            tables={"images": contents.images, "failures": contents.failures, _PLANNED: planned},
            arrays={"feature": contents.features},
            facts={"span": list(span), "identity": identity_record(self._identity), **facts},
            writer=contents.writer,
            id=span.name,
        )
        with explained(self.folder):
            if self._is_brought(span):
                return
            with suppress(FileNotFoundError):
                self.disk.remove_folder(self.folder / span.name)
            try:
                write_shard(self.disk, self.folder, draft)
            except OSError as problem:
                if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else another process was first, just now

    def receive(self, name: str, files: Mapping[str, bytes]) -> Path:
        """Put a part that was written elsewhere here, durably, as `hand_over` gave it; where it is.

        Whether it is whole is not asked. One of that name stays if it is.
        """
        if _NAME.fullmatch(name) is None or any("/" in file for file in files):
            raise CorruptShardError(f"{name!r}: is no part")
        path = self.folder / name
        with explained(self.folder):
            with suppress(CorruptShardError, FileNotFoundError):
                Part.read(self.disk, path).require_whole()
                return path
            with suppress(FileNotFoundError):
                self.disk.remove_folder(path)
            fresh = self.disk.temporary(self.folder)
            try:
                for file, data in files.items():
                    (fresh / file).write_bytes(data)
                self.disk.commit_folder(fresh, path)
            except BaseException:
                self.disk.discard(fresh)
                raise
        return path

    def hand_over(self, name: str) -> dict[str, bytes]:
        """The files of a part by their names, for `receive`; it is no longer here then."""
        path = self.folder / name
        with explained(self.folder):
            files = {file: self.disk.read(path / file) for file in self.disk.names(path)}
            self.disk.remove_folder(path)
        return files

    def _is_brought(self, span: Span) -> bool:
        try:
            part = Part.read(self.disk, self.folder / span.name)
            part.require_whole()
        except (CorruptShardError, FileNotFoundError):
            return False
        return part.span.stop >= span.stop


def announce_plan(disk: Disk, folder: Path, plan: str) -> None:
    """Leave a sign in the store's folder of parts: who sees it there sees the store that a plan is for."""
    if not disk.is_folder(folder):
        disk.make_folder(folder)
    disk.replace_file(folder / f"{plan}{_SIGN}", canonical_json({"format": FORMAT}))


def is_announced(disk: Disk, folder: Path, plan: str) -> bool:
    """Whether the sign of a plan is here."""
    return disk.is_file(folder / f"{plan}{_SIGN}")


def withdraw_plan(disk: Disk, folder: Path, plan: str) -> None:
    """Take the sign away."""
    with suppress(FileNotFoundError):
        disk.unlink(folder / f"{plan}{_SIGN}")


def list_parts(disk: Disk, folder: Path, *, plan: str | None = None) -> list[Path]:
    """The parts in `folder`, of `plan` if given, in the order of their images; damaged ones too."""
    if not disk.is_folder(folder):
        return []
    found = (name for name in disk.names(folder) if _NAME.fullmatch(name) and disk.is_folder(folder / name))
    return [folder / name for name in sorted(found) if plan is None or name.startswith(f"{plan}-")]


def whole_spans(
    disk: Disk, folder: Path, *, plan: str, numbers: Collection[int]
) -> tuple[list[Span], list[str]]:
    """What the parts of some ranges of a plan in `folder` bring, every byte looked at; why others do not."""
    spans, damaged = list[Span](), list[str]()
    for path in list_parts(disk, folder, plan=plan):
        if int(path.name.split("-")[1]) not in numbers:
            continue
        try:
            part = Part.read(disk, path)
            part.require_whole()
            spans.append(part.span)
        except FileNotFoundError:  # adopted meanwhile
            continue
        except CorruptShardError as problem:
            if disk.is_folder(path):
                damaged.append(str(problem))
    return spans, damaged


def adopt_part(
    disk: Disk,
    shard: Path,
    part: Part,
    *,
    shadows: Sequence[Shadow],
    without: Mapping[str, Iterable[int]],
    copy: bool,
) -> ShardMeta:
    """Commit the rows of a part as the new `shard`; `without` names rows of its own to hide.

    With `copy` the shard shares no bytes with the part, which others may write over.

    Raises CorruptShardError, naming the part, unless every byte of it is as written.
    """
    meta = part.meta
    kept = replace(
        meta,
        files={name: seal for name, seal in meta.files.items() if name != f"{_PLANNED}.parquet"},
        tables={stem: rows for stem, rows in meta.tables.items() if stem != _PLANNED},
    )
    own = [Shadow(shard.name, table, int(row)) for table, rows in without.items() for row in rows]
    draft = ShardDraft(
        tables={"shadows": shadows_table((*shadows, *own))},
        writer={**meta.writer, "part": part.path.name, "made": meta.created},
        id=shard.name,
    )
    try:
        return adopt_shard(disk, shard.parent, draft, source=part.path, meta=kept, copy=copy)
    except CorruptShardError as problem:
        raise CorruptShardError(f"{problem}; {_AGAIN}") from problem


def retire_part(disk: Disk, folder: Path, part: Part, *, shard: str | None) -> None:
    """Put on record in `folder`, the store's own, that a part has been adopted; there it is removed.

    `shard` is its id since, None where it brought no row.
    """
    record = {"format": FORMAT, "span": list(part.span), "failed": part.failed, "shard": shard}
    if not disk.is_folder(folder):
        disk.make_folder(folder)
    disk.replace_file(folder / f"{part.path.name}.json", canonical_json(record))
    if part.path.parent == folder:
        disk.remove_folder(part.path)


def adopted_spans(disk: Disk, folder: Path, *, plan: str | None = None) -> list[tuple[Span, int]]:
    """What was adopted before, of `plan` if given, and how many images of each failed."""
    names = sorted(disk.names(folder)) if disk.is_folder(folder) else []
    found = []
    for name in names:
        stem = name.removesuffix(".json")
        if stem != name and _NAME.fullmatch(stem) and (plan is None or name.startswith(f"{plan}-")):
            record = read_record(
                disk, folder / name, error=CorruptShardError, advice="delete it: it only tells of the past"
            )
            found.append((Span(*record["span"]), int(record["failed"])))
    return found


def orphans(disk: Disk, folder: Path, *, before: float) -> list[Path]:
    """What in the store's folder of parts nobody will adopt: all of a plan of which nothing has come since.

    `before` is in Unix time. What a maker that died left unfinished goes by its own age.
    """
    ages: dict[str, list[tuple[float, Path]]] = {}
    for name in sorted(disk.names(folder)) if disk.is_folder(folder) else []:
        with suppress(FileNotFoundError):  # finished meanwhile
            group = name if name.startswith(TEMPORARY) else name.partition("-")[0]
            ages.setdefault(group, []).append((disk.modified(folder / name), folder / name))
    old = (group for group in ages.values() if max(age for age, _ in group) < before)
    return [path for group in old for _, path in group]
