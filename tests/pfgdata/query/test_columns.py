"""What a question can name follows from the schema of the store's tables."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pfgdata.query import Limits
from pfgdata.query.columns import RAW_COLUMNS
from pfgdata.query.sandbox import Sandbox
from tests.pfgdata.query.rows import row, store_of


def test_a_store_with_rows_has_the_types_that_an_empty_one_names(tmp_path: Path) -> None:
    for store in (store_of(tmp_path / "full", [row("a.png")]), store_of(tmp_path / "empty")):
        with closing(Sandbox(store.snapshot().shards, variables={}, limits=Limits())) as sandbox:
            found = {name: sandbox.type_of(f'SELECT "{name}" FROM images') for name in RAW_COLUMNS}
        assert found == RAW_COLUMNS
