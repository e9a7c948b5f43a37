"""Before an ingest: the tagger that fits a store, and the store that fits a tagger."""

from __future__ import annotations

from pathlib import Path

from pfgdata.errors import NoStoreError
from pfgdata.images import RECIPES
from pfgdata.store import Store, StoreIdentity
from pfgdata.taggers import DEFAULT_TAGGER, OnnxTagger, Tagger

__all__ = ["open_or_create", "open_or_none", "tagger_for"]


def open_or_none(path: Path) -> Store | None:
    """The store at `path`, or None where there is none; a damaged or newer one still raises."""
    try:
        return Store.open(path)
    except NoStoreError:
        return None


def tagger_for(store: Store | None, *, name: str | None, recipe: str | None) -> OnnxTagger:
    """The tagger called `name`; without a name the store's own, or the default one for a new store.

    Raises ModelNotFoundError, GraphError and VocabularyError as `OnnxTagger.load` does.
    """
    if store is None:
        return OnnxTagger.load(name or DEFAULT_TAGGER, recipe=recipe or RECIPES[0])
    own = store.identity.tagger
    revision = own.revision if name is None else None
    return OnnxTagger.load(name or own.name, recipe=recipe or own.recipe, revision=revision)


def open_or_create(path: Path, tagger: Tagger) -> Store:
    """The store at `path`, made for `tagger` if there is none."""
    identity = StoreIdentity(
        tagger=tagger.identity,
        vocabulary_digest=tagger.vocabulary.digest,
        feature_dim=tagger.feature_dim,
    )
    store = open_or_none(path)
    return store or Store.create(path, identity=identity, vocabulary=tagger.vocabulary)
