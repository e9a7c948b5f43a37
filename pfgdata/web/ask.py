"""What an address asks, and the same as commands: the query string has the names of the command's options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pfgdata.errors import QueryError
from pfgdata.query import QueryJob, Question, Thresholds
from pfgdata.records import did_you_mean, nearest
from pfgdata.store import Snapshot

__all__ = ["Ask", "shell_word"]

_NUMBERS = {"threshold": float, "character_threshold": float, "sample": int, "seed": int, "limit": int}
_TEXTS = ("where", "tags", "order")
RANDOM = "random()"  # an order, as pfgdata.query has it
_HELP = ("start", "count", "facet", "k", "features", "fresh")  # of the requests themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question as it stands in an address."""

    job: QueryJob

    @classmethod
    def of(cls, values: Mapping[str, Any], usual: Thresholds) -> Ask:
        """The ask of an address, or of JSON; `usual` are the thresholds that it may leave out.

        Raises QueryError for a name that is none of ours and for a value that is no number.
        """
        given: dict[str, Any] = {"threshold": usual.general, "character_threshold": usual.character}
        for name, value in values.items():
            if name in _HELP or value is None or value == "":
                continue
            if name in _TEXTS:
                given["expression" if name == "where" else name] = _text(name, value)
            elif name in _NUMBERS:
                given[name] = _number(name, value)
            else:
                known = [*_TEXTS, *_NUMBERS]
                raise QueryError(
                    f"{name}: is not asked; {did_you_mean(nearest(name, known), ', '.join(known) + ' are')}"
                )
        return cls(job=QueryJob(**given))

    @property
    def thresholds(self) -> Thresholds:
        """From which scores tags count in it."""
        return self.job.thresholds

    def question(self, snapshot: Snapshot) -> Question:
        """What it asks of `snapshot`. Raises QueryError for tags that cannot be read."""
        asked = self.job.question(snapshot)
        limits = [one for one in (asked.limit, self.job.limit) if one is not None]
        return replace(asked, limit=min(limits, default=None))

    def commands(self, question: Question, store: Path) -> dict[str, str | None]:
        """The commands that ask the same, quoted for a shell; None where no condition says it."""
        thresholds = self._flags("threshold", "character_threshold")
        text = self.job.expression or "true"
        asked = [f"({text})" if text.startswith("-") else text]
        if self.job.tags is not None:
            asked = _option("tags", self.job.tags)
        seed = ["seed"] if self.job.sample is not None or self.job.order == RANDOM else []
        more = [*thresholds, *self._flags("order", "sample", *seed, "limit")]
        query = _line("pfgdata query", *asked, "--store", str(store), *more)
        if question.sample is not None or question.limit is not None:
            return {"query": query, "where": None, "latents": None, "fit": None}
        where = [] if question.condition is None else _option("where", question.condition)
        place = shell_word(str(store))
        return {
            "query": query,
            "where": " ".join(map(shell_word, where)),
            "latents": _line(f"pfgdata latents {place} --base BASE", *where, *thresholds),
            "fit": _line(f"pfgtrain fit --shards {place}", *where, *thresholds),
        }

    def _flags(self, *names: str) -> list[str]:
        """Those options that are not as they are by default."""
        usual = {field.name: field.default for field in fields(QueryJob)}
        given = {name: getattr(self.job, name) for name in names}
        asked = [_option(name, value) for name, value in given.items() if value != usual[name]]
        return [word for words in asked for word in words]


def _option(name: str, value: Any) -> list[str]:
    """An option and its value; in one word where the value could be taken for an option."""
    text = str(value)
    option = f"--{name.replace('_', '-')}"
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def _line(command: str, *words: str) -> str:
    return " ".join([command, *map(shell_word, words)])


def shell_word(text: str) -> str:
    """`text` quoted for a shell: a condition between double quotes, where they can hold it as it stands."""
    if "'" in text and not set(text) & set('"$`\\!\n'):
        return f'"{text}"'
    return shlex.quote(text)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise QueryError(f"{name}: is a text")
    return value


def _number(name: str, value: Any) -> float:
    kind = _NUMBERS[name]
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        found = kind(value)
    except (ValueError, OverflowError):
        raise QueryError(f"{name} {value!r}: is no {'whole ' * (kind is int)}number") from None
    return found
