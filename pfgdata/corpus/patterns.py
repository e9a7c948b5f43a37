"""Patterns that say which paths of a corpus to take, in the way of a .gitignore.

A pattern is matched with the whole path below the root, a member of an archive as if the archive were a
folder: `a/b.zip/c.png`. Upper and lower case differ.

- Without a slash before its end it matches a name at any depth: `*.gif`, `thumbs`.
- With one it begins at the root: `2019/*.jpg`, `/cover.png`.
- `*` is any part of one name, `?` one character, `[a-f]` and `[!a-f]` one of a set, a backslash takes the
  next character as it is. `**` as a whole name is any number of folders: `a/**/b`, `**/b`, `a/**`.
- At its end a slash asks for a folder. A folder that matches brings all that is below it.

Of `exclude` none may match. Of `include`, where there is any, one must.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence

from pfgdata.errors import ConfigError

__all__ = ["Patterns", "patterns_of"]


class Patterns:
    """Compiled patterns; false where there are none."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        """Raises ConfigError for a pattern that says nothing, or that would be read otherwise by git."""
        self._include = _compiled(include)
        self._exclude = _compiled(exclude)

    def __bool__(self) -> bool:
        return bool(self._include or self._exclude)

    def takes(self, path: bytes) -> bool:
        """Whether the file at `path` below the root is wanted."""
        text = os.fsdecode(path)
        if self._exclude and self._exclude.fullmatch(text):
            return False
        return not self._include or self._include.fullmatch(text) is not None

    def skips(self, folder: bytes) -> bool:
        """Whether nothing below `folder`, which ends in a slash, can be wanted."""
        return bool(self._exclude and self._exclude.fullmatch(os.fsdecode(folder)))


@functools.lru_cache(maxsize=64)  # segments of one ingest share theirs
def patterns_of(include: tuple[str, ...], exclude: tuple[str, ...]) -> Patterns:
    """The two lists, compiled. Raises ConfigError as Patterns does."""
    return Patterns(include, exclude)


def _compiled(patterns: Sequence[str]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    return re.compile("|".join(f"(?:{_path(pattern)})" for pattern in patterns), re.DOTALL)


def _path(pattern: str) -> str:
    if not pattern.strip("/"):
        raise ConfigError(f"pattern {pattern!r} matches nothing; write a name or a path below the root")
    if pattern.startswith("!"):
        raise ConfigError(rf"pattern {pattern!r}: ! takes nothing back here; use include, or \! for the name")
    *folders, last = pattern.strip("/").split("/")
    out = "" if "/" in pattern.rstrip("/") else "(?:.*/)?"
    for folder in folders:
        out += "(?:.*/)?" if folder == "**" else _name(folder) + "/"
    out += ".*" if last == "**" else _name(last)
    return out + ("/.*" if pattern.endswith("/") else "(?:/.*)?")


def _name(text: str) -> str:
    """One name of a pattern as a regular expression."""
    out, at = "", 0
    while at < len(text):
        one = text[at]
        at += 1
        end = text.find("]", at + 1)  # a ] that comes first is one of the set
        if one == "*":
            out += "[^/]*"
        elif one == "?":
            out += "[^/]"
        elif one == "\\" and at < len(text):
            out += re.escape(text[at])
            at += 1
        elif one == "[" and end > 0:
            out += _one_of(text[at:end])
            at = end + 1
        else:
            out += re.escape(one)
    return out


def _one_of(choice: str) -> str:
    """What stands between brackets, as a set of a regular expression."""
    negated = choice[0] in "!^" and len(choice) > 1
    body = choice[1:] if negated else choice
    body = "".join(f"\\{one}" if one in "\\[]^&~|" else one for one in body)
    try:
        re.compile(f"[{body}]")
    except re.error:
        raise ConfigError(
            f"pattern [{choice}]: no set of characters; begin a range with its lower end"
        ) from None
    return f"(?!/)[{'^' if negated else ''}{body}]"
