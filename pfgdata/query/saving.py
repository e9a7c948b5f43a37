"""A question to a saved selection: asked once to see that it can be, then kept as words or as images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pfgdata.errors import QueryError
from pfgdata.query.answer import count, select
from pfgdata.query.columns import Thresholds
from pfgdata.query.limits import DEFAULT_LIMITS, Limits
from pfgdata.query.named import sql_of
from pfgdata.records import Selection
from pfgdata.store import SavedSelection, Store

__all__ = ["SaveOptions", "freeze_selection", "save_selection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """How a selection is saved: without the images of `minus`, as images if `freeze`, over another."""

    minus: Sequence[str] = ()  # names of selections, with or without @
    freeze: bool = False
    replace: bool = False
    limits: Limits = DEFAULT_LIMITS


def save_selection(
    store: Store, asked: SavedSelection, options: SaveOptions | None = None
) -> tuple[SavedSelection, Selection]:
    """Save what `asked` asks as `@name`, and what it selects now.

    Raises QueryError where it cannot be asked or a live one would be made of itself, StoreError for a name
    that is taken or cannot be one, StoreLockedError while another process writes.
    """
    options = options or SaveOptions()
    thresholds, limits, snapshot = Thresholds(**asked.thresholds), options.limits, store.snapshot()
    _require_free_name(store, asked.name, replace=options.replace)
    text = sql_of(asked).text
    if options.minus:
        count(snapshot, text, thresholds, limits=limits)  # one condition, before it is set in brackets
        without = " or ".join(f"@{name.removeprefix('@')}" for name in options.minus)
        text, asked = _less(text, without), replace(asked, language="sql")
    chosen = select(snapshot, text, thresholds, limits=limits)
    if asked.name in chosen.named and not options.freeze:
        raise QueryError(f"@{asked.name} would be made of itself; --freeze it, or use another name")
    kept = replace(asked, text=text if options.minus else asked.text, uses=_named_in(text, chosen))
    ids = chosen.content_ids if options.freeze else None
    return store.write_selection(kept, ids, replace=options.replace), chosen


def freeze_selection(
    store: Store, name: str, chosen: Selection, *, how: str, replace: bool = False
) -> SavedSelection:
    """Save the images of `chosen` as `@name`; `how` says what was done beside asking.

    Raises StoreError for a name that is taken or cannot be one, StoreLockedError while another writes.
    """
    _require_free_name(store, name, replace=replace)
    saved = SavedSelection(
        name=name,
        text=chosen.expression,
        thresholds=chosen.thresholds,
        uses=_named_in(chosen.expression or "", chosen),
        how=how,
    )
    return store.write_selection(saved, chosen.content_ids, replace=replace)


def _require_free_name(store: Store, name: str, *, replace: bool) -> None:
    """Raise StoreError where `name` is taken and not to be `replace`d, or cannot be named by @ in SQL."""
    store.require_selection(name, replace=replace)
    if name in store.selections():
        return
    try:
        count(store.snapshot(), f"@{name}", Thresholds())
    except QueryError as problem:
        if not str(problem).startswith("no selection"):
            raise QueryError(f"{name} is a word of SQL; name the selection my_{name}") from None


def _less(text: str, without: str) -> str:
    end = "\n" if "--" in text else ""
    return f"({text}{end}) and not ({without})" if " or " in without else f"({text}{end}) and not {without}"


def _named_in(text: str, chosen: Selection) -> tuple[str, ...]:
    """Those of the selections behind `chosen` that its own text names."""
    named = (name for name in chosen.named if re.search(rf'@\s*"?{name}\b', text, re.IGNORECASE))
    return tuple(sorted(named))
