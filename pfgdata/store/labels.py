"""What the features of a store are called: the first by its tagger, the sets by their labels."""

from __future__ import annotations

import re

from pfgdata.conventions import Convention
from pfgdata.errors import ConfigError, StoreError
from pfgdata.records import did_you_mean, nearest
from pfgdata.store.feature_sets import FeatureSet
from pfgdata.store.store import Store

__all__ = ["OWN_FEATURE", "feature_labels", "feature_set", "require_label"]

OWN_FEATURE = "tagger"  # the label of the feature that a store's own tagger made
WD_FEATURE = "wd14"  # another of it, where that is one of SmilingWolf's
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # no : + , which separate sets where several are named
_ID = re.compile(r"[0-9a-f]{4,16}")


def feature_labels(store: Store) -> list[str]:
    """What the features of `store` are called: its tagger's first, then the sets by label."""
    return [OWN_FEATURE, *sorted(one.label for one in store.feature_sets())]


def feature_set(store: Store, label: str) -> FeatureSet | None:
    """The set that `store` calls `label`, or whose id begins with it; None: its tagger's own feature.

    That is called `tagger`, by the tagger's name, and wd14 where it is one of SmilingWolf's. Raises
    StoreError where there is none of that label.
    """
    sets = store.feature_sets()
    for one in sets:
        if one.label == label:
            return one
    tagger = store.identity.tagger
    if label in (OWN_FEATURE, tagger.name) or (label == WD_FEATURE and _is_wd(tagger.preprocess)):
        return None
    found = [one for one in sets if _ID.fullmatch(label) and one.id.startswith(label)]
    if len(found) == 1:
        return found[0]
    known = feature_labels(store)
    hint = did_you_mean(nearest(label, known), f"there are {', '.join(known)}")
    many = f"{len(found)} sets have ids that begin with it" if found else "no feature set of that label"
    raise StoreError(f"{store.path}: {label}: {many}; {hint}; pfgdata features makes one")


def require_label(label: str) -> None:
    """Raise ConfigError where no set can be called `label`."""
    if not _LABEL.fullmatch(label):
        raise ConfigError(
            f"{label!r} cannot be the label of a set; use small letters, digits, . _ and -, 64 at most"
        )
    if label in (OWN_FEATURE, WD_FEATURE):
        raise ConfigError(f"{label} is what the store's own tagger's feature is called; take another label")


def _is_wd(preprocess: str) -> bool:
    try:
        return Convention.of(preprocess).is_wd
    except ConfigError:
        return False
