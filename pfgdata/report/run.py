"""Gathers a report: one session for what is asked, one reading of all rows, the records of the shards."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.query import Question, Session
from pfgdata.records import NoProgress, Progress, Selection, during
from pfgdata.report.columns import column_figures
from pfgdata.report.figures import Counted, FailureFigures, NearCopies, StoreReport, TagFigures
from pfgdata.report.ingests import ingest_figures
from pfgdata.report.near import near_copies
from pfgdata.report.pictures import Shelf, chosen_places, stored_names
from pfgdata.report.rows import Reading
from pfgdata.similarity import DuplicateOptions
from pfgdata.store import KEY_COLUMNS, Snapshot, Store, keys_of

__all__ = ["ReportOptions", "report_store"]

_TAGS = 40  # shown of each kind
_AGAIN = 8
_NUMBER = re.compile(r"\d[\d,.]*\d|\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """How many pictures a report opens with; `duplicates`: search near copies too, which reads pictures."""

    pictures: int = 24
    duplicates: bool = False


def report_store(
    store: Store,
    session: Session,
    question: Question,
    *,
    options: ReportOptions,
    now: datetime,
    progress: Progress | None = None,
) -> StoreReport:
    """What there is to say of the rows that `question` asks for, and of the store's failures and ingests.

    Some 100 bytes a row are in memory, and the lists of one shard. Raises QueryError as the session does.
    """
    begun, progress = time.perf_counter(), progress or NoProgress()
    snapshot, thresholds = session.snapshot, session.thresholds
    whole = question == Question()
    with during(progress, "ask", total=2, unit="questions"):
        rows = snapshot.everything if whole else session.select(question)
        progress.advance()
        tags = session.counts(None if whole else question)
        progress.advance()
    reading = Reading(snapshot.vocabulary, thresholds)
    reading.read(snapshot, rows, progress)
    general, characters = (_tag_figures(tags, kind) for kind in ("general", "character"))
    named = tags.filter(pc.equal(tags["kind"], "character"))
    images = dict(zip(named["tag"].to_pylist(), named["count"].to_pylist(), strict=True))
    shelf = Shelf(
        snapshot=snapshot,
        rows=rows,
        roots=store.roots(),
        characters={place: name for name, (_, place) in reading.best.items()},
    )
    places = chosen_places(reading.best, images, rows=len(rows), most=options.pictures)
    examples, missed = shelf.examples(places, options.pictures, progress)
    contents, again = _again(snapshot, rows)
    return StoreReport(
        store=store.path.name,
        created=now.isoformat(timespec="seconds"),
        where=question.words,
        thresholds=asdict(thresholds),
        score_floor=snapshot.score_floor,
        tagger=store.identity.tagger.as_dict(),
        images=len(rows),
        total=snapshot.num_images,
        contents=contents,
        again=again,
        shards=len(snapshot.shards),
        store_bytes=_store_bytes(snapshot),
        rows=reading.figures(),
        general=general,
        characters=characters,
        images_per_character=list(images.values()),
        failures=_failures(snapshot),
        columns=column_figures(store, snapshot, rows, progress),
        ingests=ingest_figures(snapshot.present),
        near=_near(store, shelf, session, options, progress),
        examples=list(examples.values()),
        examples_not_read=missed,
        seconds=round(time.perf_counter() - begun, 3),
    )


def _tag_figures(tags: pa.Table, kind: str) -> TagFigures:
    mine = tags.filter(pc.equal(tags["kind"], kind))
    top = mine.slice(0, _TAGS).select(["tag", "count"]).to_pylist()
    return TagFigures(different=len(mine), top=[Counted(name=one["tag"], count=one["count"]) for one in top])


def _again(snapshot: Snapshot, rows: Selection) -> tuple[int, list[Counted]]:
    """How many distinct contents there are, and the files whose bytes are there most often."""
    halves = np.ascontiguousarray(rows.content_ids).view(np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # twice as fast as sorting 16 bytes as one value
    new = np.any(np.diff(halves[order], axis=0, prepend=~halves[order][:1]) != 0, axis=1)
    starts = np.flatnonzero(new)
    counts = np.diff([*starts, len(order)])
    most = [one for one in np.argsort(-counts, kind="stable")[:_AGAIN] if counts[one] > 1]
    names = stored_names(snapshot, rows.take(order[starts[most]]))
    return len(starts), [
        Counted(name=name, count=int(counts[one])) for name, one in zip(names, most, strict=True)
    ]


def _failures(snapshot: Snapshot) -> list[FailureFigures]:
    """By kind and reason, most first; numbers in a reason tell one image, not why."""
    table = snapshot.failures(["kind", "reason", *KEY_COLUMNS])
    kinds, reasons = table["kind"].to_pylist(), table["reason"].to_pylist()
    found, first = Counter[tuple[str, str]](), dict[tuple[str, str], int]()
    for row, (kind, reason) in enumerate(zip(kinds, reasons, strict=True)):
        key = (kind, _NUMBER.sub("…", reason))
        found[key] += 1
        first.setdefault(key, row)
    rows = [first[key] for key, _ in found.most_common()]
    names = [key.name for key in keys_of(table.take(pa.array(rows, pa.int64())))]
    return [
        FailureFigures(kind=kind, reason=reason, count=count, example=name)
        for ((kind, reason), count), name in zip(found.most_common(), names, strict=True)
    ]


def _store_bytes(snapshot: Snapshot) -> dict[str, int]:
    """Bytes of the shards that readers see, by file: scores, features, failures."""
    sizes = Counter[str]()
    for view in snapshot.shards:
        sizes.update({name: file["size"] for name, file in view.meta.files.items()})
    return dict(sorted(sizes.items()))


def _near(
    store: Store, shelf: Shelf, session: Session, options: ReportOptions, progress: Progress
) -> NearCopies | None:
    if not options.duplicates:
        return None
    found = DuplicateOptions(
        least=session.thresholds.least(session.snapshot.vocabulary),
        decided=store.verdicts(),
    )
    return near_copies(shelf, found, progress)
