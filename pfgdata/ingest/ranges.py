"""A plan on disk, cut into ranges that anyone can do: whole archives, else groups of files.

plan.json comes last: a folder without it is no plan, and writing it again completes it. Each range is an
Arrow IPC file whose BLAKE3 is in plan.json, so that one can be handed on alone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from blake3 import blake3

from pfgdata.corpus import Segment, WalkOptions
from pfgdata.errors import ConfigError, StoreError, StoreFormatError
from pfgdata.files import Disk, canonical_json, explained, read_json
from pfgdata.ingest.begin import plan_for, without_store
from pfgdata.ingest.job import IngestJob, IngestOptions
from pfgdata.ingest.report import IngestReport
from pfgdata.ingest.tasks import Plan, unit_begins
from pfgdata.paths import in_the_way, place_of, plain_path
from pfgdata.records import NoProgress, Progress
from pfgdata.store import (
    Store,
    StoreIdentity,
    StoreWriter,
    identity_of,
    identity_record,
    installed_versions,
    moved_roots,
)

__all__ = [
    "RANGE_ROWS",
    "RangePlan",
    "cut",
    "plan_bytes",
    "plan_from",
    "plan_ranges",
    "require_no_plan",
    "this_version",
    "write_plan",
]

RANGE_ROWS = 2048  # images of a range: half an hour of a CPU tagger's, a minute of a GPU's
_LARGEST = 16  # a range is at most so many times as long, though an archive be longer
_FORMAT = 1
_FILE = "plan.json"
_AGAIN = "make the plan again"
_FOUND = ("found", "ignored", "links", "unchanged", "failed", "gone", "unreadable")  # of the report
_DECIDED = ("max_megapixels", "max_megabytes", "min_side", "max_aspect", "image_seconds", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class RangePlan:
    """A plan as plan.json has it."""

    path: Path
    id: str  # 12 hex digits
    store: Path  # where it was when the plan was made
    identity: StoreIdentity
    precision: Literal["float32", "float16"]
    version: str | None  # of pfg
    options: Mapping[str, Any]  # the fields of IngestOptions that the plan decides
    segments: tuple[
        Segment, ...
    ]  # what a task's number means: a root, where it is, whether links are followed
    found: Mapping[
        str, Any
    ]  # the counts of the whole plan's report, and how many images are to do as `tasks`
    rows: tuple[int, ...]  # of each range
    digests: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> RangePlan:
        """The plan in the folder `path`. Raises ConfigError where none is, StoreError if it is damaged."""
        try:
            value = read_json(path / _FILE, error=StoreError, advice=_AGAIN)
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(
                f"{path}: no plan is here; make one with: pfgdata ingest IMAGES --plan-out {path}"
            ) from None
        if value.get("format", 0) > _FORMAT:
            raise StoreFormatError(f"{path}: made by a newer pfg; upgrade this one")
        if "segments" not in value:
            raise StoreFormatError(f"{path / _FILE}: is of another kind; {_AGAIN}")
        return cls(
            path=path,
            id=value["id"],
            store=plain_path(Path(value["store"])),
            identity=identity_of(value["identity"], where=path / _FILE),
            precision=value["precision"],
            version=value["version"],
            options=value["options"],
            segments=tuple(_segment(one) for one in value["segments"]),
            found=value["found"],
            rows=tuple(value["rows"]),
            digests=tuple(value["digests"]),
        )

    def read(self, number: int) -> Plan:
        """The tasks of a range. Raises StoreError where its file is not as written."""
        path = _range_file(self.path, number)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise StoreError(f"{path}: is missing; {_AGAIN}") from None
        if blake3(data).hexdigest() != self.digests[number]:
            raise StoreError(f"{path}: its bytes are not those that were written; {_AGAIN}")
        return plan_from(data)

    def options_for(self, own: IngestOptions) -> IngestOptions:
        """`own` with what the plan decides."""
        decided: dict[str, Any] = {
            name: float("inf") if value is None else value for name, value in self.options.items()
        }
        return replace(own, **decided)

    def moved(self, moves: Sequence[tuple[str, str]]) -> RangePlan:
        """The plan where corpora lie elsewhere on this machine: pairs of root and place.

        Raises StoreError as `moved_roots` does.
        """
        places = {segment.root: str(segment.location) for segment in self.segments}
        for old, new in moves:
            places = moved_roots(places, old, new)
        here = (replace(segment, location=place_of(places[segment.root])) for segment in self.segments)
        return replace(self, segments=tuple(here))


def require_no_plan(path: Path) -> None:
    """Raise ConfigError where a plan cannot be written to the folder `path`."""
    if reason := in_the_way(path):
        raise ConfigError(reason)
    if path.is_dir() and any(one.name not in ("ranges",) for one in path.iterdir()):
        raise ConfigError(f"{path}: holds a plan or other files; name a new folder by --plan-out")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOut:
    """Where a plan goes, and how it is cut."""

    folder: Path
    rows: int = RANGE_ROWS


def write_plan(
    segments: Sequence[Segment],
    store: Store,
    job: IngestJob,
    *,
    out: PlanOut,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[RangePlan | None, IngestReport]:
    """Write what `ingest` would do for `job` to `out`, cut into ranges; nothing is tagged.

    New roots are put on record in the store, under its lock. No plan, where `stop` ended the walk. Raises
    ConfigError where the folder holds something, and what `ingest` does of the store.
    """
    progress = progress or NoProgress()
    require_no_plan(out.folder)
    with store.writer(wait=job.wait, progress=progress, stop=stop) as writer:
        return plan_ranges(writer, segments, job, out=out, progress=progress, stop=stop)


def plan_ranges(
    writer: StoreWriter,
    segments: Sequence[Segment],
    job: IngestJob,
    *,
    out: PlanOut,
    progress: Progress,
    stop: Callable[[], bool],
) -> tuple[RangePlan | None, IngestReport]:
    """As `write_plan`, for the holder of the store's lock, into a new folder."""
    store, folder = writer.store, out.folder
    segments = [without_store(segment, store.path) for segment in segments]
    report, start = IngestReport(), time.monotonic()
    batches = plan_for(writer, segments, options=job, report=report, progress=progress, stop=stop)
    ranges = _Ranges(Disk(), folder)
    with ranges:
        for part in cut(batches, rows=out.rows):
            ranges.add(part)
        report.shards = len(store.snapshot().shards)
        if report.interrupted:
            return None, report
        ranges.finish(
            {
                "version": this_version(),
                "store": str(store.path.resolve()),
                "identity": identity_record(store.identity),
                "precision": job.precision,
                "options": {name: _plain(getattr(job, name)) for name in _DECIDED},
                "segments": [_segment_record(one) for one in segments],
            },
            {name: getattr(report, name) for name in _FOUND},
        )
    report.seconds = time.monotonic() - start
    return RangePlan.open(folder), report


class _Ranges:
    """The files of a plan that is being written; those of one that is not finished are removed."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk, self._folder = disk, folder
        self._rows: list[int] = []
        self._digests: list[str] = []
        self._finished = False

    def __enter__(self) -> None:
        with explained(self._folder):
            self._disk.make_folder(self._folder / "ranges")

    def __exit__(self, *_: object) -> None:
        if self._finished:
            return
        with suppress(OSError):  # what cannot be removed is written over by the next plan
            for number in range(len(self._rows)):
                _range_file(self._folder, number).unlink()
            (self._folder / "ranges").rmdir()
            self._folder.rmdir()

    def add(self, part: Plan) -> None:
        """Write the next range."""
        data = plan_bytes(part)
        with explained(self._folder):
            self._disk.replace_file(_range_file(self._folder, len(self._rows)), data)
        self._rows.append(len(part))
        self._digests.append(blake3(data).hexdigest())

    def finish(self, facts: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Write plan.json, with `facts` and what was `found`: now it is a plan."""
        value = {
            **facts,
            "format": _FORMAT,
            "id": uuid.uuid4().hex[:12],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "found": {**found, "tasks": sum(self._rows)},
            "rows": self._rows,
            "digests": self._digests,
        }
        with explained(self._folder):
            self._disk.replace_file(self._folder / _FILE, canonical_json(value))
        self._finished = True


def cut(plan: Plan | Iterable[pa.RecordBatch], *, rows: int) -> Iterator[Plan]:
    """Slices of at most `rows` images; an archive is a slice of its own if it has more, and whole.

    Only one of more than 16 times as many is cut. Of batches that come one by one, a slice is held at a time.
    """
    held, start, before = Plan(), 0, None  # start: among the held, of the last file or archive
    for batch in plan.batches if isinstance(plan, Plan) else plan:
        begins, before = unit_begins(batch, before)
        known, first = len(held), 0
        held.add(batch)
        for end in [*(known + np.flatnonzero(begins)).tolist(), len(held)]:
            if end - first > rows and start > first:
                yield held[first:start]
                first = start
            while end - first > _LARGEST * rows:
                yield held[first : first + _LARGEST * rows]
                first += _LARGEST * rows
            if end < len(held):
                start = end
        held, start = held[first:], start - first
    if len(held):
        yield held


def plan_bytes(plan: Plan) -> bytes:
    """`plan` as an Arrow IPC file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, Plan.SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write(plan.as_batch())
    return sink.getvalue().to_pybytes()


def plan_from(data: bytes) -> Plan:
    """The plan whose `plan_bytes` are `data`."""
    plan = Plan()
    with pa.ipc.open_file(pa.BufferReader(data)) as file:
        for at in range(file.num_record_batches):
            plan.add(file.get_batch(at))
    return plan


def _range_file(folder: Path, number: int) -> Path:
    return folder / "ranges" / f"{number:05d}.arrow"


def this_version() -> str | None:
    """Of pfg, None where it runs from a checkout that is not installed."""
    return installed_versions(["pfg"])["pfg"]


def _plain(value: Any) -> Any:
    """As JSON has it, which has no infinity."""
    return None if value == float("inf") else value


def _segment_record(segment: Segment) -> dict[str, Any]:
    return {
        "root": segment.root,
        "location": str(segment.location),
        "follow_links": segment.options.follow_links,
    }


def _segment(record: Mapping[str, Any]) -> Segment:
    return Segment(
        root=record["root"],
        location=place_of(record["location"]),
        options=WalkOptions(follow_links=record["follow_links"]),
    )
