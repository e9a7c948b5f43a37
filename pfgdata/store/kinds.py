"""The kinds of derived sets that stand in a store: what verify, repair and gc look after."""

from __future__ import annotations

from typing import Any

from pfgdata.store.derived_sets import DerivedSet
from pfgdata.store.feature_sets import FeatureSet
from pfgdata.store.latent_sets import LatentSet

__all__ = ["DERIVED_KINDS"]

DERIVED_KINDS: tuple[type[DerivedSet[Any, Any]], ...] = (LatentSet, FeatureSet)
