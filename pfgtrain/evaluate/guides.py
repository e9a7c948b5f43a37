"""Who the guides are: a folder of images, with or without guides.jsonl, or a selection of a store.

A guide is one character: its first image guides, its second is the *other view*, all are its real views.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pfgdata.corpus import ReadImage, Segment, WalkCounts, read_image, walk
from pfgdata.errors import ConfigError
from pfgdata.paths import is_text
from pfgdata.records import Selection, StoredImage, shown
from pfgdata.store import IMAGE_COLUMNS, Snapshot, Store, stored_image

__all__ = ["GUIDES_FILE", "Guide", "View", "guides_of_folder", "guides_of_selection", "read_view"]

GUIDES_FILE = "guides.jsonl"
_FIELDS: tuple[tuple[str, type, bool], ...] = (  # of a line; the last says whether it must be there
    ("path", str, True),
    ("character", str, True),
    ("style", str, False),
    ("view", int, False),
    ("tags_coarse", list, False),
)
_WORDS: dict[type, str] = {str: "a text", int: "a whole number", list: "a list of texts"}
View = StoredImage | Path  # one image of a character: a row of a store, or a file
MOST_VIEWS = 4  # of a character of a store: it may have a thousand images, each to be looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """A character and its images, the guide first. `tags`: its true ones; None: what a viewer sees."""

    name: str  # of the guide's image, as it is shown
    character: str | None  # None: not known, so its image is taken for its only one
    views: tuple[View, ...]
    style: str | None = None
    tags: frozenset[str] | None = None
    roots: Mapping[str, str] = field(default_factory=dict)  # where the corpus roots of a store are now


def read_view(guide: Guide, view: View) -> ReadImage:
    """Read and decode one image of a guide. Raises AccessError or ContentError naming the file."""
    return read_image(view, roots=guide.roots)


def guides_of_folder(folder: Path) -> list[Guide]:
    """The characters that guides.jsonl in `folder` names, else each image below it as its own character.

    Order is that of the first image of each, by the file's lines or the names. Raises ConfigError naming the
    line for a file that does not say path and character, and where there is no image at all.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; guides are a folder of images")
    lines = folder / GUIDES_FILE
    guides = _of_lines(folder, _read_lines(lines)) if lines.is_file() else _of_names(folder)
    if not guides:
        raise ConfigError(f"{folder}: holds no image; put the guides there, or name another folder")
    return guides


def guides_of_selection(store: Store, snapshot: Snapshot, selection: Selection) -> list[Guide]:
    """The characters of a selection, by its own character threshold; an image without one is its own.

    Order is the selection's; of one character the first 4 distinct images are taken.
    """
    images = selection.distinct()
    columns = [*IMAGE_COLUMNS, "character", "character_score"]
    table = snapshot.images(columns).take(pa.array(snapshot.positions(images)))
    threshold, roots = selection.thresholds.get("character", 0.85), store.roots()
    found: dict[tuple[str | None, str], list[StoredImage]] = {}
    for row in table.to_pylist():
        image = stored_image(row)
        score = row["character_score"]
        known = row["character"] is not None and score >= np.float16(threshold)
        views = found.setdefault((row["character"], "") if known else (None, str(image)), [])
        if len(views) < MOST_VIEWS:
            views.append(image)
    return [
        Guide(
            name=views[0].keys[0].name,
            character=character,
            views=tuple(views),
            roots=roots,
        )
        for (character, _), views in found.items()
    ]


def _of_names(folder: Path) -> list[Guide]:
    segment = Segment(root=str(folder), location=folder)
    paths = [one.key.path for one in walk(segment, counts=WalkCounts())]
    return [Guide(name=shown(path), character=None, views=(folder / os.fsdecode(path),)) for path in paths]


def _of_lines(folder: Path, rows: Iterable[dict[str, Any]]) -> list[Guide]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["character"], []).append(row)
    guides = []
    for character, views in found.items():
        views.sort(key=lambda row: (row.get("view") or 0, row["path"]))
        first = views[0]
        tags = first.get("tags_coarse")
        guides.append(
            Guide(
                name=first["path"],
                character=character,
                views=tuple(folder / row["path"] for row in views),
                style=first.get("style"),
                tags=None if tags is None else frozenset(tags),
            )
        )
    return guides


def _read_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a JSON text may hold other ends of lines
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(
            f"{path} cannot be read ({problem}); write it as UTF-8, one object a line"
        ) from None
    known = set[str]()
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _checked(line, where=f"{path}, line {number}")
            if row["path"] in known:
                raise ConfigError(
                    f"{path}, line {number}: {row['path']} is named before; name each image once"
                )
            known.add(row["path"])
            rows.append(row)
    return rows


def _checked(line: str, *, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"{where}: no JSON ({problem}); write one object a line") from None
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: no object; write path and character, as {{...}}")
    for name, kind, needed in _FIELDS:
        if (needed or row.get(name) is not None) and not isinstance(row.get(name), kind):
            raise ConfigError(f"{where}: {name} is {row.get(name)!r}, must be {_WORDS[kind]}")
    if not all(isinstance(tag, str) for tag in row.get("tags_coarse") or []):
        raise ConfigError(f"{where}: tags_coarse must be a list of texts")
    for text in (row["path"], row["character"], row.get("style") or "", *(row.get("tags_coarse") or [])):
        if "\0" in text or not is_text(text):
            raise ConfigError(f"{where}: {text!r} holds a NUL or half a letter; correct it")
    return row
