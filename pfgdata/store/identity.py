"""What a store is of: its tagger, vocabulary and score floor (store.json), and its corpus roots (roots.json).

store.json is written last when a store is made, so a folder without it is no store yet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from pfgdata.errors import IdentityError, NoStoreError, StoreError, StoreFormatError
from pfgdata.records import TaggerIdentity
from pfgdata.store.layout import FORMAT, canonical_json, read_json
from pfgdata.vocabulary import Vocabulary

__all__ = [
    "SCORE_FLOOR",
    "StoreIdentity",
    "identity_bytes",
    "read_identity",
    "read_roots",
    "read_vocabulary",
    "require_same_tagger",
    "roots_bytes",
    "vocabulary_table",
]

SCORE_FLOOR = 0.05  # 80 tags an image on average lie above it; thresholds are chosen at query time


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIdentity:
    """The store.json of a store: two stores with equal identities hold comparable rows."""

    tagger: TaggerIdentity
    vocabulary_digest: str
    feature_dim: int
    score_floor: float = SCORE_FLOOR


def identity_bytes(identity: StoreIdentity, *, created: str, vocabulary: bytes) -> bytes:
    """The bytes of store.json; `created` is an ISO time for people, `vocabulary` the bytes of that file."""
    files = {"vocabulary.parquet": {"size": len(vocabulary), "blake3": blake3(vocabulary).hexdigest()}}
    return canonical_json({"format": FORMAT, "created": created, "files": files, **asdict(identity)})


def read_identity(store: Path) -> StoreIdentity:
    """Read store.json. Raises NoStoreError, or StoreFormatError for a newer or damaged one."""
    path = store / "store.json"
    if not path.is_file():
        raise NoStoreError(f"{store}: no store here; make one with: pfgdata ingest IMAGES --store {store}")
    value = read_json(path, error=StoreFormatError, advice="restore it from a backup")
    if value["format"] > FORMAT:
        raise StoreFormatError(
            f"{store}: written in format {value['format']}, this pfgdata reads up to {FORMAT}; upgrade pfg"
        )
    return StoreIdentity(
        tagger=TaggerIdentity(**value["tagger"]),
        vocabulary_digest=value["vocabulary_digest"],
        feature_dim=value["feature_dim"],
        score_floor=value["score_floor"],
    )


def require_same_tagger(theirs: TaggerIdentity, ours: TaggerIdentity, *, where: str) -> None:
    """Raise IdentityError unless features of both mean the same; `where` names the record on disk."""
    if theirs.decisive == ours.decisive:
        return
    names = ("weights", "feature node", "recipe", "decode version")
    differ = [
        f"{name} {str(a)[:12]} against {str(b)[:12]}"
        for name, a, b in zip(names, theirs.decisive, ours.decisive, strict=True)
        if a != b
    ]
    raise IdentityError(
        f"{where} is of tagger {theirs.name} ({theirs.recipe}), not {ours.name} ({ours.recipe}): "
        f"{', '.join(differ)}; use the same tagger and recipe, or another folder"
    )


def vocabulary_table(vocabulary: Vocabulary) -> pa.Table:
    """`vocabulary` as vocabulary.parquet holds it: row j is score column j."""
    return pa.table(
        {
            "name": pa.array(vocabulary.names, pa.string()),
            "category": pa.array(vocabulary.categories, pa.uint8()),
            "count": pa.array(vocabulary.counts, pa.int64()),
        }
    )


def read_vocabulary(store: Path, identity: StoreIdentity) -> Vocabulary:
    """Read vocabulary.parquet, checked against the digest in store.json."""
    path = store / "vocabulary.parquet"
    try:
        table = pq.read_table(path)
        vocabulary = Vocabulary(
            names=tuple(table["name"].to_pylist()),
            categories=table["category"].to_numpy().astype(np.uint8),
            counts=table["count"].to_numpy().astype(np.int64),
        )
    except (OSError, pa.ArrowException, KeyError) as problem:
        raise StoreError(f"{path}: unreadable ({problem}); restore it from a backup") from problem
    if vocabulary.digest != identity.vocabulary_digest:
        raise StoreError(f"{path}: not the vocabulary named in store.json; restore it from a backup")
    return vocabulary


def roots_bytes(roots: dict[str, str]) -> bytes:
    """The bytes of roots.json: corpus root -> the folder where it is now."""
    return canonical_json({"roots": roots})


def read_roots(store: Path) -> dict[str, str]:
    """Corpus root -> the folder where it is now."""
    value: dict[str, Any] = read_json(
        store / "roots.json", error=StoreError, advice="restore it from a backup"
    )
    return dict(value["roots"])
