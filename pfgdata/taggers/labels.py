"""The tags of a tagger that is not WD14's, from the file that its convention names.

Names come out as danbooru writes them (underscores, rating:g as general), so that every store is asked alike.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.conventions import Convention, Labels
from pfgdata.errors import VocabularyError, refused_by_system
from pfgdata.paths import is_text
from pfgdata.vocabulary import CATEGORIES, Vocabulary

__all__ = ["DANBOORU", "read_labels"]

DANBOORU = ((0, "general"), (1, "artist"), (3, "copyright"), (4, "character"), (5, "meta"), (9, "rating"))
_NUMBERS = {name: number for number, name in CATEGORIES.items()}
_RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
_Row = tuple[str, str, int]  # tag, name of its category, count in training


def read_labels(folder: Path, convention: Convention) -> Vocabulary:
    """The tags in the file of `folder` that `convention` names.

    Of two tags with one name the later is called NAME_(CATEGORY). Raises VocabularyError.
    """
    path = folder / convention.labels.file
    if convention.is_wd:
        return Vocabulary.read(path)
    try:
        return _vocabulary(list(_rows(path, convention.labels)))
    except FileNotFoundError:
        raise VocabularyError(f"{path} is missing; place the model's file of tags there") from None
    except VocabularyError as problem:
        raise VocabularyError(f"{path}: {problem}") from None
    except (OSError, ValueError, OverflowError, RecursionError, csv.Error) as problem:  # of JSON too
        raise VocabularyError(
            f"{path}: {refused_by_system(problem) or f'cannot be read: {problem}'}"
        ) from problem


def _vocabulary(rows: list[_Row]) -> Vocabulary:
    unknown = sorted({category for _, category, _ in rows} - _NUMBERS.keys())
    if unknown:
        raise VocabularyError(f"no category {', '.join(unknown)}; known are {', '.join(sorted(_NUMBERS))}")
    odd = [tag for tag, _, _ in rows if not isinstance(tag, str) or not is_text(tag)]
    if odd:
        raise VocabularyError(f"the tag {odd[0]!r} is no text")
    taken: set[str] = set()
    names = []
    for tag, category, _ in rows:
        name = _spelt(tag, category)
        if name in taken:
            name = f"{name}_({category})"
        if not name or name in taken:
            raise VocabularyError(f"the tag {tag!r} of category {category} stands there twice, or is empty")
        taken.add(name)
        names.append(name)
    return Vocabulary(
        names=tuple(names),
        categories=np.array([_NUMBERS[category] for _, category, _ in rows], np.uint8),
        counts=np.array([count for _, _, count in rows], np.int64),
    )


def _spelt(tag: str, category: str) -> str:
    """A tag as danbooru spells it; of ratings their whole name."""
    name = "_".join(tag.split())
    if category != "rating":
        return name
    name = name.lower().removeprefix("rating:").removeprefix("rating_")
    return _RATINGS.get(name, name)


def _rows(path: Path, labels: Labels) -> Iterator[_Row]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from _of_csv(file, labels)
        return
    record = json.loads(path.read_text("utf-8"))
    for fits, read in _FORMS:
        if isinstance(record, dict) and fits(record):
            try:
                yield from read(record)
            except (KeyError, TypeError, AttributeError) as problem:
                raise VocabularyError(f"is not as such files are ({problem!r})") from None
            return
    raise VocabularyError("names no tags in a form that is known (idx_to_tag, tags and tags_split, a table)")


def _of_csv(file: Any, labels: Labels) -> Iterator[_Row]:
    table = csv.DictReader(file)
    lacking = [column for column in (labels.name, labels.category) if column not in (table.fieldnames or ())]
    if lacking:
        found = ", ".join(table.fieldnames or ()) or "none"
        raise VocabularyError(f"no column {', '.join(lacking)}; its columns are {found}")
    categories = dict(labels.categories or DANBOORU)
    for row in table:
        try:
            number, count = int(row[labels.category]), int(float(row.get(labels.count) or 0))
            yield str(row[labels.name] or ""), categories[number], count
        except (TypeError, ValueError, OverflowError):  # None where a line is too short
            raise VocabularyError(
                f"line {table.line_num}: a tag is a name, the number of a category, a count"
            ) from None
        except KeyError:
            named = ", ".join(f"{number} {name}" for number, name in categories.items())
            raise VocabularyError(
                f"line {table.line_num}: category {row[labels.category]} has no name; there are {named}: "
                "say categories in a convention"
            ) from None


def _of_indexed(record: Mapping[str, Any]) -> Iterator[_Row]:
    """cl_tagger's first form: two tables, by number and by tag."""
    for tag in _in_order(record["idx_to_tag"]):
        yield tag, str(record["tag_to_category"][tag]).lower(), 0


def _of_table(record: Mapping[str, Any]) -> Iterator[_Row]:
    """cl_tagger's tag_mapping.json: number -> tag and category."""
    for entry in _in_order(record):
        yield entry["tag"], str(entry["category"]).lower(), 0


def _of_split(record: Mapping[str, Any]) -> Iterator[_Row]:
    """PixAI's config.json: all tags, and how many of each category in turn."""
    sizes = [(str(category).lower(), int(count)) for category, count in record["tags_split"]]
    if sum(count for _, count in sizes) != len(record["tags"]):
        raise VocabularyError("tags_split does not add up to tags")
    categories = (category for category, count in sizes for _ in range(count))
    for tag, category in zip(record["tags"], categories, strict=True):
        yield tag, category, 0


def _in_order(table: Mapping[str, Any]) -> list[Any]:
    """The values by number; each from 0 on must be there."""
    numbered = {int(number): value for number, value in table.items()}
    missing = [number for number in range(len(numbered)) if number not in numbered]
    if missing:
        raise VocabularyError(f"no tag has the number {missing[0]}")
    return [numbered[number] for number in range(len(numbered))]


_FORMS: tuple[
    tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], Iterator[_Row]]], ...
] = (
    (lambda record: "idx_to_tag" in record, _of_indexed),
    (lambda record: "tags_split" in record, _of_split),
    (lambda record: bool(record) and all(key.isascii() and key.isdigit() for key in record), _of_table),
)
