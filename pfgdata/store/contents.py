"""What one commit brings to a store: rows with their features, failures, and the rows that it hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pfgdata.store.layout import SHADOWS_SCHEMA
from pfgdata.store.rows import failures_table, images_table

__all__ = ["Shadow", "ShardContents", "shadows_table"]


@dataclass(frozen=True, slots=True, order=True)
class Shadow:
    """A row that a newer shard hides: `table` is images or failures."""

    shard: str
    table: str
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardContents:
    """What one commit brings: row i of `images` goes with row i of `features` (float16 [N, F])."""

    images: pa.Table
    features: npt.NDArray[np.float16]
    failures: pa.Table
    shadows: tuple[Shadow, ...] = ()
    replaces: tuple[str, ...] = ()
    writer: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def hiding(
        cls, shadows: Sequence[Shadow], *, feature_dim: int, what: str, replaces: Sequence[str] = ()
    ) -> ShardContents:
        """A shard without rows of its own that hides others; `what` goes on record as its writer."""
        return cls(
            images=images_table([]),
            features=np.empty((0, feature_dim), np.float16),
            failures=failures_table([]),
            shadows=tuple(shadows),
            replaces=tuple(replaces),
            writer={"what": what},
        )


def shadows_table(shadows: tuple[Shadow, ...]) -> pa.Table:
    """The shadows as shadows.parquet holds them."""
    columns = {
        "shard": [shadow.shard for shadow in shadows],
        "table": [shadow.table for shadow in shadows],
        "row": [shadow.row for shadow in shadows],
    }
    return pa.table(columns, schema=SHADOWS_SCHEMA)
