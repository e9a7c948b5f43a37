"""What the adapters of a run read, in order: asked in words, found in a store, recorded, read back.

`wd14:5,dino:4` is two adapters, `wd14+clip:5` one on both sets. A run that is asked for nothing has one, on
the feature of the store's tagger.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from pfgdata.errors import ConfigError

__all__ = [
    "TAGGER_LABEL",
    "TOKENS",
    "AdapterAsked",
    "AdapterPlan",
    "FeaturePlan",
    "FeatureSource",
    "adapters_asked",
    "named_parts",
    "numbers_of",
    "require_features",
    "values_of",
]

TAGGER_LABEL = "tagger"  # of the feature that a store's own tagger gave
TOKENS = 5  # the article's, and those of most adapters that are published
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterAsked:
    """One adapter as it is asked for: the labels of its feature sets, and its tokens if they are told."""

    labels: tuple[str, ...]
    num_tokens: int | None

    @property
    def name(self) -> str:
        """How options call it."""
        return "+".join(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSource:
    """A feature set as a run has it on record."""

    label: str
    feature_dim: int
    identity: Mapping[str, Any] | None = None  # what its vectors mean; None: those of the run's tagger
    extractor: str | None = None  # the model that makes them, by its name; for people, and to load it again
    revision: str | None = None

    @property
    def decisive(self) -> tuple[object, ...]:
        """What two sets must share for their vectors to mean the same."""
        return (self.feature_dim, self.identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan:
    """One adapter: the sets that it reads side by side, the tokens it makes."""

    sets: tuple[FeatureSource, ...]
    num_tokens: int

    @property
    def name(self) -> str:
        """How options call it."""
        return "+".join(one.label for one in self.sets)

    @property
    def feature_dim(self) -> int:
        """Numbers that it reads."""
        return sum(one.feature_dim for one in self.sets)

    @property
    def weights(self) -> tuple[float, ...]:
        """What the standardized vector of each set is multiplied by, so that a wide one counts no more.

        Each is divided by the root of its width, and all multiplied by the root of the mean width: a mix has
        the variance, and so the start and the rate, of one set; of a set alone it is 1.
        """
        mean = self.feature_dim / len(self.sets)
        return tuple(math.sqrt(mean / one.feature_dim) for one in self.sets)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePlan:
    """The adapters of a run in the order of their tokens; of num_tokens = 0, one that makes none."""

    adapters: tuple[AdapterPlan, ...]

    @classmethod
    def of_tagger(cls, *, feature_dim: int, num_tokens: int) -> Self:
        """One adapter on the tagger's feature."""
        source = FeatureSource(label=TAGGER_LABEL, feature_dim=feature_dim)
        return cls(adapters=(AdapterPlan(sets=(source,), num_tokens=num_tokens),))

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Self:
        """The plan on record, as `as_records` gave it. Raises KeyError or TypeError where it is none."""
        return cls(
            adapters=tuple(
                AdapterPlan(
                    sets=tuple(FeatureSource(**one) for one in record["sets"]),
                    num_tokens=record["num_tokens"],
                )
                for record in records
            )
        )

    def as_records(self) -> list[dict[str, Any]]:
        """For run.json and what is exported; nothing where it is the tagger's alone, as it always was."""
        if self.is_tagger_alone:
            return []
        return [
            {"sets": [asdict(source) for source in one.sets], "num_tokens": one.num_tokens}
            for one in self.adapters
        ]

    @property
    def sets(self) -> tuple[FeatureSource, ...]:
        """All that is read, in the order of the columns of a feature."""
        return tuple(source for one in self.adapters for source in one.sets)

    @property
    def feature_dim(self) -> int:
        """Numbers of all sets side by side."""
        return sum(source.feature_dim for source in self.sets)

    @property
    def num_tokens(self) -> int:
        """Of all adapters."""
        return sum(one.num_tokens for one in self.adapters)

    @property
    def names(self) -> tuple[str, ...]:
        """How options call the adapters."""
        return tuple(one.name for one in self.adapters)

    @property
    def text(self) -> str:
        """As it is asked for."""
        return ",".join(f"{one.name}:{one.num_tokens}" for one in self.adapters)

    @property
    def mixes(self) -> bool:
        """Whether an adapter reads several sets, which are then standardized."""
        return any(len(one.sets) > 1 for one in self.adapters)

    @property
    def is_tagger_alone(self) -> bool:
        """Whether it is one adapter, on the tagger's feature."""
        return len(self.sets) == 1 and self.sets[0].identity is None

    @property
    def decisive(self) -> list[object]:
        """What two plans must share for weights of the one to mean the same in the other."""
        return [([source.decisive for source in one.sets], one.num_tokens) for one in self.adapters]

    def named(self, rename: Callable[[str], str]) -> FeaturePlan:
        """The same with its extractors called otherwise."""

        def renamed(source: FeatureSource) -> FeatureSource:
            return source if source.extractor is None else replace(source, extractor=rename(source.extractor))

        adapters = [replace(one, sets=tuple(map(renamed, one.sets))) for one in self.adapters]
        return replace(self, adapters=tuple(adapters))


def adapters_asked(text: str) -> tuple[AdapterAsked, ...]:
    """What `text` asks for, `wd14:5,dino:4`. Raises ConfigError for what it cannot mean."""
    found = []
    for part in text.split(","):
        names, colon, count = part.strip().partition(":")
        labels = tuple(name.strip() for name in names.split("+"))
        told = count.strip()
        if not all(map(_LABEL.fullmatch, labels)) or (colon and not (told.isdecimal() and int(told))):
            raise ConfigError(
                f'features = "{text}": {part.strip()!r} is no set with its tokens; write wd14:5,dino:4, or'
                " wd14+clip:5 for one adapter on both"
            )
        found.append(AdapterAsked(labels=labels, num_tokens=int(told) if colon else None))
    every = [label for one in found for label in one.labels]
    if twice := next((label for label in every if every.count(label) > 1), None):
        raise ConfigError(f'features = "{text}": names {twice} twice; each set is read once')
    return tuple(found)


def named_parts(text: str) -> list[str]:
    """The parts NAME=VALUE of `text`, cut only before a name: a value may have commas in it, as paths do."""
    return re.split(rf",(?=\s*{_LABEL.pattern}\s*=)", text)


def values_of(text: str, names: Sequence[str], *, key: str) -> dict[str, str]:
    """What `text` says of some of `names`, as `dino=0.2,wd14=0.1`. Raises ConfigError naming `key`."""
    found: dict[str, str] = {}
    for part in named_parts(text):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value or name in found:
            raise ConfigError(f'{key} = "{text}": {part.strip()!r} is not NAME=VALUE, once for each name')
        if name not in names:
            known = (
                f"is none of {', '.join(names)}" if names else "is not read: the tagger's feature alone is"
            )
            raise ConfigError(f'{key} = "{text}": {name} {known}')
        found[name] = value
    return found


def numbers_of(text: str | None, names: Sequence[str], *, key: str, default: float) -> tuple[float, ...]:
    """The number of each of `names` that `text` gives, else `default`. Raises ConfigError naming `key`."""
    told = values_of(text, names, key=key) if text else {}
    found = []
    for name in names:
        try:
            found.append(float(told.get(name, default)))
        except ValueError:
            raise ConfigError(f'{key} = "{text}": {told[name]!r} is no number') from None
        if not math.isfinite(found[-1]):
            raise ConfigError(f'{key} = "{text}": {told[name]} is not finite')
    return tuple(found)


def require_features(
    features: str | None, dropout: str | None, *, allow_missing: bool, num_tokens: int | None
) -> None:
    """Raise ConfigError unless the keys of a config that say what its adapters read go together."""
    asked = adapters_asked(features) if features is not None else ()
    if dropout and not asked:
        raise ConfigError("feature_dropout is of use with features alone; take pfg_dropout")
    for share in numbers_of(dropout, [one.name for one in asked], key="feature_dropout", default=0.0):
        if not 0.0 <= share <= 1.0:
            raise ConfigError(f'feature_dropout = "{dropout}": {share:g} is not 0 to 1')
    if allow_missing and not asked:
        raise ConfigError("allow_missing is of use with features alone: the tagger's are never missing")
    made = sum(one.num_tokens or TOKENS for one in asked)
    if asked and num_tokens not in (None, made):
        raise ConfigError(
            f'num_tokens = {num_tokens} is not the {made} that features = "{features}" makes; leave it out,'
            " and say the tokens there"
        )
