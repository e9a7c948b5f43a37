"""What the user's columns promise: found by key, replaced whole, never half, and seen when damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pfgdata.errors import StoreError
from pfgdata.query import COLUMNS, Thresholds, count, means_column, metatags
from pfgdata.records import ImageKey, Selection
from pfgdata.store import (
    Shadow,
    ShardContents,
    Store,
    failures_table,
    images_table,
    key_columns,
    rows_by_shard,
    unmatched_rows,
    verify,
)
from tests.conftest import new_store

KEYS = [  # two roots, an archive's members, a name that is not UTF-8
    ImageKey(root="/a", path=b"one.png"),
    ImageKey(root="/a", path=b"deep/two.png"),
    ImageKey(root="/a", path=b"all.zip", member=b"one.png"),
    ImageKey(root="/a", path=b"all.zip", member=b"two.png"),
    ImageKey(root="/b", path=b"\xff.png"),
    ImageKey(root="/b", path=b"three.png"),
]


def content(number: int) -> bytes:
    """The content_id of image `number`."""
    return number.to_bytes(16, "big")


def add(store: Store, keys: list[ImageKey], *, start: int = 0, shadows: tuple[Shadow, ...] = ()) -> None:
    """Commit one shard of `keys`, whose contents are numbered from `start`."""
    rows: list[dict[str, Any]] = [
        {**key_columns(key), "content_id": content(start + place), "tag_ids": [], "tag_scores": []}
        for place, key in enumerate(keys)
    ]
    features = np.zeros((len(keys), store.identity.feature_dim), np.float16)
    with store.writer() as writer:
        writer.commit(
            ShardContents(
                images=images_table(rows), features=features, failures=failures_table([]), shadows=shadows
            )
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six images under two roots, in two shards."""
    store = new_store(tmp_path / "feats")
    add(store, KEYS[:4])
    add(store, KEYS[4:], start=4)
    return store


def values(store: Store, name: str, selection: Selection | None = None) -> list[Any]:
    """The column's value for each row of `selection`, or of the whole store."""
    snapshot = store.snapshot()
    found = store.column_values(name, snapshot, snapshot.everything if selection is None else selection)
    return list(found.to_pylist())


def captions(*texts: str) -> pa.Table:
    """A column that names the first images by content."""
    ids = [content(number) for number in range(len(texts))]
    return pa.table({"content_id": pa.array(ids, pa.binary(16)), "value": list(texts)})


def test_a_column_keyed_by_content_gives_each_image_its_value_and_null_to_others(store: Store) -> None:
    ids = pa.array([content(5), content(0), content(99)], pa.binary())
    store.write_column("mood", pa.table({"content_id": ids, "value": ["calm", "wild", "none of ours"]}))
    assert values(store, "mood") == ["wild", None, None, None, None, "calm"]
    assert store.columns() == ["mood"]
    assert store.read_column("mood").schema.field("content_id").type == pa.uuid()
    assert len(unmatched_rows(store.read_column("mood"), store.snapshot())) == 1


def test_a_column_goes_with_the_rows_of_a_selection_in_its_order(store: Store) -> None:
    table = store.snapshot().images(["content_id"]).select(["content_id"])
    paths = pa.Table.from_pylist([key_columns(key) for key in KEYS])
    store.write_column("number", table.append_column("value", pa.array(range(6), pa.int16())))
    store.write_column("place", paths.append_column("value", pa.array(range(6), pa.int16())))
    order = [5, 0, 3, 3, 4]
    selection = store.snapshot().everything.take(np.array(order, np.int64))
    assert values(store, "number", selection) == values(store, "place", selection) == order
    assert store.column_values("number", store.snapshot(), selection).type == pa.int16()
    nothing = selection.take(np.array([], np.int64))
    assert values(store, "number", nothing) == values(store, "place", nothing) == []


def test_a_column_keyed_by_root_path_and_member_finds_members_and_names_that_are_not_text(
    store: Store,
) -> None:
    rows = [{**key_columns(key), "value": str(key)} for key in reversed(KEYS)]
    elsewhere = {**key_columns(ImageKey(root="/c", path=b"one.png")), "value": "of no root here"}
    store.write_column("name", pa.Table.from_pylist([*rows, elsewhere]))
    assert values(store, "name") == [str(key) for key in KEYS]
    assert len(unmatched_rows(store.read_column("name"), store.snapshot())) == 1


def test_a_path_without_a_root_is_meant_under_any_and_without_a_member_is_no_member(store: Store) -> None:
    store.write_column(
        "score", pa.table({"path": ["three.png", "all.zip", "one.png"], "value": [0.5, 1.0, 2]})
    )
    assert values(store, "score") == [2, None, None, None, None, 0.5]


def test_a_path_under_two_roots_is_refused_by_name_but_only_where_it_is_meant(store: Store) -> None:
    add(store, [ImageKey(root="/b", path=b"one.png")], start=6)
    store.write_column("plain", pa.table({"path": ["one.png", "three.png"], "value": ["x", "y"]}))
    store.write_column("exact", pa.table({"root": ["/b"], "path": ["one.png"], "value": ["x"]}))
    snapshot = store.snapshot()
    for row in (0, 6):  # though the selection itself may hold one root only
        selection = snapshot.everything.take(np.array([row], np.int64))
        with pytest.raises(StoreError, match=r"column plain: one\.png lies under /a and /b; .* column root"):
            values(store, "plain", selection)
    assert values(store, "plain", snapshot.everything.take(np.array([1, 5], np.int64))) == [None, "y"]
    assert values(store, "exact") == [None] * 6 + ["x"]


def test_a_value_follows_the_path_to_a_changed_image_or_stays_with_the_content(store: Store) -> None:
    store.write_column("by_path", pa.table({"path": ["one.png"], "value": ["x"]}))
    store.write_column("by_content", captions("x"))
    first = store.snapshot().shards[0].id
    add(store, KEYS[:1], start=7, shadows=(Shadow(first, "images", 0),))
    assert values(store, "by_path") == [None] * 5 + ["x"]
    assert values(store, "by_content") == [None] * 6


def test_columns_of_rows_come_shard_by_shard_in_the_order_of_the_selection(store: Store) -> None:
    snapshot = store.snapshot()
    selection = snapshot.everything.take(np.array([4, 2, 5, 0], np.int64))
    seen = {
        int(place): member
        for mine, table in rows_by_shard(snapshot, selection, ["member"])
        for place, member in zip(mine, table["member"].to_pylist(), strict=True)
    }
    assert seen == {0: None, 1: "one.png", 2: None, 3: None}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            pa.table({"path": ["a", "b", "a"], "value": [1, 2, 3]}),
            "1 rows repeat the key of another, first: a",
        ),
        (
            pa.table({"content_id": pa.array([content(1)] * 2, pa.binary(16)), "value": [1, 2]}),
            "repeat the key",
        ),
        (pa.table({"path": ["a"], "text": ["x"]}), "the table has path, text; it must have"),
        (pa.table({"path": ["a"], "content_id": ["x"], "value": ["x"]}), "it must have content_id, or path"),
        (pa.table({"value": ["x"]}), "it must have content_id, or path"),
        (pa.table({"path": ["a"], "tags": ["x"], "value": ["x"]}), "it must have content_id, or path"),
        (pa.table({"path": ["a", None], "value": [1, 2]}), "1 rows have no path"),
        (pa.table({"path": ["a"], "root": pa.array([None], pa.string()), "value": [1]}), "no root"),
        (pa.table({"content_id": [b"short"], "value": [1]}), "a key is of another type"),
        (pa.table({"content_id": [7], "value": [1]}), "content_id is a UUID or 16 bytes"),
    ],
)
def test_a_table_that_cannot_be_a_column_is_refused_by_name(store: Store, table: pa.Table, said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        store.write_column("mine", table)
    assert str(caught.value).startswith("column mine: ") and "\n" not in str(caught.value)
    assert store.columns() == []


def test_a_member_twice_in_an_archive_is_refused_and_two_members_are_not(store: Store) -> None:
    two = pa.table({"path": ["z", "z", "z"], "member": ["a", "b", None], "value": [1, 2, 3]})
    store.write_column("fine", two)
    with pytest.raises(StoreError, match="first: z a"):
        store.write_column("twice", pa.concat_tables([two, two.slice(0, 1)]))


@pytest.mark.parametrize("name", ["Tags", "", "a b", "1st", "../x", "x.json", "é", "a" * 65])
def test_a_name_that_is_no_plain_word_is_refused(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="use small letters, digits and _"):
        store.write_column(name, captions("x"))
    with pytest.raises(StoreError, match=r"no column .* its columns: none"):
        store.read_column(name)


def test_no_column_takes_a_name_of_the_stores_own(store: Store) -> None:
    for name in {*COLUMNS, "tag_ids", "phash"}:
        with pytest.raises(StoreError, match=f"name the column my_{name}"):
            store.write_column(name, captions("x"))


def test_no_new_column_takes_a_word_that_means_something_else_among_tags(store: Store) -> None:
    words = {name for name in metatags._NAMES if not means_column(name)}
    assert {"ratio", "filesize", "mpixels", "tagcount", "order", "limit", "char"} < words
    for name in words:
        with pytest.raises(StoreError, match=f"name the column my_{name}"):
            store.write_column(name, captions("x"))
    assert store.columns() == []
    store.write_column("score", captions("x"))


def test_a_column_of_before_its_name_was_taken_is_asked_written_anew_and_removed(store: Store) -> None:
    table = pa.table({"path": ["one.png"], "value": [5]})
    store.write_column("my_ratio", table)
    for file in ("my_ratio.parquet", "my_ratio.json"):
        old = store.path / "columns" / file
        old.rename(old.with_name(file.removeprefix("my_")))
    assert count(store.snapshot(), "ratio = 5", Thresholds()) == 1
    assert verify(store.path, deep=True) == [] and store.columns() == ["ratio"]
    with pytest.raises(StoreError, match="has a column ratio already"):
        store.write_column("ratio", table)
    store.write_column("ratio", table.set_column(1, "value", pa.array([7])), replace=True)
    assert count(store.snapshot(), "ratio = 7", Thresholds()) == 1
    store.remove_column("ratio")
    assert store.columns() == []


def test_an_unknown_column_is_answered_with_the_nearest_and_all_there_are(store: Store) -> None:
    store.write_column("caption", captions("x"))
    store.write_column("mood", captions("x"))
    with pytest.raises(StoreError, match=r"'captoin'; did you mean caption\? its columns: caption, mood"):
        store.read_column("captoin")


def test_a_column_of_no_rows_and_one_of_lists_come_back_as_they_were(store: Store) -> None:
    store.write_column(
        "empty", captions().cast(pa.schema([("content_id", pa.binary(16)), ("value", pa.int8())]))
    )
    store.write_column("labels", pa.table({"path": ["one.png"], "value": [["a", "b"]]}))
    assert values(store, "empty") == [None] * 6
    assert values(store, "labels") == [["a", "b"], *[None] * 5]


def test_a_type_that_cannot_be_kept_is_refused_in_one_line(store: Store) -> None:
    views, parts = (
        pa.array([["a"]], pa.list_(pa.string_view())),
        pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
    )
    for value in (views, parts):
        with pytest.raises(StoreError, match=r"column odd: .*use another type"):
            store.write_column("odd", pa.table({"path": ["one.png"], "value": value}))


def test_text_of_any_arrow_kind_is_a_key_and_a_value(store: Store) -> None:
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        text = pc.cast(pa.array(["three.png"]), kind)
        store.write_column("kind", pa.table({"path": text, "value": text}), replace=True)
        assert values(store, "kind")[5] == "three.png"
