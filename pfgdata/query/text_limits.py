"""How long the text of a question may be: DuckDB's parser takes its memory before there is a tree."""

from __future__ import annotations

import re

from pfgdata.errors import QueryError

__all__ = ["check_text"]

_BYTES = 2**20  # of the text: 10,000 names of 100 letters
_BRACKETS = 4096  # DuckDB's parser takes 10 to 13 kB for each that is open (measured)
_WORDS = 10_000  # beside literals: each becomes some 2 kB of tree before it can be counted (measured)
_WORD = 1000  # letters or digits; DuckDB reads a number in time that grows with their square

_LITERAL = re.compile(  # of a text, where brackets mean nothing
    r"""[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\r\n]*""", re.DOTALL | re.VERBOSE
)
_OPENING = re.compile(r"[(\[{]|\bcase\b|/\*", re.IGNORECASE)
_LONG_WORD = re.compile(rf"\w{{{_WORD + 1},}}")


def check_text(expression: str, called: str = "expression") -> None:
    """Raise QueryError for a text that is too long to be parsed, or opens too many brackets."""
    code = _LITERAL.sub("''", expression) if len(expression) <= _BYTES else ""
    for found, most, what in (
        (len(expression.encode()), _BYTES, "bytes"),
        (sum(1 for _ in _OPENING.finditer(code)), _BRACKETS, "opened brackets"),
        (sum(1 for _ in re.finditer(r"[^\W\d]\w*", code)), _WORDS, "words beside its literals"),
    ):
        if found > most:
            raise QueryError(f"the {called} has {found:,} {what}; at most {most:,}: ask in parts")
    if long := _LONG_WORD.search(code):
        word = long.group()
        raise QueryError(
            f"the {called} has a word of {len(word):,} letters ({word[:20]}...); at most {_WORD:,}"
        )
