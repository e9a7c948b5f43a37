"""What a page asks first: how large the store is, what can be asked of it, which selections it has."""

from __future__ import annotations

from typing import Any

from pfgdata.errors import PfgError
from pfgdata.query import COLUMNS, Session
from pfgdata.store import Store, feature_labels
from pfgdata.web.ask import shell_word
from pfgdata.web.desk import Desk

__all__ = ["about_store", "own_types"]

_COUNTED = 50  # selections whose images are counted; each is a question
_NUMBERS = {"size", "mtime_ns", "width", "height", "frames", "phash", "character_score", "row"}
_TYPES = {**dict.fromkeys(_NUMBERS, "number"), "tags": "list", "characters": "list"}
_FACETS = {
    "rating": "values",
    "character": "values",
    "tags": "values",
    "size": "ranges",
    "bucket": "values",
    "format": "values",
}


def about_store(desk: Desk) -> dict[str, Any]:
    """The answer of /api/store: see docs/browse.md."""
    store, shown, usual = desk.store, desk.shown, desk.options.thresholds
    vocabulary, own = shown.snapshot.vocabulary, own_types(store)
    path = store.path.absolute()
    facets = {name: kind for name, kind in _FACETS.items() if name != "rating" or len(vocabulary.rating_ids)}
    return {
        "name": path.name,
        "path": str(path),
        "command_store": shell_word(str(store.path)),
        "images": shown.snapshot.num_images,
        "tagger": store.identity.tagger.name,
        "features": feature_labels(store),
        "version": shown.version,
        "thresholds": {
            "general": usual.general,
            "character": usual.character,
            "floor": shown.snapshot.score_floor,
        },
        "facets": [
            *({"name": name, "kind": kind} for name, kind in facets.items()),
            *(
                {"name": name, "kind": kind}
                for name, (_, kind) in own.items()
                if kind and name not in _FACETS
            ),
        ],
        "columns": [
            *({"name": name, "type": _TYPES.get(name, "text"), "own": False} for name in COLUMNS),
            *({"name": name, "type": text, "own": True} for name, (text, _) in own.items()),
        ],
        "selections": [
            _selection(store, shown.session, name, count=place < _COUNTED)
            for place, name in enumerate(store.selections())
        ],
        "tags": len(vocabulary.general_ids),
        "characters": len(vocabulary.character_ids),
    }


def own_types(store: Store) -> dict[str, tuple[str, str | None]]:
    """Of each column of the user its type, and the kind of its facet; None where it can have none."""
    found: dict[str, tuple[str, str | None]] = {}
    for name in store.columns():
        try:
            kind = store.read_column(name).schema.field("value").type
        except PfgError as problem:  # damaged: a question that names it says so
            found[name] = (f"unreadable: {problem}", None)
            continue
        found[name] = (str(kind), _facet_kind(kind))
    return found


def _facet_kind(kind: Any) -> str | None:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _facet_kind(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "values" if _facet_kind(kind.value_type) == "values" else None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        return "values"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "ranges"
    return None


def _selection(store: Store, session: Session, name: str, *, count: bool) -> dict[str, Any]:
    try:
        saved = store.read_selection(name)
        images = session.count(f"@{name}") if count else None
    except PfgError as problem:
        return {"name": name, "images": None, "kind": "broken", "expression": str(problem)}
    kind = "frozen" if saved.frozen else "live"
    told = f"{saved.text or 'every image'}{f' ({saved.how})' if saved.how else ''}"
    return {"name": name, "images": images, "kind": kind, "expression": told}
