"""A question to a saved selection: asked once to see that it can be, then kept as words or as images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb

from pfgdata.errors import QueryError
from pfgdata.query.columns import Thresholds
from pfgdata.query.limits import DEFAULT_LIMITS, Limits
from pfgdata.query.named import question_of, sql_of
from pfgdata.query.session import Session
from pfgdata.records import Selection
from pfgdata.store import SavedSelection, Store

__all__ = ["SaveOptions", "freeze_selection", "require_free_name", "save_selection"]


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
    options, snapshot = options or SaveOptions(), store.snapshot()
    require_free_name(store, asked.name, replace=options.replace)
    with Session(snapshot, thresholds=Thresholds(**asked.thresholds), limits=options.limits) as session:
        question = question_of(asked, snapshot)
        if not options.freeze:
            sql_of(asked, snapshot)
        if options.minus:
            session.check(question)  # one condition, before it is set in brackets
            without = " or ".join(f"@{name.removeprefix('@')}" for name in options.minus)
            question = replace(question, where=_less(question.condition or "true", without))
            asked = replace(asked, language="sql", text=question.condition, how=question.beside)
        chosen = session.select(question)
    if asked.name in chosen.named and not options.freeze:
        raise QueryError(f"@{asked.name} would be made of itself; --freeze it, or use another name")
    kept = replace(asked, uses=_named_in(question.condition or "", chosen))
    ids = chosen.content_ids if options.freeze else None
    return store.write_selection(kept, ids, replace=options.replace), chosen


def freeze_selection(
    store: Store, name: str, chosen: Selection, *, how: str, replace: bool = False
) -> SavedSelection:
    """Save the images of `chosen` as `@name`; `how` says what was done beside asking.

    Raises StoreError for a name that is taken or cannot be one, StoreLockedError while another writes.
    """
    require_free_name(store, name, replace=replace)
    saved = SavedSelection(
        name=name,
        text=chosen.expression,
        thresholds=chosen.thresholds,
        uses=_named_in(chosen.expression or "", chosen),
        how=how,
    )
    return store.write_selection(saved, chosen.content_ids, replace=replace)


def require_free_name(store: Store, name: str, *, replace: bool) -> None:
    """Raise StoreError where `name` is taken and not to be `replace`d, QueryError for a word of SQL."""
    store.require_selection(name, replace=replace)
    try:
        duckdb.extract_statements(f"FROM {name}")  # it only parses: a table cannot be called by a word of SQL
    except duckdb.ParserException:
        raise QueryError(f"{name} is a word of SQL; name the selection my_{name}") from None


def _less(text: str, without: str) -> str:
    end = "\n" if "--" in text else ""
    return f"({text}{end}) and not ({without})" if " or " in without else f"({text}{end}) and not {without}"


def _named_in(text: str, chosen: Selection) -> tuple[str, ...]:
    """Those of the selections behind `chosen` that its own text names."""
    named = (name for name in chosen.named if re.search(rf'@\s*"?{name}\b', text, re.IGNORECASE))
    return tuple(sorted(named))
