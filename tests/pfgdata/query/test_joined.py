"""Columns that no shard has are asked for as the store's own: the user's, and computed ones."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.errors import QueryError, StoreError
from pfgdata.query import Thresholds, count, run_query, select
from pfgdata.records import content_id
from pfgdata.store import FAILURES_SCHEMA, Joined, Shadow, ShardContents, Snapshot, Store, images_table
from tests.pfgdata.query.rows import add_shard, row, store_of

SHARDS, ROWS, HIDDEN = 4, 150, 10
NAMES = [f"{number:03}.png" for number in range(SHARDS * ROWS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """600 images in four shards, ten rows hidden by newer ones, with columns of each type."""
    parts = [NAMES[start : start + ROWS] for start in range(0, len(NAMES), ROWS)]
    store = store_of(
        tmp_path_factory.mktemp("store") / "s", *([row(name) for name in part] for part in parts)
    )
    third = store.snapshot().shards[2].id
    again = NAMES[2 * ROWS : 2 * ROWS + HIDDEN]
    add_shard(
        store,
        [row(name, width=1) for name in again],
        shadows=[Shadow(third, "images", n) for n in range(HIDDEN)],
    )
    numbers = range(0, len(NAMES), 2)  # every other image has values
    paths = pa.array([NAMES[n] for n in numbers])
    ids = pa.array([content_id(NAMES[n].encode()) for n in numbers], pa.binary(16))
    for name, values in {
        "text": pa.array([f"picture {n}" if n else "it's 日本" for n in numbers]),
        "mark": pa.array([n / 8 for n in numbers], pa.float64()),
        "half": pa.array(np.array([n / 8 for n in numbers], np.float16)),
        "good": pa.array([n % 3 == 0 for n in numbers]),
        "notes": pa.array([["a", f"n{n}"] if n % 4 else [] for n in numbers]),
        "s": pa.array([f"s{n}" for n in numbers]),  # what our own lambdas call a score
        "group": pa.array(list(numbers)),  # a word of SQL
    }.items():
        store.write_column(name, pa.table({"path": paths, "value": values}))
        store.write_column(f"{name}_by_id", pa.table({"content_id": ids, "value": values}))
    return store


def numbers(snapshot: Snapshot, expression: str | None) -> set[int]:
    """The numbers of the images that `expression` selects, asked in three ways."""
    table = run_query(snapshot, expression, thresholds=Thresholds(), columns=["path"], roots={})
    found = {NAMES.index(path) for path in table["path"].to_pylist()}
    assert count(snapshot, expression, Thresholds()) == len(found) == table.num_rows
    chosen = select(snapshot, expression, Thresholds())
    assert {bytes(one) for one in chosen.content_ids} == {content_id(NAMES[n].encode()) for n in found}
    return found


EVEN = set(range(0, len(NAMES), 2))


@pytest.mark.parametrize("suffix", ["", "_by_id"])
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("{text} is not null", EVEN),
        ("{text} is null", set(range(600)) - EVEN),
        ("{text} = 'picture 302'", {302}),
        ("{text} like '%it''s 日%'", {0}),
        ("images.{text} = 'picture 302' and width = 1", {302}),
        ("{text} = 'picture 322' and width = 1", set()),
        ("{mark} >= 74.5", {596, 598}),
        ("{half} = 0.25", {2}),
        ("{good}", {n for n in EVEN if n % 3 == 0}),
        ("not {good} and {mark} < 1", {2, 4}),
        ("list_contains({notes}, 'n302')", {302}),
        ("len({notes}) = 0", {n for n in EVEN if n % 4 == 0}),
        ("len(list_filter({notes}, lambda t: t = 'n6')) = 1 and {text} is not null", {6}),
        ("{s} = 's4' and len(tags) = 0 and len(characters) = 0", {4}),
        ("{group} = 8", {8}),
        ("{mark} = width and {good}", set()),
    ],
)
def test_a_users_column_selects(store: Store, expression: str, expected: set[int], suffix: str) -> None:
    names = ("text", "mark", "half", "good", "notes", "s")
    quoted = {name: f"{name}{suffix}" for name in names} | {"group": f'"group{suffix}"'}
    assert numbers(store.snapshot(), expression.format(**quoted)) == expected


def test_a_users_column_is_shown_where_it_is_named_and_null_where_it_has_no_value(store: Store) -> None:
    def shown(expression: str | None) -> list[dict[str, Any]]:
        columns = ["path", "text", "notes_by_id", "s"]
        table = run_query(store.snapshot(), expression, thresholds=Thresholds(), columns=columns, roots={})
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    assert shown("row < 400 and mark between 37.75 and 38 or path = '303.png'") == [
        {"path": "302.png", "text": "picture 302", "notes_by_id": ["a", "n302"], "s": "s302"},
        {"path": "303.png", "text": None, "notes_by_id": None, "s": None},
        {"path": "304.png", "text": "picture 304", "notes_by_id": [], "s": "s304"},
    ]
    assert [one["path"] for one in shown(None)] == NAMES


def test_a_computed_column_is_named_like_any_other(store: Store) -> None:
    snapshot = store.snapshot()
    place = [NAMES.index(path) for path in snapshot.images(["path"])["path"].to_pylist()]
    distance = (np.array(place) / 600).astype(np.float32)
    called: list[int] = []

    def cluster() -> pa.Array:
        called.append(1)
        return pa.array(np.array(place) % 7)

    asked = snapshot.with_columns(Joined("distance", distance), Joined("cluster", cluster))
    assert numbers(asked, "distance < 0.004") == {0, 1, 2}
    assert not called
    assert numbers(asked, "cluster = 3 and distance < 0.02 and text is null") == {3}
    assert called
    with pytest.raises(QueryError, match="no column distance"):
        count(snapshot, "distance < 1", Thresholds())


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(600, np.float16),
        pa.array([[1.0]] * 600, pa.list_(pa.float16())),
        pa.array(["x"] * 600, pa.string_view()),
        pa.array(["x"] * 600).dictionary_encode(),
        pa.array([b"x"] * 600, pa.large_binary()),
        pa.array([{"a": 1}] * 600),
        pa.array([0] * 600, pa.timestamp("us")),
        pa.nulls(600, pa.decimal128(3)),
    ],
)
def test_a_column_may_be_of_any_type_that_duckdb_has(store: Store, values: Any) -> None:
    snapshot = store.snapshot().with_columns(Joined("mine", values))
    expected = 600 - getattr(values, "null_count", 0)
    assert count(snapshot, "mine is not null", Thresholds()) == expected


def test_a_type_that_duckdb_lacks_is_named_with_its_column(store: Store) -> None:
    values = pa.array([[1.0]] * 600, pa.list_(pa.float16(), 1))
    with pytest.raises(QueryError, match=r"no type for a column of these: mine \(fixed_size_list"):
        count(store.snapshot().with_columns(Joined("mine", values)), "mine is null", Thresholds())


def test_a_computed_column_has_a_value_for_each_image_and_a_name_of_its_own(store: Store) -> None:
    snapshot = store.snapshot()
    with pytest.raises(StoreError, match=r"near has 3 values, .* shows 600 images; give one for each"):
        count(snapshot.with_columns(Joined("near", np.zeros(3))), "near = 0", Thresholds())
    for name in ("width", "file_index", "_row", 'a"b'):
        with pytest.raises(StoreError, match="column"):
            snapshot.with_columns(Joined(name, np.zeros(600)))


def test_an_unknown_name_is_answered_with_the_nearest_of_all_columns(store: Store) -> None:
    with pytest.raises(QueryError, match=r"no column texd; did you mean text\b.*\(character 1 of"):
        count(store.snapshot(), "texd is null", Thresholds())
    with pytest.raises(QueryError, match=r"no column notess; did you mean notes\b"):
        run_query(store.snapshot(), None, thresholds=Thresholds(), columns=["notess"], roots={})
    with pytest.raises(QueryError, match=r"no column qqqq; columns are file, .*, text_by_id"):
        count(store.snapshot(), "qqqq = 1", Thresholds())


def test_the_type_of_a_users_column_is_checked(store: Store) -> None:
    with pytest.raises(QueryError, match="gives VARCHAR, not true or false"):
        count(store.snapshot(), "text", Thresholds())
    with pytest.raises(QueryError, match="cannot be answered"):
        count(store.snapshot(), "good > 'x'", Thresholds())


def test_a_text_is_bounded_by_the_longest_that_there_is(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row("a.png"), row("b.png")])
    for name, letters in (("short", 100), ("long", 100_000)):
        value = pa.array(["x" * letters])
        store.write_column(name, pa.table({"path": pa.array(["a.png"]), "value": value}))
    expression = "len(concat({0}, {0}, {0})) > 3"
    assert count(store.snapshot(), expression.format("short"), Thresholds()) == 1
    with pytest.raises(QueryError, match="bytes of values for each image"):
        count(store.snapshot(), expression.format("long"), Thresholds())


def test_a_damaged_column_is_one_line_and_stops_only_those_who_name_it(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row("a.png")])
    store.write_column("text", pa.table({"path": ["a.png"], "value": ["x"]}))
    (store.path / "columns" / "text.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert count(store.snapshot(), "width > 3", Thresholds()) == 1
    for ask in (
        lambda: count(store.snapshot(), "text is null", Thresholds()),
        lambda: run_query(store.snapshot(), None, thresholds=Thresholds(), columns=["text"], roots={}),
    ):
        with pytest.raises(StoreError, match=r"text\.parquet: .*; write the column again$"):
            ask()


def test_an_empty_store_knows_its_users_columns(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s")
    store.write_column("text", pa.table({"path": ["a.png"], "value": ["x"]}))
    assert count(store.snapshot(), "text = 'x'", Thresholds()) == 0


def test_similar_to_is_the_cosine_with_a_stored_image(tmp_path: Path) -> None:
    names = [f"a/{number}.png" for number in range(40)]
    features = np.random.default_rng(0).normal(0, 1, (40, 4)).astype(np.float16)
    features[9] = np.nan
    store = store_of(tmp_path / "s")
    for part in (slice(0, 15), slice(15, 40)):
        with store.writer() as writer:
            rows = images_table([row(name) for name in names[part]])
            none = FAILURES_SCHEMA.empty_table()
            writer.commit(ShardContents(images=rows, features=features[part], failures=none))
    snapshot = store.snapshot()
    wide = features.astype(np.float64)
    cosines = wide @ wide[20] / np.linalg.norm(wide, axis=1) / np.linalg.norm(wide[20])
    expected = {names[n] for n in np.flatnonzero(np.nan_to_num(cosines, nan=-2) > 0.3)}
    by_id = str(uuid.UUID(bytes=content_id(b"a/20.png")))
    for text in ("a/20.png", "/corpus/a/20.png", by_id):
        table = run_query(
            snapshot, f"similar_to('{text}') > 0.3", thresholds=Thresholds(), columns=["path"], roots={}
        )
        assert set(table["path"].to_pylist()) == expected and len(expected) > 3
    both = "similar_to('a/20.png') > 0.3 and similar_to('a/21.png') < 2 and width > 1"
    assert count(snapshot, both, Thresholds()) == len(expected)
    for wrong, what in (
        ("similar_to('no.png') > 0.5", r"no image of .* 'no.png'; .* \(character 12 of the expression\)"),
        ("similar_to(path) > 0.5", "takes the path or content_id of one stored image"),
        ("similar_to('a/20.png', 'a/21.png') > 0.5", "takes the path or content_id of one stored image"),
        ("similar_to('a/20.png')", "gives FLOAT"),
        ("similar('a/20.png') > 0", "did you mean similar_to"),
        ("similar_to('it''s\" or true --') > 0", "no image of"),
    ):
        with pytest.raises(QueryError, match=what):
            count(snapshot, wrong, Thresholds())
