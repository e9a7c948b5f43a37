"""How a model wants its pictures and gives its tags, as one value; its text is `TaggerIdentity.preprocess`.

The text of what SmilingWolf's models take is the name of their square alone (kohya), as every record has had
it from the first; any other convention is a line of clauses that says everything (docs/taggers.md).
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from pfgdata.errors import ConfigError, refused_by_system

__all__ = ["PREPROCESSINGS", "SELECTED_TAGS", "WD", "Convention", "Labels", "Step", "read_convention"]

PREPROCESSINGS = (
    "kohya",
    "webui",
    "pfg-train",
    "smilingwolf",
)  # squares with a name, pfgdata.images makes them
SELECTED_TAGS = "selected_tags.csv"
Filter = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_FILE = re.compile(r"[\w.-]+\.(?:csv|json)", re.ASCII)
_WORD = re.compile(r"[a-z][a-z_]*")
_STEPS = {  # the words behind each kind of step
    "pad": ("colour",),
    "fit": ("size", "filter", "colour", "rounding"),
    "stretch": ("size", "filter"),
    "shorter": ("size", "filter"),
    "crop": ("size",),
}
_HINT = "pad COLOUR, fit SIZE FILTER COLOUR round|floor, stretch SIZE FILTER, shorter SIZE FILTER, crop SIZE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step from a picture on white to the square.

    pad: centred on a square of `colour`, the picture's longer side wide. fit: its longer side becomes `size`,
    its shorter by `rounding`, then as pad. stretch: both sides become `size`. shorter: its shorter side does.
    crop: the middle `size` x `size`, black where there is no picture. A name: that whole square.
    """

    kind: str
    size: int = 0
    filter: Filter = "bilinear"
    colour: tuple[int, int, int] = (255, 255, 255)
    rounding: Literal["round", "floor"] = "round"

    @classmethod
    def of(cls, text: str) -> Step:
        """The step that a clause says. Raises ConfigError."""
        kind, *words = text.split() or [""]
        if kind in PREPROCESSINGS and not words:
            return cls(kind=kind)
        names = _STEPS.get(kind)
        if names is None or len(names) != len(words):
            raise ConfigError(
                f"no step {text!r} of a square; one is a name ({', '.join(PREPROCESSINGS)}) or {_HINT}"
            )
        return cls(kind=kind, **{name: _READ[name](word) for name, word in zip(names, words, strict=True)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The file of the tags: a CSV with these columns, or a JSON (tag_mapping.json, config.json) without.

    `categories` names the numbers of the column; a JSON names its categories itself.
    """

    file: str = SELECTED_TAGS
    name: str = "name"
    category: str = "category"
    count: str = "count"
    categories: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.file):
            raise ConfigError(f"labels: {self.file!r} is no name of a .csv or .json file beside the model")
        for column in (self.name, self.category, self.count):
            if not re.fullmatch(r"[\w-]+", column):
                raise ConfigError(f"labels: {column!r} is no column of one word")
        for number, name in self.categories:
            if not 0 <= number <= 255 or not _WORD.fullmatch(name):
                raise ConfigError(
                    f"categories: {number} = {name!r}; a number of 0 to 255 has a name in small letters"
                )


@dataclass(frozen=True, kw_only=True)
class Convention:
    """What a tagger takes and gives. Raises ConfigError for what cannot be one.

    `size` and `layout` of None are as the graph says. It takes a pixel's 0..255; where there are `mean` and
    `std`, in the order of `channels`, (pixel / 255 - mean) / std.
    """

    size: int | None = None
    layout: Literal["NHWC", "NCHW"] | None = None
    channels: Literal["RGB", "BGR"] = "BGR"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    square: tuple[str, ...] = (PREPROCESSINGS[0],)
    output: Literal["probabilities", "logits", "feature"] = "probabilities"
    labels: Labels = Labels()

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ConfigError("a convention has mean and std, or neither (its numbers are 0 to 255)")
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"std {self.std}: is above 0")
        if self.size is not None and not 1 <= self.size <= 8192:
            raise ConfigError(f"size {self.size}: is 1 to 8192 pixels")
        if self.output == "feature" and self.labels != Labels():
            raise ConfigError("labels: an extractor's convention has none, its output is a feature")
        _require_square(self.steps, self.size)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The square, step by step."""
        return tuple(Step.of(text) for text in self.square)

    @property
    def is_wd(self) -> bool:
        """Whether it is that of SmilingWolf's models, by one of the named squares."""
        return replace(self, square=WD.square) == WD and self.square[0] in PREPROCESSINGS

    def longer_side(self, size: int) -> int | None:
        """What a square of `size` makes of a picture's longer side first; None where that is not given."""
        first = self.steps[0]
        return {"fit": first.size, "stretch": None, "shorter": None, "crop": None}.get(first.kind, size)

    def with_square(self, name: str) -> Convention:
        """It with a named square in the place of its own. Raises ConfigError for another name."""
        if name not in PREPROCESSINGS:
            raise ConfigError(f"no preprocessing {name!r}; it is one of {', '.join(PREPROCESSINGS)}")
        return replace(self, square=(name,))

    def of_feature(self) -> Convention:
        """It with nothing said of tags: that of an extractor which takes the same pictures."""
        return replace(self, output="feature", labels=Labels())

    @property
    def text(self) -> str:
        """One line from which `of` makes it again; equal for equal ones."""
        return self.square[0] if self.is_wd else "; ".join(" ".join(words) for words in self.clauses())

    def clauses(self) -> Iterator[tuple[str, ...]]:
        """Each thing it says as words, the first of which names it."""
        if self.size is not None:
            yield "size", str(self.size)
        if self.layout is not None:
            yield "layout", self.layout
        yield "channels", self.channels
        if self.mean is not None and self.std is not None:
            yield "mean", *(repr(value) for value in self.mean)
            yield "std", *(repr(value) for value in self.std)
        for step in self.square:
            yield "square", *step.split()
        yield "output", self.output
        if self.output == "feature":
            return
        labels = self.labels
        columns = (labels.name, labels.category, labels.count) if labels.file.endswith(".csv") else ()
        yield "labels", labels.file, *columns
        if labels.categories:
            yield "categories", *(f"{number}={name}" for number, name in labels.categories)

    def as_record(self) -> dict[str, Any]:
        """The table that `from_record` reads."""
        record: dict[str, Any] = {}
        for name, *words in self.clauses():
            if name == "square":
                record.setdefault(name, []).append(" ".join(words))
            elif name == "labels":
                record |= {name: words[0], **({"columns": words[1:]} if words[1:] else {})}
            elif name == "categories":
                record[name] = dict(word.split("=") for word in words)
            elif name == "size":
                record[name] = int(words[0])
            else:
                record[name] = [float(word) for word in words] if name in ("mean", "std") else words[0]
        return record

    @classmethod
    def of(cls, text: str) -> Convention:
        """The convention that `text` is of, or the name of a square. Raises ConfigError."""
        return _of(text)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, where: str) -> Convention:
        """The convention that a TOML or JSON table says, all of it. Raises ConfigError naming `where`."""
        optional: tuple[str, ...] = ("size", "layout", "mean", "std", "columns", "categories")
        needed: tuple[str, ...] = ("channels", "square", "output", "labels")
        if record.get("output") == "feature":
            optional, needed = optional[:4], needed[:3]
        wrong = [key for key in record if key not in (*needed, *optional)]
        missing = [key for key in needed if key not in record]
        if wrong or missing:
            what = f"does not know {', '.join(wrong)}" if wrong else f"lacks {', '.join(missing)}"
            raise ConfigError(f"{where}: a convention {what}; it has {', '.join((*needed, *optional))}")
        try:
            return cls(**_values(record))
        except (ConfigError, TypeError, ValueError, AttributeError, OverflowError) as problem:
            raise ConfigError(f"{where}: {problem}") from None


def read_convention(path: Path, *, of_feature: bool = False) -> Convention:
    """The convention in a .toml or .json file. Raises ConfigError.

    `of_feature` is that of an extractor: it says nothing of tags, or is read as if it did not.
    """
    try:
        text = path.read_text("utf-8")
        record = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as problem:  # of both parsers, and of what is not UTF-8
        raise ConfigError(
            f"{path}: {refused_by_system(problem) or f'cannot be read: {problem}'}"
        ) from problem
    if not isinstance(record, dict):
        raise ConfigError(f"{path}: is no table of keys and values")
    if of_feature:
        record = {"output": "feature", **record}
        return Convention.from_record(record, where=str(path)).of_feature()
    return Convention.from_record(record, where=str(path))


@lru_cache(maxsize=64)  # asked for every picture
def _of(text: str) -> Convention:
    if text in PREPROCESSINGS:
        return replace(WD, square=(text,))
    said: dict[str, Any] = {}
    try:
        for clause in text.split("; "):
            name, _, rest = clause.partition(" ")
            if name == "square":
                said["square"] = (*said.get("square", ()), rest)
            elif name == "labels":
                file, *columns = rest.split()
                said |= {"labels": file, **({"columns": columns} if columns else {})}
            elif name == "categories":
                said[name] = dict(pair.split("=") for pair in rest.split())
            else:
                said[name] = [float(word) for word in rest.split()] if name in ("mean", "std") else rest
        known = {*(one.name for one in fields(Convention)), "columns", "categories"}
        needed = {"channels", "square", "output", *(("labels",) if said.get("output") != "feature" else ())}
        if not needed <= said.keys() <= known:
            raise ValueError
        return Convention(**_values(said))
    except (ConfigError, TypeError, ValueError):
        raise ConfigError(f"no preprocessing {text!r}; it is one of {', '.join(PREPROCESSINGS)}") from None


def _values(said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Convention, of what a table or a text says of them."""
    square = said["square"]
    columns = dict(zip(("name", "category", "count"), said.get("columns", ()), strict=False))
    categories = tuple(
        sorted((int(number), name) for number, name in dict(said.get("categories", {})).items())
    )
    found: dict[str, Any] = {
        "square": (square,) if isinstance(square, str) else tuple(square),
    }
    if "labels" in said:
        found["labels"] = Labels(file=said["labels"], **columns, categories=categories)
    if "size" in said:
        found["size"] = _size(str(said["size"]))
    for name, known in (("layout", ("NHWC", "NCHW")), ("channels", ("RGB", "BGR")), ("output", _OUTPUTS)):
        if name in said:
            found[name] = _one_of(name, said[name], known)
    for name in ("mean", "std"):
        if name in said:
            found[name] = _three(name, said[name])
    return found


_OUTPUTS = ("probabilities", "logits", "feature")


def _three(name: str, values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{name} {list(numbers)}: has three numbers")
    return numbers


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"{name} {value!r}: is {' or '.join(known)}")
    return str(value)


def _size(word: str) -> int:
    if not (re.fullmatch("[0-9]{1,4}", word) and 1 <= int(word) <= 8192):
        raise ConfigError(f"a size is 1 to 8192 pixels, not {word[:20]!r}")
    return int(word)


def _colour(word: str) -> tuple[int, int, int]:
    if not _COLOUR.fullmatch(word):
        raise ConfigError(f"a colour is written #rrggbb in small letters, not {word!r}")
    return int(word[1:3], 16), int(word[3:5], 16), int(word[5:7], 16)


_READ: Mapping[str, Any] = {
    "size": _size,
    "colour": _colour,
    "filter": lambda word: _one_of("filter", word, get_args(Filter)),
    "rounding": lambda word: _one_of("rounding", word, ("round", "floor")),
}


def _require_square(steps: tuple[Step, ...], size: int | None) -> None:
    """Raise ConfigError unless the steps end in a square of `size` pixels."""
    if not steps:
        raise ConfigError(f"square: has no steps; one is a name ({', '.join(PREPROCESSINGS)}) or {_HINT}")
    if any(step.kind in PREPROCESSINGS for step in steps):
        if len(steps) > 1:
            raise ConfigError("square: a name stands alone, it is a whole square")
        return
    is_square = any(step.kind != "shorter" for step in steps)
    if not is_square or steps[-1].size != size:
        raise ConfigError(f"square: its steps must end with a square of {size} pixels, as size says")


WD = Convention()  # what SmilingWolf's models take, by the first of the named squares
