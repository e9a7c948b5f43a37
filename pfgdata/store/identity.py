"""What a store is of: its tagger, vocabulary and score floor (store.json), and its corpus roots (roots.json).

store.json is written last when a store is made, so a folder without it is no store yet.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from pfgdata.errors import (
    IdentityError,
    NoStoreError,
    PlaceError,
    StoreError,
    StoreFormatError,
    refused_by_system,
)
from pfgdata.files import Disk, canonical_json, read_json
from pfgdata.paths import is_text, plain_path
from pfgdata.records import TaggerIdentity, nearest
from pfgdata.store.layout import FORMAT, read_record
from pfgdata.vocabulary import Vocabulary

__all__ = [
    "SCORE_FLOOR",
    "StoreIdentity",
    "identity_bytes",
    "identity_of",
    "identity_record",
    "known_fields",
    "moved_roots",
    "read_identity",
    "read_roots",
    "read_vocabulary",
    "require_same_identity",
    "require_same_tagger",
    "roots_bytes",
    "usable",
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
    return canonical_json(
        {
            "format": FORMAT,
            "created": created,
            "files": files,
            **identity_record(identity),
        }
    )


def identity_record(identity: StoreIdentity) -> dict[str, Any]:
    """An identity as JSON files hold it."""
    return {**asdict(identity), "tagger": identity.tagger.as_dict()}


def identity_of(record: Mapping[str, Any], *, where: Path) -> StoreIdentity:
    """The identity of a record. Raises StoreFormatError where it lacks a field."""
    try:
        return StoreIdentity(
            tagger=TaggerIdentity.of(record["tagger"]),
            vocabulary_digest=record["vocabulary_digest"],
            feature_dim=record["feature_dim"],
            score_floor=record["score_floor"],
        )
    except KeyError as problem:
        raise StoreFormatError(f"{where}: has no field {problem}; it is of another kind or version") from None


def require_same_identity(theirs: StoreIdentity, ours: StoreIdentity, *, where: str) -> None:
    """Raise IdentityError unless rows of both mean the same; `where` names the record on disk."""
    require_same_tagger(theirs.tagger, ours.tagger, where=where)
    names = ("vocabulary_digest", "feature_dim", "score_floor")
    differ = [name for name in names if getattr(theirs, name) != getattr(ours, name)]
    if differ:
        raise IdentityError(
            f"{where} is of another {', '.join(differ).replace('_', ' ')}; use the same tagger with the same"
            " selected_tags.csv, or another folder"
        )


def usable(store: Path) -> Path:
    """The path that every library opens alike. Raises StoreError where it is not UTF-8."""
    if not is_text(store):
        raise StoreError(f"{store} is not a UTF-8 path; rename the folder to use it, or name another")
    return plain_path(store)


def read_identity(disk: Disk, store: Path) -> StoreIdentity:
    """Read store.json. Raises NoStoreError, or StoreFormatError for a newer or damaged one."""
    path = store / "store.json"
    if not disk.is_file(path):
        raise NoStoreError(f"{store}: no store here; make one with: pfgdata ingest IMAGES --store {store}")
    value = read_record(disk, path, error=StoreFormatError, advice="restore it from a backup")
    return identity_of(value, where=path)


def require_same_tagger(theirs: TaggerIdentity, ours: TaggerIdentity, *, where: str) -> None:
    """Raise IdentityError unless features of both mean the same; `where` names the record on disk."""
    if theirs.decisive == ours.decisive:
        return
    names = ("weights", "feature node", "preprocessing", "decode version")
    differ = [
        f"{name} {_short(a, b)} against {_short(b, a)}"
        for name, a, b in zip(names, theirs.decisive, ours.decisive, strict=True)
        if a != b
    ]
    called = ["its own convention" if "; " in one.preprocess else one.preprocess for one in (theirs, ours)]
    raise IdentityError(
        f"{where} is of tagger {theirs.name} ({called[0]}), not {ours.name} ({called[1]}): "
        f"{', '.join(differ)}; use the same tagger and preprocessing, or another folder"
    )


def _short(text: str, other: str) -> str:
    """The head of a hash or name; of a convention's text the clauses that `other` has not."""
    if "; " not in text:
        return text[:12]
    return "; ".join(clause for clause in text.split("; ") if clause not in other.split("; ")) or "the same"


def vocabulary_table(vocabulary: Vocabulary) -> pa.Table:
    """`vocabulary` as vocabulary.parquet holds it: row j is score column j."""
    return pa.table(
        {
            "name": pa.array(vocabulary.names, pa.string()),
            "category": pa.array(vocabulary.categories, pa.uint8()),
            "count": pa.array(vocabulary.counts, pa.int64()),
        }
    )


def read_vocabulary(disk: Disk, store: Path, identity: StoreIdentity) -> Vocabulary:
    """Read vocabulary.parquet, checked against the digest in store.json."""
    path = store / "vocabulary.parquet"
    try:
        table = pq.read_table(disk.local(path))
        vocabulary = Vocabulary(
            names=tuple(table["name"].to_pylist()),
            categories=table["category"].to_numpy().astype(np.uint8),
            counts=table["count"].to_numpy().astype(np.int64),
        )
    except PlaceError:
        raise
    except (OSError, pa.ArrowException, KeyError) as problem:
        reason = refused_by_system(problem) or f"unreadable ({problem}); restore it from a backup"
        raise StoreError(f"{path}: {reason}") from problem
    if vocabulary.digest != identity.vocabulary_digest:
        raise StoreError(f"{path}: not the vocabulary named in store.json; restore it from a backup")
    return vocabulary


def roots_bytes(roots: dict[str, str]) -> bytes:
    """The bytes of roots.json: corpus root -> the folder where it is now."""
    return canonical_json({"roots": roots})


def moved_roots(roots: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    """`roots` with the root `old` at `new`, and with it every root whose place lies below the old place.

    Raises StoreError when `old` is no root, or another root is at `new` already.
    """
    if old not in roots:
        near = nearest(old, list(roots)) or list(roots) or ["none"]
        raise StoreError(f"{old} is no corpus root of this store; its roots: {', '.join(near)}")
    if not is_text(new):
        raise StoreError(f"{new!r} is not a UTF-8 path; rename the folder to use it")
    before, moved = roots[old], dict(roots)
    for root, location in roots.items():
        if location == before or location.startswith(f"{before}/"):
            moved[root] = new + location[len(before) :]
    twice = [root for root, location in moved.items() if location == moved[old] and root != old]
    if twice:
        raise StoreError(f"{new} is on record as the place of root {twice[0]}; a place holds one root")
    return moved


T = TypeVar("T")


def known_fields(kind: type[T], value: Mapping[str, Any], *, where: Path) -> T:
    """A dataclass of the fields of `value` that it knows: a later version may have added some.

    One that an earlier version did not write has its default. Raises StoreFormatError where one that it needs
    is missing.
    """
    parameters = inspect.signature(kind).parameters.values()
    names = [one.name for one in parameters if one.name in value or one.default is one.empty]
    try:
        return kind(**{name: value[name] for name in names})
    except KeyError as problem:
        raise StoreFormatError(f"{where}: has no field {problem}; it is of another kind or version") from None


def read_roots(disk: Disk, store: Path) -> dict[str, str]:
    """Corpus root -> the folder where it is now."""
    value: dict[str, Any] = read_json(
        store / "roots.json", error=StoreError, advice="restore it from a backup", disk=disk
    )
    return dict(value["roots"])
