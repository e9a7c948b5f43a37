"""The examples of docs/api.md give what the page says."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pfgdata
from pfgdata.errors import NoStoreError, QueryError
from pfgdata.query import Limits
from tests.pfgdata.query.rows import row, store_of

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


@pytest.fixture
def feats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store that the page speaks of, where one stands."""
    store_of(
        tmp_path / "feats",
        [
            row("miku.png", {"hatsune_miku": 0.97, "smile": 0.6, "1girl": 0.99}, feature=[1, 0, 0, 0]),
            row("plain.png", feature=[0, 1, 0, 0]),
        ],
        [row("small.png", {"smile": 0.4}, width=200, feature=[4, 3, 0, 0])],
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "feats"


def test_every_example_of_the_page_is_right(feats: Path) -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted == 7 and result.failed == 0


def test_an_answer_is_the_same_in_every_form(feats: Path) -> None:
    with pfgdata.open(feats, limits=Limits(seconds=20)) as store:
        found = store.query("width > 3", limit=2)
        table = found.arrow()
        assert [str(one) for one in table["content_id"].to_pylist()] == found.ids()
        assert found.polars()["content_id"].to_list() == found.ids()
        assert found.polars()["tags"].to_list() == table["tags"].to_pylist()
        assert len(found) == len(found.selection()) == len(found.features()) == 2
        assert found.polars()["file"].to_list()[0] == "/corpus/miku.png"


def test_likeness_is_asked_of_several_images_and_among_some(feats: Path) -> None:
    with pfgdata.open(feats) as store:
        found = store.similar("miku.png", "plain.png", where="width < 600")
        assert found["query"].to_pylist() == ["miku.png", "plain.png"]
        assert found["score"].to_pylist() == [0.8, 0.6]
        assert store.similar("miku.png", "plain.png", mean=True)["score"].to_pylist() == [0.989949]
        assert store.similar("miku.png", where="false").num_rows == 0
        with pytest.raises(QueryError, match="no such file here"):
            store.similar("no.png")
        with pytest.raises(QueryError, match="name one image or more"):
            store.similar(mean=True)


def test_a_store_that_was_closed_or_is_none_says_so(feats: Path) -> None:
    with pfgdata.open(feats) as store:
        found = store.query()
    for ask in (found.arrow, store.count):
        with pytest.raises(QueryError, match="the store was closed"):
            ask()
    with pytest.raises(NoStoreError):
        pfgdata.open(feats / "shards")


ASKS_FOR_PANDAS = """
import sys
import pfgdata
from pfgdata.errors import QueryError
with pfgdata.open(sys.argv[1]) as store:
    try:
        store.query().pandas()
    except QueryError as problem:
        print(problem)
"""


def test_a_library_that_is_not_installed_is_named_in_one_line(feats: Path, tmp_path: Path) -> None:
    (tmp_path / "pandas.py").write_text(
        "raise ModuleNotFoundError('as if it were not here', name='pandas')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", ASKS_FOR_PANDAS, str(feats)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PAGE.parents[1]}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "pandas is not installed; run: pip install pandas\n"
