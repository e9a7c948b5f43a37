"""Who may see which character: the one split that tagger, base, run and evaluation obey.

The split is by character, never by picture: four views of one face are nearly the same picture, so a split by
picture would measure memory. It lies in `split.json` as ranges of the number in a character's name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pfgdata.errors import ConfigError

SPLIT_FILE = Path(__file__).with_name("split.json")
_NAME = re.compile(r"^[a-z-]+-[a-z](\d{4})$")  # lorelei-p0123: style, corpus letter, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Ranges of character numbers by corpus and role; both ends belong to the range."""

    ranges: dict[str, dict[str, tuple[int, int]]]

    def role(self, corpus: str, character: str) -> str:
        """What `character` of `corpus` is for, such as 'train'; ConfigError if the split does not say."""
        number = character_number(character)
        for role, (first, last) in self.ranges.get(corpus, {}).items():
            if first <= number <= last:
                return role
        raise ConfigError(f"{SPLIT_FILE}: says nothing about {character} of {corpus}; add its range there")


def character_number(character: str) -> int:
    """The number in a character's name: 123 for 'lorelei-p0123'."""
    found = _NAME.match(character)
    if found is None:
        raise ConfigError(f"{character!r}: no corpus name of a character; expected one like lorelei-p0123")
    return int(found[1])


def load_split(path: Path = SPLIT_FILE) -> Split:
    """Read the split; the default is the project's own."""
    tables = json.loads(path.read_text(encoding="utf-8"))
    ranges = {
        corpus: {role: (int(first), int(last)) for role, (first, last) in roles.items()}
        for corpus, roles in tables.items()
        if isinstance(roles, dict)
    }
    return Split(ranges=ranges)
