"""What a loaded tagger is, for people and programs: its convention and who says it, its tags, its feature."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from pfgdata.taggers.catalog import CATALOG
from pfgdata.taggers.onnx import OnnxTagger
from pfgdata.vocabulary import CATEGORIES

__all__ = ["TaggerFacts", "describe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerFacts:
    """A tagger whose feature was proved. `convention` is what --convention takes in a .json file."""

    name: str
    licence: str | None  # None of what is not in the catalog
    gated: bool | None
    source: str  # who says the convention
    convention: dict[str, Any]
    preprocess: str  # as records have it
    image_size: int
    tags: dict[str, int]  # of each category
    has_ratings: bool
    feature_node: str
    feature_dim: int
    fused: str  # what of the graph runs as one operator

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_lines(self) -> dict[str, str]:
        """For people."""
        convention = {name: _shown(value) for name, value in self.convention.items()}
        told = self.licence and f"licence {self.licence}, {'gated' if self.gated else 'not gated'}"
        return {
            "tagger": f"{self.name} ({told or 'not in the catalog: see its own page for its licence'})",
            "convention": f"from {self.source}",
            **{f"  {name}": value for name, value in convention.items()},
            "square": f"{self.image_size} x {self.image_size}",
            "tags": ", ".join(f"{count:,} {category}" for category, count in self.tags.items()),
            "rating": "general, sensitive, questionable, explicit"
            if self.has_ratings
            else "none: null in a store",
            "feature": f"{self.feature_dim} wide, {self.feature_node}; sigmoid(W f + b) gives the scores",
            "fused": self.fused,
            "on record": self.preprocess,
        }


def describe(tagger: OnnxTagger) -> TaggerFacts:
    """What `tagger` is."""
    entry = CATALOG.get(tagger.identity.name)
    categories = [CATEGORIES.get(number, "of no group") for number in tagger.vocabulary.categories.tolist()]
    return TaggerFacts(
        name=tagger.identity.name,
        licence=entry.licence if entry else None,
        gated=entry.gated if entry else None,
        source=tagger.stated.source,
        convention=tagger.stated.convention.as_record(),
        preprocess=tagger.identity.preprocess,
        image_size=tagger.image_size,
        tags=dict(Counter(categories).most_common()),
        has_ratings=len(tagger.vocabulary.rating_ids) > 0,
        feature_node=tagger.identity.feature_node,
        feature_dim=tagger.feature_dim,
        fused=str(tagger.fused),
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} {name}" for number, name in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
