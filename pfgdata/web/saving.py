"""What the page writes: saved selections, and verdicts on pairs of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from pfgdata.errors import QueryError
from pfgdata.query import SaveOptions, freeze_selection, save_selection
from pfgdata.records import Selection
from pfgdata.store import VERDICTS, SavedSelection, pair_of
from pfgdata.web.ask import Ask, shell_word
from pfgdata.web.catalog import id_of
from pfgdata.web.desk import Desk, Shown

__all__ = ["asked_in", "save", "say"]

_NAMED = ("name", "ask", "exclude", "only", "freeze", "replace")


def save(desk: Desk, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Save what is asked as `@name`, but some images, or some images only; by hand it is frozen.

    Raises QueryError for what is no such request, StoreError for a name that cannot be one or is taken.
    """
    for key in asked:
        if key not in _NAMED:
            raise QueryError(f"{key}: is no part of a selection; {', '.join(_NAMED)} are")
    name, ask = asked.get("name"), asked_in(desk, asked)
    if not isinstance(name, str):
        raise QueryError("name: is missing; how shall the selection be called?")
    name = name.removeprefix("@")
    freeze, over = (_truth(asked, key) for key in ("freeze", "replace"))
    without, only = _ids(asked, "exclude"), _ids(asked, "only")
    shown = desk.shown
    question = ask.question(shown.snapshot)
    limited = question.sample is not None or (ask.job.limit is not None)
    if limited and not freeze:
        raise QueryError("a sample or a limit is kept as images only; freeze the selection")
    if without or only is not None or limited:
        if only is None:
            chosen, how = _but(desk, shown, ask, without or set())
            how = "; ".join(part for part in (question.beside, how) if part)
        else:
            chosen, how = _alone(shown, only - (without or set()))
        with desk.writing:
            freeze_selection(desk.store, name, chosen, how=how, replace=over)
    else:
        words = SavedSelection(
            name=name,
            text=ask.job.expression if ask.job.tags is None else ask.job.tags,
            language="sql" if ask.job.tags is None else "tags",
            thresholds=asdict(ask.thresholds),
        )
        options = SaveOptions(freeze=freeze, replace=over, limits=desk.options.limits)
        with desk.writing:
            _, chosen = save_selection(desk.store, words, options)
    command = f"pfgdata query @{name} --store {shell_word(str(desk.store.path))}"
    return {"name": name, "images": len(chosen.distinct()), "command": command}


def say(desk: Desk, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Put a verdict on two images on record, or take it back (null).

    Raises QueryError for an image or a verdict that is none, StoreError while another process writes.
    """
    ids = []
    for key in ("one", "two"):
        text = asked.get(key)
        found = id_of(text) if isinstance(text, str) else None
        if found is None or not len(desk.shown.catalog.find(found)):
            raise QueryError(f"{key}: {text!r} is the content_id of no image here")
        ids.append(found)
    verdict = asked.get("verdict", "")
    said = next((one for one in VERDICTS if one == verdict), None)
    if said is None and verdict is not None:
        raise QueryError(f"verdict: {verdict!r} is none; say {', '.join(VERDICTS)}, or null to take it back")
    with desk.writing:
        desk.store.set_verdicts({pair_of(ids[0], ids[1]): said})
        return {"verdict": said, "pairs": len(desk.store.verdicts())}


def asked_in(desk: Desk, values: Mapping[str, Any]) -> Ask:
    """The `ask` of a request. Raises QueryError where it is none."""
    ask = values.get("ask", {})
    if not isinstance(ask, dict):
        raise QueryError("ask: is an object with the names of an address")
    return Ask.of(ask, desk.options.thresholds)


def _but(desk: Desk, shown: Shown, ask: Ask, without: set[bytes]) -> tuple[Selection, str]:
    """The rows of `ask` but those of some contents; and in words."""
    question = ask.question(shown.snapshot)
    rows = desk.rows_of(shown, question, ask.thresholds)
    keep = ~_among(shown.catalog.content_ids[rows], without)
    chosen = shown.catalog.selection(rows[keep])
    how = f"{len(without):,} images left out by hand" if without else ""
    return replace(chosen, expression=question.condition, thresholds=asdict(ask.thresholds)), how


def _alone(shown: Shown, only: set[bytes]) -> tuple[Selection, str]:
    """The rows of some contents, whatever was asked when each was picked; and in words."""
    catalog = shown.catalog
    rows = catalog.in_order(np.flatnonzero(_among(catalog.content_ids, only)))
    missing = len(only) - catalog.contents(rows)
    if missing:
        raise QueryError(f"{missing:,} of {len(only):,} picked images are not in this store; pick anew")
    return catalog.selection(rows), f"{len(only):,} images picked by hand"


def _among(ids: np.ndarray[Any, np.dtype[np.uint8]], wanted: set[bytes]) -> Any:
    """Which of `ids` are among the `wanted`, bool [N]."""
    if not wanted:
        return np.zeros(len(ids), np.bool_)
    some = np.frombuffer(b"".join(sorted(wanted)), "V16")
    return np.isin(np.ascontiguousarray(ids).view("V16").ravel(), some)


def _ids(asked: Mapping[str, Any], key: str) -> set[bytes] | None:
    texts = asked.get(key)
    if texts is None:
        return None
    if not isinstance(texts, list):
        raise QueryError(f"{key}: is a list of content_ids")
    found = set()
    for text in texts:
        one = id_of(text) if isinstance(text, str) else None
        if one is None:
            raise QueryError(f"{key}: {text!r} is no content_id")
        found.add(one)
    return found


def _truth(asked: Mapping[str, Any], key: str) -> bool:
    value = asked.get(key, False)
    if value not in (True, False, None):
        raise QueryError(f"{key}: is true or false")
    return bool(value)
