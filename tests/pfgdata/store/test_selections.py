"""Saved selections on disk: replaced as one, named when damaged, kept while another is made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfgdata.errors import StoreError
from pfgdata.store import SavedSelection, Store, content_ids_of, verify
from tests.conftest import new_store
from tests.doubles import FailingDisk

IDS = np.arange(48, dtype=np.uint8).reshape(3, 16)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path / "feats")


def files(store: Store) -> list[str]:
    return sorted(path.name.partition(".")[0] + path.suffix for path in (store.path / "selections").iterdir())


def frozen_ids(store: Store, saved: SavedSelection) -> npt.NDArray[np.uint8]:
    """What the file of a frozen selection holds, uint8 [N, 16]."""
    assert saved.frozen is not None
    there = (store.path / "selections").glob(f"{saved.name}.*.parquet")
    (file,) = (path for path in there if saved.frozen.ids.startswith(path.name.split(".")[1]))
    return content_ids_of(pq.read_table(file)["content_id"])


def test_a_frozen_selection_keeps_its_distinct_images(store: Store) -> None:
    written = SavedSelection(name="a", text="true", thresholds={"general": 0.5}, uses=("b",), how="by hand")
    saved = store.write_selection(written, IDS[[2, 0, 0]])
    assert store.read_selection("a") == saved and saved.frozen is not None and saved.frozen.count == 2
    assert np.array_equal(frozen_ids(store, saved), IDS[[0, 2]])
    assert (saved.text, saved.uses, saved.how) == ("true", ("b",), "by hand") and saved.created
    assert files(store) == ["a.json", "a.parquet"] and verify(store.path, deep=True) == []


def test_a_selection_saved_anew_leaves_nothing_of_the_old_one(store: Store) -> None:
    store.write_selection(SavedSelection(name="a", text=None), IDS)
    with pytest.raises(StoreError, match="has a selection a already; --replace it"):
        store.write_selection(SavedSelection(name="a", text=None), IDS[:1])
    store.write_selection(SavedSelection(name="a", text=None), IDS[:1], replace=True)
    assert files(store) == ["a.json", "a.parquet"]
    store.write_selection(SavedSelection(name="a", text="true"), replace=True)
    assert files(store) == ["a.json"] and store.selections() == ["a"]
    store.remove_selection("a")
    assert files(store) == [] and store.selections() == []


def test_a_selection_of_which_another_is_made_stays(store: Store) -> None:
    store.write_selection(SavedSelection(name="a", text="true"))
    store.write_selection(SavedSelection(name="b", text="not @a", uses=("a",)))
    with pytest.raises(StoreError, match="@b is made of @a; remove that first, or freeze it"):
        store.remove_selection("a")
    store.write_selection(SavedSelection(name="b", text="not @a", uses=("a",)), IDS, replace=True)
    store.remove_selection("a")
    assert store.selections() == ["b"]


@pytest.mark.parametrize("name", ["A", "1a", "a b", "../a", "", "a" * 65])
def test_a_name_is_what_a_columns_may_be(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="cannot name a selection"):
        store.write_selection(SavedSelection(name=name, text=None))


def test_verify_names_what_is_damaged_or_missing(store: Store) -> None:
    for name in ("json", "cut", "gone", "bytes"):
        store.write_selection(SavedSelection(name=name, text="true"), IDS)
    folder = store.path / "selections"
    (folder / "json.json").write_text((folder / "json.json").read_text().replace("true", "tree"))
    ids = {name: next(folder.glob(f"{name}.*.parquet")) for name in ("cut", "gone", "bytes")}
    ids["cut"].write_bytes(ids["cut"].read_bytes()[:-1])
    ids["gone"].unlink()
    ids["bytes"].write_bytes(ids["bytes"].read_bytes()[:-1] + b"x")
    quick = {problem.path.stem: problem.what for problem in verify(store.path)}
    assert sorted(quick) == ["cut", "gone", "json"] and quick["json"].startswith("damaged")
    deep = {problem.path.stem: problem.what for problem in verify(store.path, deep=True)}
    assert sorted(deep) == ["bytes", "cut", "gone", "json"] and "not those that were written" in deep["bytes"]


def test_a_damaged_selection_can_be_removed(store: Store) -> None:
    store.write_selection(SavedSelection(name="a", text="true"), IDS)
    (store.path / "selections" / "a.json").write_text("{")
    store.remove_selection("a")
    assert files(store) == []


def test_wherever_a_save_ends_the_selection_is_the_old_or_the_new_one(store: Store) -> None:
    old, new = SavedSelection(name="a", text="true"), SavedSelection(name="a", text="false")
    store.write_selection(old, IDS)
    untouched = store.path.with_name("untouched")
    store.path.rename(untouched)
    seen: list[tuple[str | None, int]] = []
    done, steps = False, 0
    while not done:
        shutil.copytree(untouched, store.path)
        try:
            disk = FailingDisk(steps)
            Store.open(store.path, disk=disk).write_selection(new, IDS[:1], replace=True)
            done = True
        except KeyboardInterrupt:
            pass
        assert verify(store.path, deep=True) == []
        saved = store.read_selection("a")
        seen.append((saved.text, len(frozen_ids(store, saved))))
        store.write_selection(new, IDS[:2], replace=True)
        assert files(store) == ["a.json", "a.parquet"]
        shutil.rmtree(store.path)
        steps += 1
    first_new = seen.index(("false", 1))
    assert 0 < first_new < len(seen) - 1
    assert seen == [("true", 3)] * first_new + [("false", 1)] * (len(seen) - first_new)


def test_wherever_a_column_is_being_deleted_it_is_there_or_gone(store: Store) -> None:
    table = pa.table({"content_id": pa.array([b"x" * 16], pa.binary(16)), "value": [1]})
    done, steps, seen = False, 0, []
    while not done:
        store.write_column("c", table, replace=True)
        try:
            Store.open(store.path, disk=FailingDisk(steps)).remove_column("c")
            done = True
        except KeyboardInterrupt:
            pass
        assert verify(store.path, deep=True) == []
        seen.append(store.columns())
        steps += 1
    assert seen[0] == ["c"] and seen[-1] == []
    assert list((store.path / "columns").iterdir()) == []
