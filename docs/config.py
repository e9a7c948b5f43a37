"""Writes docs/config.md, every key of a fit's TOML, from `FitConfig`: `python -m docs.config`.

The sentence below each field of the class is the only place where a key is explained;
tests/test_cli_help.py fails when the page no longer says the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pfgdata.flags import field_texts
from pfgtrain.config import FitConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["TARGET", "render_config"]

TARGET = Path(__file__).with_suffix(".md")
_HEAD = """# Keys of a fit

Written by `python -m docs.config` from `pfgtrain.config.FitConfig`; change the class, not this file.

A TOML file for `pfgtrain fit --config FILE` holds these keys alone, or in the table `[fit]` of a recipe.
Flags stand above the file. A key that is not here is refused, with the nearest name. Every run keeps its own
as `config.toml`.

| key | default | |
|---|---|---|
"""


def render_config() -> str:
    """The text of docs/config.md."""
    return _HEAD + "".join(_rows(FitConfig))


def _rows(kind: type[DataclassInstance], *, within: str = "") -> Iterator[str]:
    """A line for each key, one of a table in the table as `table.key`."""
    told = field_texts(kind)
    for field in fields(kind):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        name, default = within + field.name, "" if value is None else f"`{value}`"
        if is_dataclass(value) and not isinstance(value, type):
            yield f"| `{name}` | | {told[field.name]} |\n"
            yield from _rows(type(value), within=f"{name}.")
        else:
            yield f"| `{name}` | {default} | {told[field.name]} |\n"


if __name__ == "__main__":
    TARGET.write_text(render_config())
