"""Before an ingest: the tagger that fits a store, and the store that fits a tagger."""

from __future__ import annotations

import time
from pathlib import Path

from pfgdata.conventions import Convention
from pfgdata.errors import NoStoreError, StoreError, StoreLockedError
from pfgdata.ingest.job import IngestJob
from pfgdata.ingest.ranges import RangePlan
from pfgdata.store import Store, StoreIdentity
from pfgdata.taggers import DEFAULT_TAGGER, OnnxTagger, Tagger, convention_named

__all__ = ["open_or_create", "open_or_none", "tagger_for"]

_ASK_AGAIN = 0.2  # seconds between two looks at a store that another process makes: it takes no longer


def open_or_none(path: Path) -> Store | None:
    """The store at `path`, or None where there is none; a damaged or newer one still raises."""
    try:
        return Store.open(path)
    except NoStoreError:
        return None


def tagger_for(store: Store | RangePlan | None, job: IngestJob, *, threads: int | None = None) -> OnnxTagger:
    """The tagger that `job` names; without a name the store's or plan's own, or the default one.

    `threads` are those of one operator on a CPU, all cores if None. Raises what `OnnxTagger.load` does.
    """
    own = store.identity.tagger if store else None
    return OnnxTagger.load(
        job.tagger or (own.name if own else DEFAULT_TAGGER),
        preprocess=_asked(job, own.preprocess if own else None),
        revision=own.revision if own and job.tagger is None else None,
        device=job.device,
        precision=job.precision,
        threads=threads,
    )


def _asked(job: IngestJob, own: str | None) -> str | Convention | None:
    """How to load the tagger: by the convention that `job` names, with its square, or the store's own."""
    if job.convention is not None:
        named = convention_named(job.convention)
        return named.with_square(job.preprocess) if job.preprocess else named
    if job.preprocess is not None or own is None:
        return job.preprocess
    return Convention.of(own)


def open_or_create(path: Path, tagger: Tagger, *, wait: bool = False) -> Store:
    """The store at `path`, made for `tagger` if there is none.

    Raises StoreLockedError while another process makes it, unless `wait`.
    """
    identity = StoreIdentity(
        tagger=tagger.identity,
        vocabulary_digest=tagger.vocabulary.digest,
        feature_dim=tagger.feature_dim,
    )
    while (store := open_or_none(path)) is None:
        try:
            return Store.create(path, identity=identity, vocabulary=tagger.vocabulary)
        except StoreError as problem:
            if open_or_none(path) is None:  # else another process has just made it
                if not (wait and isinstance(problem, StoreLockedError)):
                    raise
                time.sleep(_ASK_AGAIN)
    return store
