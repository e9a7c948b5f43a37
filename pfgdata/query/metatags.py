"""What `name:value` means among tags: a condition, an order or a limit in pfg's own expression language.

Names are danbooru's where danbooru has the thing; every column can be named too, the user's and the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import pyarrow as pa

from pfgdata.errors import QueryError
from pfgdata.query import ranges
from pfgdata.query.columns import RAW_COLUMNS, quoted
from pfgdata.query.joined import JoinedColumns
from pfgdata.query.question import RANDOM
from pfgdata.query.ranges import WrongValueError, compared
from pfgdata.query.tags import NO_RATINGS, Tags
from pfgdata.records import did_you_mean, nearest

__all__ = ["Condition", "Metatags", "in_sql", "means_column"]

_RATINGS = {  # as typed -> the tagger's; danbooru's three ratings of before 2022 called the first two safe
    "g": ("general",),
    "s": ("sensitive",),
    "q": ("questionable",),
    "e": ("explicit",),
    "safe": ("general", "sensitive"),
}
_RATIO, _MPIXELS = "round(width / height, 2)", "width / 1e6 * height"
_ALL_TAGS = "(count_tags() + count_characters())"
_NUMBERS: dict[str, tuple[str, Callable[[str], str], bool]] = {  # name -> SQL, reader, whether = means near
    "mpixels": (_MPIXELS, ranges.number, True),
    "ratio": (_RATIO, ranges.ratio, False),
    "filesize": ("size", ranges.size, True),
    "gentags": ("count_tags()", ranges.number, False),
    "chartags": ("count_characters()", ranges.number, False),
    "tagcount": (_ALL_TAGS, ranges.number, False),
}
_ALIASES = {"filetype": "format", "char": "character"}
_NAMES = ("conf", "rating", "order", "limit", "score", *_NUMBERS, *_ALIASES)  # beside columns
_FORMATS = {"jpg": "jpeg", "tif": "tiff"}
_ORDERS = {  # beside columns: name -> value, whether the largest comes first
    "id": ("path", False),
    "landscape": (_RATIO, True),
    "portrait": (_RATIO, False),
}
_LISTS = ("tags", "characters")
_NOT_HERE = {"file", "shard", "row"}
_UNASKED: Mapping[Callable[[pa.DataType], bool], str] = {  # of what no `name:value` is compared to
    pa.types.is_struct: "structs",
    pa.types.is_map: "maps",
    pa.types.is_nested: "lists of other things than texts",
    pa.types.is_duration: "durations",
    pa.types.is_time: "times of day",
}
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


class Condition(NamedTuple):
    """SQL, and whether it may be null, which `-` must not leave so."""

    sql: str
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Metatags:
    """The metatags of one store. All raise QueryError that says what is wrong, not where."""

    tags: Tags
    joined: JoinedColumns

    def knows(self, name: str) -> bool:
        """Whether `name:` begins a metatag."""
        return name in _NAMES or self._column(name) is not None or name in self._categories

    def near(self, name: str) -> list[str]:
        """What `name:` may have been meant as."""
        columns = [known for known in self.joined.names if known not in _NOT_HERE]
        return nearest(name, [*_NAMES, *columns])

    def condition(self, name: str, value: str) -> Condition:
        """The condition that `name:value` is."""
        if not value:
            raise QueryError(f"{name}: has no value")
        try:
            return self._condition(_ALIASES.get(name, name), value)
        except WrongValueError as wrong:
            raise QueryError(f"{name}: {wrong}") from None

    def order(self, value: str) -> str | None:
        """The order that `order:value` asks for, as `Question.order`; None: the corpus's own."""
        name, _, way = value.rpartition("_")
        if way not in ("asc", "desc") or not name:
            name, way = value, ""
        if name == "random":
            return RANDOM
        if name in ("id", "path") and way != "desc":
            return None
        sql, descending = self._ordered(name)
        if way:
            descending = way == "desc"
        return f"-({sql})" if descending else sql

    def limit(self, value: str) -> int:
        """The number of `limit:value`."""
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise QueryError(f"limit: '{value}' is no number of images; write limit:50")
        return int(value)

    def _condition(self, name: str, value: str) -> Condition:
        if name == "rating":
            return Condition(self._rating(value))
        if name == "conf":
            return Condition(self._confidence(value))
        if name in _NUMBERS:
            sql, read, near = _NUMBERS[name]
            return Condition(compared(sql, value, read, equal=ranges.at_most_near(sql) if near else None))
        column = self._column(name)
        if column is None and name in self._categories:
            return Condition(
                f"any_of({', '.join(quoted(self._of_kind(one, name)) for one in value.split(','))})"
            )
        if column is None:
            raise self._missing(name)
        if name == "character" and "*" not in value:
            value = ",".join(self._of_kind(one, name) for one in value.split(","))
        if name == "format":
            value = ",".join(_FORMATS.get(one, one) for one in value.lower().split(","))
        return Condition(self._compared(column, value), nullable=True)

    def _rating(self, value: str) -> str:
        if "rating" not in self.tags.kinds:
            raise QueryError(NO_RATINGS)
        wanted: list[str] = []
        for text in value.lower().split(","):
            number = self.tags.find(text)
            names = _RATINGS.get(text)
            if names is None and (number is None or self.tags.kind_of(number) != "rating"):
                raise QueryError(
                    f"no rating '{text}'; there are g general, s sensitive, q questionable, e explicit, and "
                    "safe for the first two"
                )
            wanted += [name for name in names or (text,) if name not in wanted]
        return ranges.one_of("rating", ",".join(wanted))

    def _confidence(self, value: str) -> str:
        tag, _, bounds = value.rpartition(":")
        if not tag:
            raise QueryError(f"conf: takes a tag and a score: conf:{value}:>0.9")

        def never(one: str) -> str:
            raise WrongValueError(f"a score is never just {one}; write conf:{tag}:>={one}")

        sql = f"score({quoted(self.known(tag))})"
        return compared(sql, bounds, ranges.number, equal=never)

    def _ordered(self, name: str) -> tuple[str, bool]:
        """The value that `order:name` sorts by, and whether its largest comes first."""
        if name in _ORDERS:
            return _ORDERS[name]
        if name.startswith("conf:"):
            return f"score({quoted(self.known(name.removeprefix('conf:')))})", True
        if name in _NUMBERS:
            return _NUMBERS[name][0], True
        column = self._column(_ALIASES.get(name, name))
        if column is None:
            if name == "score":
                raise self._missing(name)
            known = ("id", "random", "landscape", "portrait", "score", *_NUMBERS, *self.joined.names)
            near = nearest(name, [one for one in known if one not in _NOT_HERE])
            hint = did_you_mean(near, f"orders are {', '.join(known[:12])}")
            raise QueryError(f"no order '{name}'; {hint}")
        return in_sql(column), self._kind(column) not in ("text", "structs", "maps")

    def known(self, text: str) -> str:
        """The tag's own spelling."""
        number = self.tags.find(text)
        if number is None:
            raise QueryError(self.tags.unknown(text, None))
        return self.tags.name(number)

    @property
    def _categories(self) -> frozenset[str]:
        """The kinds of tags beside WD14's three that the tagger knows: copyright:, artist:."""
        return self.tags.kinds - {"general", "character", "rating"}

    def _of_kind(self, text: str, kind: str) -> str:
        """The own spelling of a tag of that kind."""
        number = self.tags.find(text)
        if number is None or self.tags.kind_of(number) != kind:
            raise QueryError(self.tags.unknown(text, kind))
        return self.tags.name(number)

    def _column(self, name: str) -> str | None:
        """The column that `name:` means: of that name, or the one that came from danbooru."""
        for known in (name, f"danbooru_{name}"):
            if known in self.joined.names and known not in _NOT_HERE:
                return known
        return None

    def _missing(self, name: str) -> QueryError:
        if name == "score":
            return QueryError(
                "score: is a post's score, of which this store has no column (score or danbooru_score); run: "
                "pfgdata attach danbooru DIR, or pfgdata attach score FILE; a tagger's score is conf:TAG:>0.9"
            )
        return QueryError(f"no metatag {name}:")

    def _kind(self, column: str) -> str:
        """What values of a column are: number, text, texts (a list), truth, time, or a word of `_UNASKED`."""
        if column in _LISTS:
            return "texts"
        values = self.joined.read(column)
        if values is None:
            kind = RAW_COLUMNS[column]
            return "text" if kind in ("VARCHAR", "UUID") else "number"
        return _kind_of(values.type)

    def _compared(self, column: str, value: str) -> str:
        kind, sql = self._kind(column), in_sql(column)
        if kind == "number":
            return compared(sql, value, ranges.number)
        if kind == "time":
            return compared(sql, value, ranges.time)
        if kind == "truth":
            if value.lower() not in _YES + _NO:
                raise WrongValueError(f"'{value}' is neither true nor false")
            return sql if value.lower() in _YES else f"NOT {sql}"
        if kind == "texts":
            texts = [self.known(one) if column in _LISTS else one for one in value.split(",")]
            return f"list_has_any({sql}, [{', '.join(map(quoted, texts))}])"
        if kind == "text":
            return ranges.one_of(sql, value)
        raise WrongValueError(f"the column has {kind}, for which tags have no words; ask it in a condition")


def _kind_of(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _kind_of(kind.value_type)
    if pa.types.is_boolean(kind):
        return "truth"
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _kind_of(kind.value_type) == "text":
        return "texts"
    for holds, word in _UNASKED.items():
        if holds(kind):
            return word
    if pa.types.is_temporal(kind):
        return "time"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "text"


def means_column(name: str) -> bool:
    """Whether `name:` among tags means the user's column of that name: of an old store it may not.

    A new column takes none of those names.
    """
    return name not in _NAMES or name == "score"


def in_sql(column: str) -> str:
    """The column in SQL, in quotes where its name is a word of SQL."""
    (_, kind), *_ = duckdb.tokenize(column)
    return column if kind == duckdb.token_type.identifier or column in RAW_COLUMNS else f'"{column}"'
