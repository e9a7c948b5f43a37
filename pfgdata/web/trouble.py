"""What went wrong as the page gets it: one line, and where in what was typed, as far as the error says so."""

from __future__ import annotations

import re
from typing import Any

from pfgdata.errors import PfgError

__all__ = ["told"]

_PLACE = re.compile(r"character (\d+) of the (\w+)")
_NEAR = re.compile(r"did you mean (.+?)\?")
_WORD = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|[\w@]+|\S")


def told(problem: PfgError, typed: str | None = None) -> dict[str, Any]:
    """The error as JSON; `typed` is what a person wrote, in which `at` counts characters."""
    text = " ".join(str(problem).split())
    near = _NEAR.search(text)
    return {
        "error": text,
        "at": _place(text, typed),
        "near": re.split(r" or |, ", near[1]) if near else [],
    }


def _place(text: str, typed: str | None) -> list[int] | None:
    found = _PLACE.search(text)
    if found is None or typed is None or found[2] == "order":
        return None
    start = min(int(found[1]) - 1, len(typed))
    word = _WORD.match(typed, start)
    return [start, word.end() if word else start]
