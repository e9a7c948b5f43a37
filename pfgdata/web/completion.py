"""What could stand where the cursor is: tags and characters by their counts, columns, values, selections.

Names that begin with what is typed come first, then those that hold it; of each the most frequent first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.errors import QueryError
from pfgdata.query import COLUMNS, quoted
from pfgdata.vocabulary import CHARACTER, RATING, Vocabulary

__all__ = ["Completion", "Item", "Names"]

_MOST = 20
_LETTERS = 2**14  # of a text
_FUNCTIONS = (
    "has('",
    "score('",
    "any_of('",
    "all_of('",
    "count_tags()",
    "count_characters()",
    "similar_to('",
)
_WORDS = ("AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "IS NULL", "IS NOT NULL", "list_contains(")
_METATAGS = (
    *("rating:", "character:", "width:", "height:", "mpixels:", "ratio:", "filesize:", "format:", "conf:"),
    *("gentags:", "chartags:", "tagcount:", "order:", "limit:", "path:", "or"),
)
_ORDERS = (
    "random",
    "score",
    "mpixels",
    "width",
    "height",
    "ratio",
    "filesize",
    "landscape",
    "portrait",
    "id",
)
_OF_TAGS = re.compile(r"(?:\b(?:has|score)\s*\(\s*|\b(?:any_of|all_of)\s*\([^()]*)$", re.IGNORECASE)
_OF_COLUMN = re.compile(
    r"(?:\b(\w+)\s*(?:=|!=|<>|(?:NOT\s+)?IN\s*\([^()]*)|\blist_\w+\s*\(\s*(\w+)\s*,[^()]*)\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A text to `insert`, how it is shown, what it is, and in how many images it is (None: not counted)."""

    insert: str
    label: str
    kind: str  # tag, character, column, selection, word
    count: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: getattr(self, name) for name in ("insert", "label", "kind", "count")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a store has beside its tags: looked up at each answer, for they come and go."""

    own: Sequence[str]
    selections: Sequence[str]
    values: Callable[[str], Iterable[tuple[str, int]]]  # of a column: texts, and how many rows have each


class Completion:
    """Completes texts about one vocabulary; `counts` [V] says in how many images each tag counts."""

    def __init__(self, vocabulary: Vocabulary, counts: npt.NDArray[np.int64]) -> None:
        kinds = {CHARACTER: "character", RATING: "rating"}
        self._tags = [
            (
                vocabulary.names[number].lower(),
                vocabulary.names[number],
                kinds.get(int(vocabulary.categories[number]), "tag"),
                int(counts[number]),
            )
            for number in np.lexsort((-vocabulary.counts, -counts)).tolist()
        ]

    def answer(self, text: str, at: int, language: str, names: Names) -> dict[str, Any]:
        """The place in `text` that is replaced, and the items. Raises QueryError for another language."""
        if language not in ("sql", "tags"):
            raise QueryError(f"language {language!r}: is none; write sql or tags")
        if len(text) > _LETTERS:
            return {"start": at, "end": at, "items": []}
        at = min(max(at, 0), len(text))
        start, end, items = (self._sql if language == "sql" else self._danbooru)(text, at, names)
        return {"start": start, "end": end, "items": [item.as_dict() for item in items[:_MOST]]}

    def _sql(self, text: str, at: int, names: Names) -> tuple[int, int, list[Item]]:
        begun = _open_quote(text[:at])
        if begun is not None:
            return self._quoted(text, begun, at, names)
        word = re.search(r"@?\w*$", text[:at])
        assert word is not None
        start, typed = word.start(), word.group()
        rest = re.match(r"\w*", text[at:])
        end = at + (rest.end() if rest else 0)
        if typed.startswith("@"):
            return start, end, _selections(typed, names, "@")
        if not typed:
            return start, end, []
        known = [
            *(Item(insert=one, label=one, kind="column") for one in [*COLUMNS, *names.own]),
            *(Item(insert=one, label=one.rstrip("('"), kind="word") for one in (*_FUNCTIONS, *_WORDS)),
        ]
        begins = [item for item in known if item.label.lower().startswith(typed.lower())]
        tags = [
            Item(insert=f"has({quoted(name)})", label=name, kind=kind, count=count)
            for name, kind, count in self._find(typed, ("tag", "character"))
        ]
        return start, end, [*begins[: _MOST // 2], *tags]

    def _quoted(self, text: str, begun: int, at: int, names: Names) -> tuple[int, int, list[Item]]:
        """Inside a literal that begins at `begun`."""
        before, typed = text[:begun], text[begun + 1 : at].replace("''", "'")
        closing = re.match(r"(?:[^']|'')*'", text[at:])
        end = at + (closing.end() if closing else 0)
        if closing is None:
            end = len(text)
            if text[at:].strip():  # what follows is no part of the literal that is being typed
                end = at
        bracket = ")" if end == len(text) and re.search(r"\(\s*$", before) else ""
        return (
            begun,
            end,
            [
                Item(insert=quoted(name) + bracket, label=name, kind=kind, count=count)
                for name, kind, count in self._values(before, typed, names)
            ],
        )

    def _values(self, before: str, typed: str, names: Names) -> list[tuple[str, str, int | None]]:
        """What a literal after `before` could be."""
        if _OF_TAGS.search(before):
            return self._find(typed, ("tag", "character", "rating"))
        found = _OF_COLUMN.search(before)
        return self._of_column((found[1] or found[2]).lower(), typed, names) if found else []

    def _of_column(self, column: str, typed: str, names: Names) -> list[tuple[str, str, int | None]]:
        kind = {"character": "character", "characters": "character", "rating": "rating", "tags": "tag"}
        if column in kind:
            return self._find(typed, (kind[column],))
        if column != "format" and column not in names.own:
            return []
        values = [(text.lower(), text, "word", count) for text, count in names.values(column)]
        return _matching(values, typed.lower(), ("word",))

    def _danbooru(self, text: str, at: int, names: Names) -> tuple[int, int, list[Item]]:
        word = re.search(r"\S*$", text[:at])
        assert word is not None
        signs = re.match(r"[-~(]*", word.group())
        start = word.start() + (signs.end() if signs else 0)
        rest = re.match(r"\S*", text[at:])
        end, typed = at + (rest.end() if rest else 0), text[start:at]
        if typed.startswith("@"):
            return start, end, _selections(typed, names, "@")
        if not typed:
            return start, end, []
        name, colon, value = typed.partition(":")
        if colon and (known := self._metatag(name.lower(), value, names)) is not None:
            return start + len(name) + 1, end, known
        metatags = [*_METATAGS, *(f"{one}:" for one in names.own)]
        words = [
            Item(
                insert=one, label=one, kind="column" if one.rstrip(":") in (*COLUMNS, *names.own) else "word"
            )
            for one in metatags
            if one.startswith(typed.lower())
        ]
        tags = [
            Item(insert=name, label=name, kind=kind, count=count)
            for name, kind, count in self._find(typed, ("tag", "character"))
        ]
        return start, end, [*tags[: _MOST - len(words[:5])], *words[:5]]

    def _metatag(self, name: str, value: str, names: Names) -> list[Item] | None:
        """What could stand behind `name:`; None where that begins no metatag."""
        found: list[tuple[str, str, int | None]]
        if name == "order":
            found = [(one, "word", None) for one in (*_ORDERS, *names.own) if one.startswith(value.lower())]
        elif name == "conf":
            found = [
                (f"{one}:>", kind, count) for one, kind, count in self._find(value, ("tag", "character"))
            ]
        elif name in ("rating", "character", "char", "format", "filetype", *names.own):
            column = {"char": "character", "filetype": "format"}.get(name, name)
            found = self._of_column(column, value, names)
        elif f"{name}:" in _METATAGS:
            found = []
        else:
            return None
        return [
            Item(
                insert=one if re.fullmatch(r"[^\s\"()]+", one) else f'"{one}"',
                label=one,
                kind=kind,
                count=count,
            )
            for one, kind, count in found
            if '"' not in one
        ]

    def _find(self, typed: str, kinds: Sequence[str]) -> list[tuple[str, str, int | None]]:
        return _matching(self._tags, typed.lower().replace(" ", "_"), kinds)


def _matching(
    known: Sequence[tuple[str, str, str, int]], typed: str, kinds: Sequence[str]
) -> list[tuple[str, str, int | None]]:
    """Those of `known` (small letters, name, kind, count) that begin with `typed`, then that hold it."""
    begins: list[tuple[str, str, int | None]] = []
    holds: list[tuple[str, str, int | None]] = []
    for small, name, kind, count in known:
        if kind in kinds and typed in small:
            of_kind = (name, "word" if kind == "rating" else kind, count)
            (begins if small.startswith(typed) else holds).append(of_kind)
            if len(begins) == _MOST:
                break
    return [*begins, *holds][:_MOST]


def _selections(typed: str, names: Names, sign: str) -> list[Item]:
    wanted = typed.removeprefix(sign).lower()
    return [
        Item(insert=f"{sign}{one}", label=f"{sign}{one}", kind="selection")
        for one in names.selections
        if one.startswith(wanted)
    ]


def _open_quote(text: str) -> int | None:
    """Where a literal begins that is still open at the end of `text`; None where none is."""
    begun: int | None = None
    closed: int | None = None
    for place, letter in enumerate(text):
        if letter != "'":
            continue
        if begun is not None:
            begun, closed = None, begun
        elif place and text[place - 1] == "'":  # two of them inside a literal are a quote of its own
            begun = closed
        else:
            begun = place
    return begun
