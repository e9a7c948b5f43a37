"""How every ingest begins: the tagger is the store's, roots are on record, the walk becomes a plan."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from pfgdata.corpus import Segment
from pfgdata.errors import IdentityError, StoreError
from pfgdata.ingest.job import IngestOptions
from pfgdata.ingest.plan import Planning, plan_batches
from pfgdata.ingest.report import IngestReport
from pfgdata.paths import Url
from pfgdata.records import Progress
from pfgdata.store import ShardContents, Store, StoreWriter, require_same_tagger
from pfgdata.taggers import Tagger

__all__ = ["plan_for", "require_fit", "without_store"]


def plan_for(
    writer: StoreWriter,
    segments: Sequence[Segment],
    *,
    options: IngestOptions,
    report: IngestReport,
    progress: Progress,
    stop: Callable[[], bool],
) -> Iterator[pa.RecordBatch]:
    """What there is to do, as `plan_batches` says; new roots are committed first, what is stale in the end.

    Raises StoreError where another ingest has added roots since the segments were planned.
    """
    store = writer.store
    _add_roots(writer, segments)
    planning = Planning(options, report, [])
    yield from plan_batches(segments, store.snapshot(), planning, progress=progress, stop=stop)
    if planning.stale:
        width = store.identity.feature_dim
        what = "archives listed again"
        writer.commit(ShardContents.hiding(planning.stale, feature_dim=width, what=what))


def require_fit(store: Store, tagger: Tagger) -> None:
    """Raise IdentityError unless the tagger's scores and features mean what the store's do."""
    require_same_tagger(store.identity.tagger, tagger.identity, where=str(store.path))
    ours = (tagger.vocabulary.digest, tagger.feature_dim)
    if ours != (store.identity.vocabulary_digest, store.identity.feature_dim):
        raise IdentityError(
            f"{store.path} is of another vocabulary or feature width than tagger {tagger.identity.name} has; "
            "restore the selected_tags.csv it was made with, or use another store"
        )


def without_store(segment: Segment, store: Path) -> Segment:
    """The segment without the store itself, which may lie inside the corpus."""
    if isinstance(segment.location, Url):
        place, root = re.sub(r"^(\w+):/+", r"\1://", str(store)), segment.location.text
    else:
        place, root = os.path.realpath(store), os.path.realpath(segment.location)
    if not place.startswith(f"{root.rstrip('/')}/"):
        return segment
    return replace(segment, exclude=segment.exclude | {os.fsencode(place[len(root.rstrip("/")) + 1 :])})


def _add_roots(writer: StoreWriter, segments: Sequence[Segment]) -> None:
    """Put roots seen for the first time on record, before any row names them.

    Raises StoreError where another ingest has added roots since the segments were planned: the longest known
    root names a row, so these segments would give images a second key.
    """
    known, ours = writer.store.roots(), {segment.root for segment in segments}
    for root, place in known.items():
        for segment in segments:
            base = f"{str(segment.location).rstrip('/')}/"
            inside = root not in ours and place.startswith(base)
            outside = segment.root not in known and base.startswith(f"{place.rstrip('/')}/")
            if outside or (inside and os.fsencode(place[len(base) :]) not in segment.exclude):
                raise StoreError(f"{writer.store.path}: root {root} was added meanwhile; run the same again")
    fresh = {segment.root: str(segment.location) for segment in segments if segment.root not in known}
    if fresh:
        writer.set_roots({**known, **fresh})
