"""Values of metatags as danbooru writes them (`>=768`, `512..1024`, `g,s`), to SQL over one expression."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from pfgdata.query.columns import quoted

__all__ = ["WrongValueError", "at_most_near", "compared", "number", "one_of", "ratio", "size", "time"]

Reader = Callable[[str], str]  # of a value as it is typed; SQL of it
_NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,18})?|\.\d{1,18})")
_UNITS = {"": 1, "b": 1, "k": 2**10, "kb": 2**10, "m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[ tT]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?")
_NEAR = 0.05  # danbooru's, of a filesize: a number of megapixels or megabytes is seldom met exactly


class WrongValueError(ValueError):
    """A value that is none; its text says what one would be."""


def compared(sql: str, value: str, read: Reader, *, equal: Callable[[str], str] | None = None) -> str:
    """A condition: `sql` is one of the values or in one of the ranges of `value`, which commas separate.

    `equal` makes the condition of one plain value from its SQL; by default, it equals `sql`.
    Raises WrongValueError.
    """
    if equal is None and "," in value and not re.search(r"[<>=]|\.\.", value):
        return f"{sql} IN ({', '.join(read(part) for part in value.split(','))})"
    parts = [_part(sql, part, read, equal or (lambda one: f"{sql} = {one}")) for part in value.split(",")]
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"


def _part(sql: str, value: str, read: Reader, equal: Callable[[str], str]) -> str:
    for sign in (">=", "<=", "=>", "=<", ">", "<", "="):
        if value.startswith(sign):
            told = {"=>": ">=", "=<": "<="}.get(sign, sign)
            one = read(value[len(sign) :])
            return equal(one) if told == "=" else f"{sql} {told} {one}"
    first, dots, last = value.partition("...")
    if not dots:
        first, dots, last = value.partition("..")
    if not dots:
        return equal(read(value))
    below = "<" if dots == "..." else "<="
    sides = [f"{sql} >= {read(first)}"] if first else []
    sides += [f"{sql} {below} {read(last)}"] if last else []
    if not sides:
        raise WrongValueError("a range has a number on a side of its dots: 512..1024, 512.. or ..1024")
    return sides[0] if len(sides) == 1 else f"({' AND '.join(sides)})"


def at_most_near(sql: str) -> Callable[[str], str]:
    """The condition that `sql` is a value but for 5 %."""
    return lambda one: f"({sql} BETWEEN {one} * {1 - _NEAR} AND {one} * {1 + _NEAR})"


def number(text: str) -> str:
    """SQL of a number."""
    if not _NUMBER.fullmatch(text):
        raise WrongValueError(f"'{text}' is no number; write 512, >=512, <0.9 or 512..1024")
    return text


def ratio(text: str) -> str:
    """SQL of width to height, written 16:9 or 1.78, with two decimals as danbooru rounds it."""
    width, colon, height = text.partition(":")
    if not all(map(_NUMBER.fullmatch, (width, height) if colon else (width,))):
        raise WrongValueError(f"'{text}' is no ratio; write 16:9, 1.78, >1 or 1..1.5")
    if colon and float(height) == 0:
        raise WrongValueError(f"'{text}': a height of 0")
    value = float(width) / float(height) if colon else float(width)
    return f"{math.floor(value * 100 + 0.5) / 100:.2f}"


def size(text: str) -> str:
    """SQL of a number of bytes, written 500, 200kb or 1.5M."""
    found = re.fullmatch(r"([\d.]+)([a-z]*)", text.lower())
    if not found or not _NUMBER.fullmatch(found[1]) or found[2] not in _UNITS:
        raise WrongValueError(f"'{text}' is no size of a file; write 500, 200kb, >1.5mb or 1mb..2mb")
    return str(round(float(found[1]) * _UNITS[found[2]]))


def time(text: str) -> str:
    """SQL of a day or time."""
    if not _TIME.fullmatch(text):
        raise WrongValueError(f"'{text}' is no day; write 2024-01-31, >=2024-01-31 or 2024-01-01..2024-01-31")
    return quoted(text)


def one_of(sql: str, value: str) -> str:
    """A condition on a text: one of those that commas separate, where * stands for any letters."""
    texts = value.split(",")
    if texts == ["*"]:
        return f"{sql} IS NOT NULL"
    if not any("*" in text for text in texts):
        return (
            f"{sql} = {quoted(value)}" if len(texts) == 1 else f"{sql} IN ({', '.join(map(quoted, texts))})"
        )
    parts = [
        f"{sql} GLOB {quoted(_glob(text))}" if "*" in text else f"{sql} = {quoted(text)}" for text in texts
    ]
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"


def _glob(text: str) -> str:
    """The pattern of GLOB in which only * is a sign; a name that is not UTF-8 is stored with a backslash."""
    return re.sub(r"[?\[\\]", lambda found: f"[{found[0]}]", text)
