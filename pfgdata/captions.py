"""Captions, the text of rows: the tags of the store, or a text column of the user's.

Kept as numbers (tags) or as one Arrow array (columns), and made into strings a batch at a time (380,000 a
second): 600,000 images of 30 tags are 40 MB of numbers, and would be 290 MB of Python strings.

Shapes: N images, M images of one shard, T tags of all images, V tags of the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.errors import StoreError
from pfgdata.records import Selection, nearest
from pfgdata.store import Snapshot, Store, rows_by_shard
from pfgdata.vocabulary import CHARACTER, GENERAL

__all__ = ["TAGS", "Captions", "column_captions", "shuffled", "tag_captions"]

TAGS = "tags"  # as a caption's name: the store's own, so that no column may be called so
SEPARATOR = ", "
_ORDER = (CHARACTER, 3, 1, 6, GENERAL)  # copyright, artist and species between: as danbooru lists them
_WORD = re.compile(r"[^\W_]{2}")  # ^_^, 0_0, (o)_(o), <|>_<|>: no two letters or digits stand together


class Captions(Protocol):
    """The text of each row, by its number."""

    @property
    def missing(self) -> int:
        """Rows whose text is empty."""

    def __len__(self) -> int:
        """Rows."""

    def of(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The texts of `rows`, in their order."""

    def take(self, rows: npt.NDArray[np.int64]) -> Captions:
        """The captions of `rows` alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagCaptions:
    """Captions as numbers of tags: row i has those from `starts[i]` to `starts[i + 1]`."""

    texts: Sequence[str]  # [V]
    ids: npt.NDArray[np.unsignedinteger[Any]]  # [T]
    starts: npt.NDArray[np.int64]  # [N + 1]

    @property
    def missing(self) -> int:
        """Rows without a tag over its threshold."""
        return int((np.diff(self.starts) == 0).sum())

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The texts of `rows`, in their order."""
        parts = zip(self.starts[rows].tolist(), self.starts[rows + 1].tolist(), strict=True)
        texts = self.texts
        return [
            SEPARATOR.join([texts[number] for number in self.ids[start:end].tolist()]) for start, end in parts
        ]

    def take(self, rows: npt.NDArray[np.int64]) -> TagCaptions:
        """The captions of `rows` alone."""
        counts = np.diff(self.starts)[rows]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return TagCaptions(texts=self.texts, ids=self.ids[_spread(self.starts[rows], counts)], starts=starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnCaptions:
    """Captions as they stand in a column."""

    texts: pa.LargeStringArray  # [N], null where the column has none

    @property
    def missing(self) -> int:
        """Rows whose text is empty, or that have none."""
        return self.texts.null_count + int(pc.sum(pc.equal(pc.binary_length(self.texts), 0)).as_py() or 0)

    def __len__(self) -> int:
        return len(self.texts)

    def of(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The texts of `rows`, in their order."""
        return [text or "" for text in self.texts.take(pa.array(rows)).to_pylist()]

    def take(self, rows: npt.NDArray[np.int64]) -> ColumnCaptions:
        """The captions of `rows` alone."""
        return ColumnCaptions(texts=self.texts.take(pa.array(rows)))


def tag_captions(
    snapshot: Snapshot,
    images: Selection,
    *,
    threshold: float,
    character_threshold: float,
) -> Captions:
    """The tags of `images` as WD14 captions are written: characters first, then general tags, best first.

    Between them stand those that say what is shown (copyright, artist, species), of taggers that know them. A
    tag counts from its threshold on, `threshold` but for characters, which is not below the store's score
    floor; ratings and tags of other categories (meta, quality) are left out.
    """
    vocabulary = snapshot.vocabulary
    limits_V = np.full(len(vocabulary), np.inf, np.float16)  # as scores are stored: one equal to it counts
    ranks_V = np.zeros(len(vocabulary), np.int64)
    for rank, category in enumerate(_ORDER):
        mine_V = vocabulary.categories == category
        limits_V[mine_V] = character_threshold if category == CHARACTER else threshold
        ranks_V[mine_V] = rank
    counts_N = np.zeros(len(images), np.int64)
    parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]] = []
    small = np.min_scalar_type(len(vocabulary))  # uint16 for every WD14 tagger
    for mine, table in rows_by_shard(snapshot, images, ["tag_ids", "tag_scores"]):
        ids, counts_N[mine] = _kept(table, limits_V, ranks_V)
        parts.append((mine, ids.astype(small)))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_N)])
    ids_T = np.empty(starts[-1], small)
    for mine, ids in parts:
        ids_T[_spread(starts[mine], counts_N[mine])] = ids
    return TagCaptions(texts=[_text(name) for name in vocabulary.names], ids=ids_T, starts=starts)


def column_captions(store: Store, snapshot: Snapshot, images: Selection, *, name: str) -> Captions:
    """The texts of the user's column `name`, "" where it has none for an image.

    Raises StoreError with the nearest names for an unknown column, for one that is no text or is damaged, and
    where it speaks of a path under two roots.
    """
    known = [TAGS, *store.columns()]
    if name not in known[1:]:
        near = nearest(name, known)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise StoreError(f"{store.path}: no caption column {name!r}; {hint}there are {', '.join(known)}")
    values = store.column_values(name, snapshot, images)
    if not _is_text(values.type):
        raise StoreError(
            f"{store.path}: column {name} holds {values.type}, a caption is text; name another column"
        )
    texts = pc.cast(values, pa.large_string()).combine_chunks()  # 64-bit offsets: 2 GB and more may be there
    return ColumnCaptions(texts=texts)


def shuffled(caption: str, *, keep_tokens: int, separator: str, seed: int) -> str:
    """`caption` with its parts in an order that is a function of `seed`; the first `keep_tokens` stay.

    Parts are what `separator` divides, stripped and the empty ones dropped; they come back joined by the
    separator and one space.
    """
    mark = separator.strip()
    parts = [part.strip() for part in (caption.split(mark) if mark else caption.split())]
    parts = [part for part in parts if part]
    kept, free = parts[:keep_tokens], parts[keep_tokens:]
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(free))
    return f"{mark} ".join([*kept, *(free[at] for at in order)])


def _kept(
    table: pa.Table, limits_V: npt.NDArray[np.float16], ranks_V: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The tags of the rows of `table` over their limits, row after row, and how many each row has [M]."""
    lengths = pc.list_value_length(table["tag_ids"]).to_numpy()
    ids = pc.list_flatten(table["tag_ids"]).to_numpy()
    scores = pc.list_flatten(table["tag_scores"]).to_numpy()
    over = np.flatnonzero(scores >= limits_V[ids])
    rows = np.repeat(np.arange(len(lengths)), lengths)[over]
    ids = ids[over]
    order = np.argsort(len(_ORDER) * rows + ranks_V[ids], kind="stable")  # stored best first
    return ids[order], np.bincount(rows, minlength=len(lengths))


def _spread(starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The positions `starts[i]` to `starts[i] + counts[i]` for each i, one after another."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def _text(name: str) -> str:
    """A tag as captions have it: spaces for underscores, but where they are part of a face."""
    return name.replace("_", " ") if _WORD.search(name) else name


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    plain = kind.value_type if types.is_dictionary(kind) else kind
    return any(
        is_it(plain)
        for is_it in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )
