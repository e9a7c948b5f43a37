"""A wildcard of a metatag finds names by what they are, whatever their letters mean to DuckDB's patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfgdata.query import Session, read_tags
from tests.pfgdata.query.rows import row, store_of


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("x\\xff.png", "xxff.png"),  # as a path that is not UTF-8 is stored
        ("x\\\\.png", "x\\.png"),
        ("x?y.png", "xzy.png"),
        ("x[ab]y.png", "xay.png"),
        ("x[!a]y.png", "xby.png"),
        ("x]y.png", "x[y.png"),
    ],
)
def test_only_the_star_is_a_sign(tmp_path: Path, name: str, other: str) -> None:
    store = store_of(tmp_path / "s", [row(name), row(other)])
    with Session(store.snapshot()) as session:
        for pattern in (f"{name[:-3]}*", f"*{name}", f"*{name[1:-3]}*", f"none,{name}*"):
            found = session.rows(read_tags(session.snapshot, f"path:{pattern}"), columns=["path"])
            assert found["path"].to_pylist() == [name], pattern
