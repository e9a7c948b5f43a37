"""How much an expression could ask of the machine: told from its tree, before it runs.

DuckDB counts no values that an expression makes (a memory_limit of 100 MB let lambdas take 5.5 GB, measured),
and some of its calls do not look at an interrupt (a LIKE of 500 wildcards: 12 s). So what one vector of 2,048
rows needs is bounded here, for columns of usual sizes; the session's watch (`limits`) ends what they hide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.errors import QueryError
from pfgdata.query.allowed import COMBINED, COUNTED, GROWTH, MEMBERSHIP, SEARCHES, SELECTION

__all__ = ["Measured", "Refusal", "Values", "check_growth"]

Node = dict[str, Any]
Refusal = Callable[[Node, str], QueryError]
Values = Callable[[str], pa.ChunkedArray | None]

_LITERALS = 50_000
_TERMS = 2000  # all but literals; planning 1,000 of has() takes 1.5 s and 120 MB (measured, 2 cores)
_LAMBDAS = 4  # one in the other
_VECTOR = 2048  # rows that DuckDB evaluates at once; what is constant it evaluates once
_ROW_BYTES = 2**18  # of all values that a row makes: 512 MiB a vector and thread
_ROW_STEPS = 200_000  # of some 5 ns a row: 2 s a vector
_GATHERED = 2**16  # bytes of what an aggregate makes of many rows: its size is theirs, and the watch's care
_HEAD = 16  # bytes of a text or list beside what it holds

_REPEATS = re.compile(r"\{(\d*),?(\d*)\}")


@dataclass(frozen=True, slots=True)
class _Size:
    """Of one row's value: bytes; of a list also its items and the largest; whether all rows share it."""

    bytes: float = _HEAD
    items: float = 1
    item: _Size | None = None
    constant: bool = False
    text: str | None = None  # of a literal

    @property
    def letters(self) -> float:
        return max(self.bytes - _HEAD, 0)

    @property
    def usual(self) -> _Size:
        """An item of mean size."""
        largest, share = self.item or self, self.bytes / max(self.items, 1)
        items = max(largest.items * min(share / max(largest.bytes, 1), 1), 1)
        return replace(largest, bytes=min(share, largest.bytes), items=items, constant=self.constant)


def _text(letters: float) -> _Size:
    return _Size(_HEAD + letters)


def _list(items: float, usual: float, largest: float) -> _Size:
    return _Size(_HEAD + items * usual, items, _Size(largest))


_COLUMNS: Mapping[str, _Size] = {  # of usual rows, generously
    "tags": _list(100, _HEAD + 24, _HEAD + 64),
    "characters": _list(8, _HEAD + 24, _HEAD + 64),
    "path": _text(256),
    "member": _text(256),
    "root": _text(128),
}


def _largest(values: pa.ChunkedArray) -> _Size:
    """The largest of `values`: a user's text may have any length."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _largest(values.cast(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        items = pc.max(pc.list_value_length(values)).as_py() or 0
        item = _largest(pc.list_flatten(values))
        return _Size(_HEAD + items * item.bytes, items, item)
    if pa.types.is_nested(kind):
        return _text(values.nbytes)
    if pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        return _Size()
    if isinstance(kind, pa.BaseExtensionType):
        return _Size()
    return _text(pc.max(pc.binary_length(values)).as_py() or 0)


def check_growth(tree: Node, refusal: Refusal, values: Values) -> None:
    """Raise what `refusal` makes of (node, words) if the tree is too large, or a row of it would be.

    `values` gives those of a column that no shard has, whose largest is counted; None for another name.
    """
    literals, terms = _counted(tree)
    for found, most, what in (
        (literals, _LITERALS, "literals"),
        (terms, _TERMS, "columns, functions and operators"),
    ):
        if found > most:
            raise QueryError(f"the expression has {found:,} {what}; at most {most:,}: ask in parts")
    _Meter(refusal, values).size(tree, {}, times=1)


class Measured:
    """Checks expressions of one statement as `check_growth` does, each with what those before it make."""

    def __init__(self, refusal: Refusal, values: Values) -> None:
        self._refusal = refusal
        self._values = values
        self._made: dict[str, _Size] = {"": _Size()}
        self._terms = 0

    def add(self, tree: Node) -> None:
        """Raise QueryError if `tree` could grow too large; its alias is of its size from then on."""
        check_growth(tree, self._refusal, self._values)
        self._terms += _counted(tree)[1]
        if self._terms > _TERMS:
            raise QueryError(f"the SELECT has over {_TERMS:,} columns, functions and operators; ask in parts")
        size = _Meter(self._refusal, self._values, self._made).size(tree, {}, times=1)
        for name in (str(tree.get("alias") or "").lower(), ""):  # "": what may have any name
            self._made[name] = max(size, self._made.get(name, size), key=lambda one: one.bytes)


def _counted(tree: Node) -> tuple[int, int]:
    """How many literals and other terms; each tag of list_has_any() or any_of() is a term of its own."""
    literals = terms = 0
    for node in _walked(tree):
        if node["class"] == "CONSTANT":
            literals += 1
        else:
            terms += 1
        if node["class"] == "FUNCTION" and node["function_name"].lower() in MEMBERSHIP:
            terms += sum(len(list(_children(part))) for part in _children(node))
        if node["class"] == "FUNCTION" and node["function_name"].lower() in COMBINED:
            terms += len(list(_children(node)))
    return literals, terms


def _walked(tree: Node) -> Iterator[Node]:
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left.extend(_children(node))


def _children(node: Any) -> Iterator[Node]:
    """The expressions right below one, in their order."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict) and "class" in value:
            yield value
        elif isinstance(value, dict | list):
            yield from _children(value)


class _Meter:
    """Walks one tree, and adds up the bytes and steps of a row."""

    def __init__(self, refusal: Refusal, values: Values, made: Mapping[str, _Size] | None = None) -> None:
        self._refusal = refusal
        self._values = values
        self._made = made or {}
        self._lambdas = 0
        self._bytes = 0.0
        self._steps = 0.0

    def size(self, node: Node, scope: Mapping[str, _Size], *, times: float) -> _Size:
        """The value of `node`, made `times` times a row; `scope` holds what the lambdas around it bind."""
        kind = node["class"]
        if kind == "CONSTANT":
            literal = node["literal"]
            text = str(literal.get("text", "")) if literal.get("kind") == "STRING" else None
            return _Size(_HEAD + len((text or "").encode()), constant=True, text=text)
        if kind == "COLUMN_REF":
            return self._column(node, scope)
        name = str(node.get("function_name", node["type"])).lower()
        if name == SELECTION:  # its text is measured on its own
            return _Size()
        inner = [child for child in _children(node) if child["class"] == "LAMBDA"]
        parts = [self.size(child, scope, times=times) for child in _children(node) if child not in inner]
        if name in COUNTED:  # it makes the list whose items it counts
            parts = [_COLUMNS[COUNTED[name]]]
        if inner and parts:
            value = self._of_lambda(name, inner[0], parts[0], scope, times)
        else:
            value = replace(_grown(name, parts), constant=all(part.constant for part in parts), text=None)
        self._charge(node, value, times * _steps(name, parts))
        return value

    def _column(self, node: Node, scope: Mapping[str, _Size]) -> _Size:
        names = [str(name).lower() for name in node["column_names"]]
        known = scope.get(names[0]) or self._made.get(names[-1]) or _COLUMNS.get(names[-1])
        if known:
            return known
        values = self._values(names[-1])
        return self._made.get("", _Size()) if values is None else _largest(values)

    def _of_lambda(
        self, name: str, node: Node, over: _Size, scope: Mapping[str, _Size], times: float
    ) -> _Size:
        """Of a list whose items are mapped or filtered: all of usual size, and one that holds everything."""
        if self._lambdas == _LAMBDAS:
            raise self._refusal(node, f"lambdas stand in each other {_LAMBDAS} deep at most")
        self._lambdas += 1
        left = node["lhs"]
        names = [str(part["column_names"][0]).lower() for part in (left, *_children(left)) if _is_name(part)]
        index = _Size(constant=over.constant)
        made = [
            self.size(
                node["expr"], {**scope, **dict.fromkeys(names, index), names[0]: item}, times=times * runs
            )
            for item, runs in ((over.usual, over.items), (over.item or over, 1.0))
            if names
        ]
        self._lambdas -= 1
        if not made or GROWTH.get(name) != "mapped":
            return over
        usual, largest = made
        size = _HEAD + over.items * usual.bytes + largest.bytes
        return _Size(size, over.items, largest, constant=over.constant and usual.constant)

    def _charge(self, node: Node, value: _Size, steps: float) -> None:
        share = 1 / _VECTOR if value.constant else 1.0
        self._bytes += value.bytes * share
        self._steps += steps * share
        for found, most, what in (
            (self._bytes, _ROW_BYTES, "bytes of values"),
            (self._steps, _ROW_STEPS, "steps"),
        ):
            if found > most:
                raise self._refusal(
                    node,
                    f"the expression could take {found:,.0f} {what} for each image, more than {most:,}; "
                    "put less into each other here",
                )


def _grown(name: str, parts: list[_Size]) -> _Size:
    """The value of a function or operator of `parts`; of one that is not known, all of them together."""
    how = GROWTH.get(name)
    every = sum(part.bytes for part in parts)
    lists = any(part.item for part in parts)
    first = parts[0] if parts else _Size()
    if how == "short":
        return _Size()
    if how == "first":
        return first
    if how == "item":
        return first.item or first
    if how == "split":
        return _split(first, parts[-1])
    if how == "either":
        return _either(parts, _most(parts))
    if how == "gathered":  # of many rows
        return _Size(_GATHERED, _GATHERED / _HEAD, first)
    if how == "joined" and lists:
        size = every if name != "concat" else 2 * every  # which makes texts of structs too
        return replace(_either(parts, size), items=sum(part.items for part in parts))
    if how == "list":
        return _Size(_HEAD + every, len(parts), _either(parts, _most(parts)))
    if name == "operator_cast":  # in the text of a list, each quote gets a backslash
        return _Size(first.bytes * 2 + 48 if first.item else max(first.bytes, 48))
    return _either(parts, _HEAD + _letters(name, parts, every, lists=lists))


def _letters(name: str, parts: list[_Size], every: float, *, lists: bool) -> float:
    """Letters of a text that can grow by more than the sum of its parts."""
    first = parts[0].letters if parts else 0
    last = parts[-1].letters if parts else 0
    if name == "replace" and len(parts) == 3:
        found = parts[1].text
        return first + last * first / max(len((found or "x").encode()), 1)
    if name == "regexp_replace" and len(parts) >= 3:
        return (first + 1) * (parts[2].letters + 1)
    if name == "concat_ws":
        return every * (2 if lists else 1) + first * len(parts)
    return 16 * every if name == "strftime" else every  # '%c' is 24 letters


def _split(text: _Size, separator: _Size) -> _Size:
    items = text.letters / max(len((separator.text or "x").encode()), 1) + 1
    return _Size(_HEAD + _HEAD * items + text.letters, items, _text(text.letters))


def _most(parts: list[_Size]) -> float:
    return max((part.bytes for part in parts), default=_HEAD)


def _either(parts: list[_Size], size: float) -> _Size:
    """A value that may be any of `parts`, of `size` bytes."""
    inner = [part.item for part in parts if part.item]
    item = _either(inner, _most(inner)) if inner else None
    return _Size(size, max((part.items for part in parts), default=1), item)


def _steps(name: str, parts: list[_Size]) -> float:
    """What a call costs: it reads its parts; a distance compares all letters, a pattern tries all places."""
    read = 1 + sum(part.bytes for part in parts) / 64
    if len(parts) < 2:
        return read
    text, pattern = parts[0], parts[1]
    how = SEARCHES.get(name)
    if how is None:
        return read
    if how == "distance":
        return read + text.letters * pattern.letters / 4
    if how == "wildcards":
        tries = pattern.letters if pattern.text is None else 1 + sum(pattern.text.count(c) for c in "%*")
        return read + text.letters * tries / 16
    if not pattern.constant:  # compiled anew for each row
        return read + 1000 + pattern.letters * 10 + text.letters * pattern.letters / 4
    return read + text.letters * (1 + pattern.letters * _repeats(pattern.text or "") / 100)


def _repeats(pattern: str) -> float:
    """How often the parts of a regular expression are written out; RE2 takes no more than 1,000."""
    most = 1.0
    for numbers in _REPEATS.findall(pattern):
        most *= max(1, *(int(number[:9]) for number in numbers if number), 1)
    return min(most, 1000)


def _is_name(node: Node) -> bool:
    return bool(node["class"] == "COLUMN_REF")
