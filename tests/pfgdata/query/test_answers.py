"""What expressions mean: each over a store whose rows are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.query import COLUMNS, Limits, Session, Thresholds, count, locations, run_query, select
from pfgdata.records import ImageKey, content_id
from pfgdata.store import Shadow, Store, index_tags
from tests.pfgdata.query.rows import ROOT, VOCABULARY, add_shard, row, store_of

MIKU = row("miku.png", {"hatsune_miku": 0.97, "smile": 0.6, "1girl": 0.99, ">_<": 0.4, "general": 0.8})
FAINT = row("faint.jpg", {"hatsune_miku": 0.5, "smile": 0.2}, width=200, format="png")
TWO = row("two.jpg", {"special_week": 0.95, "hatsune_miku": 0.9, "solo": 0.1, "explicit": 0.7}, height=900)
PLAIN = row("sub/plain's.webp", {"long_hair": 0.35, "it's": 0.9}, size=77)
ALL = {name["path"]: name for name in (MIKU, FAINT, TWO, PLAIN)}


@pytest.fixture(scope="module", params=["by the lists", "by the index"])
def store(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Store:
    store = store_of(tmp_path_factory.mktemp("store"), [MIKU, TWO], [FAINT, PLAIN])
    if request.param == "by the index":
        assert index_tags(store.snapshot()) == 2
    return store


def paths(store: Store, expression: str | None, thresholds: Thresholds | None = None) -> set[str]:
    table = run_query(
        store.snapshot(),
        expression,
        thresholds=thresholds or Thresholds(),
        columns=["path"],
        roots={},
    )
    return set(table["path"].to_pylist())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("character = 'hatsune_miku'", {"miku.png"}),
        ("character = 'hatsune miku'", {"miku.png"}),
        ("character <> 'hatsune_miku'", {"two.jpg"}),
        ("character is null", {"faint.jpg", "sub/plain's.webp"}),
        ("character in ('special_week', 'hatsune_miku')", {"miku.png", "two.jpg"}),
        ("'special_week' = character", {"two.jpg"}),
        ("character_score < 0.6", {"faint.jpg"}),
        ("has('hatsune_miku')", {"miku.png", "two.jpg"}),
        ("has('smile')", {"miku.png"}),
        ("has('>_<')", {"miku.png"}),
        ("has('long hair')", {"sub/plain's.webp"}),
        ("has('it''s')", {"sub/plain's.webp"}),
        ("not has('smile')", {"faint.jpg", "two.jpg", "sub/plain's.webp"}),
        ("has('explicit')", {"two.jpg"}),
        ("score('smile') > 0.15", {"miku.png", "faint.jpg"}),
        ("score('glasses') = 0", set(ALL)),
        ("score('explicit') > 0.5", {"two.jpg"}),
        ("score('general') between 0.75 and 0.85", {"miku.png"}),
        ("score('smile') + score('1girl') > 1.5", {"miku.png"}),
        ("rating = 'general' and width >= 256", {"miku.png", "sub/plain's.webp"}),
        ("list_contains(tags, 'smile')", {"miku.png"}),
        ("'smile' in tags", {"miku.png"}),
        ("list_has_any(tags, ['smile', 'long hair'])", {"miku.png", "sub/plain's.webp"}),
        ("list_has_all(tags, ['smile', '1girl'])", {"miku.png"}),
        ("NOT list_has_any(characters, ['special_week'])", {"miku.png", "faint.jpg", "sub/plain's.webp"}),
        ("len(characters) = 2", {"two.jpg"}),
        ("tags[1] = '1girl'", {"miku.png"}),
        ("len(list_filter(tags, lambda t: t like '%hair')) > 0", {"sub/plain's.webp"}),
        ("len([t for t in tags if t = 'smile']) = 1", {"miku.png"}),
        ("list_contains(tags, lower('SMILE'))", {"miku.png"}),
        ("list_filter(tags, lambda t, i: i > 1 and has('smile')) = ['smile', '>_<']", {"miku.png"}),
        ("len(list_filter(tags, lambda rate: rate = '1girl')) = 1 -- a comment", {"miku.png"}),
        ("images.width < 300 and FORMAT = 'png'", {"faint.jpg"}),
        ("width::double / height < 1", {"faint.jpg", "two.jpg"}),
        ("path ilike '%.WEBP' or size = 77", {"sub/plain's.webp"}),
        ("path ~ '^[a-m].*'", {"miku.png", "faint.jpg"}),
        ("root || '/' || path like '/corpus/sub/%'", {"sub/plain's.webp"}),
        ("case when width < 300 then true else has('smile') end", {"miku.png", "faint.jpg"}),
        ("row = 0", {"miku.png", "faint.jpg"}),
        ("bit_count(xor(phash, 9223372036854775813)) = 0", set(ALL)),
        ("to_timestamp(mtime_ns / 1e9) > '2023-01-01'", set(ALL)),
        ("content_id = '{}'".format(content_id(b"two.jpg").hex()), {"two.jpg"}),
        (None, set(ALL)),
    ],
)
def test_an_expression_selects(store: Store, expression: str | None, expected: set[str]) -> None:
    assert paths(store, expression) == expected
    assert count(store.snapshot(), expression, Thresholds()) == len(expected)
    selection = select(store.snapshot(), expression, Thresholds())
    assert {bytes(one) for one in selection.content_ids} == {content_id(path.encode()) for path in expected}


def test_thresholds_are_chosen_at_query_time(store: Store) -> None:
    low = Thresholds(general=0.1, character=0.5)
    assert paths(store, "has('smile')", low) == {"miku.png", "faint.jpg"}
    assert paths(store, "character = 'hatsune_miku'", low) == {"miku.png", "faint.jpg"}
    assert paths(store, "tags = ['solo']", low) == {"two.jpg"}


def test_a_score_equal_to_the_threshold_counts_though_scores_are_stored_in_float16(store: Store) -> None:
    assert paths(store, "has('long_hair')", Thresholds(general=0.35)) == {"sub/plain's.webp"}
    assert paths(store, "has('solo')", Thresholds(general=0.1)) == {"two.jpg"}


def test_the_columns_show_what_the_thresholds_leave(store: Store) -> None:
    table = run_query(store.snapshot(), "has('1girl')", thresholds=Thresholds(), roots={})
    assert tuple(table.column_names) == COLUMNS
    (found,) = table.to_pylist()
    assert found["tags"] == ["1girl", "smile", ">_<"]
    assert found["characters"] == ["hatsune_miku"]
    assert found["character"] == "hatsune_miku"
    assert found["file"] == f"{ROOT}/miku.png"
    assert found["content_id"].bytes == content_id(b"miku.png")
    assert (found["shard"], found["row"]) == (store.snapshot().shards[0].id, 0)


def test_rows_come_in_the_stable_order_whatever_the_shards(tmp_path: Path) -> None:
    names = ["b/1.png", "b.png", "a.png", "É.png", "Z.png", "日.png"]
    odd = row("c\\xff.png", path_bytes=b"c\xff.png")
    archive = [row("a.zip", member=member) for member in ("2.png", "1.png")]
    other_root = row("0.png", root="/corpus-2")
    rows = [*map(row, names), odd, *archive, other_root]
    one = store_of(tmp_path / "one", rows)
    many = store_of(tmp_path / "many", *([each] for each in reversed(rows)))
    answers = []
    for store in (one, many):
        table = run_query(
            store.snapshot(),
            "true",
            thresholds=Thresholds(),
            columns=["root", "path", "member"],
            roots={},
        )
        answers.append(table.to_pylist())
    wanted = sorted(
        (
            ImageKey(
                root=each["root"],
                path=each.get("path_bytes") or each["path"].encode(),
                member=each["member"].encode() if each.get("member") else None,
            )
            for each in rows
        ),
        key=lambda key: key.order,
    )
    assert answers[0] == answers[1]
    assert [(r["root"], r["path"], r["member"]) for r in answers[0]] == [
        (
            key.root,
            "c\\xff.png" if b"\xff" in key.path else key.path.decode(),
            key.member and key.member.decode(),
        )
        for key in wanted
    ]


def test_a_selection_points_at_its_rows(store: Store) -> None:
    snapshot = store.snapshot()
    selection = select(snapshot, "width >= 256", Thresholds())
    assert selection.expression == "width >= 256"
    assert selection.thresholds == {"general": 0.35, "character": 0.85}
    images = {(r["shard"], r["row"]): r["content_id"].bytes for r in snapshot.images().to_pylist()}
    places = zip(selection.shard_index, selection.rows, selection.content_ids, strict=True)
    for shard, number, content in places:
        assert images[selection.shards[shard], int(number)] == bytes(content)
    everything = select(snapshot, None, Thresholds())
    assert everything.digest == snapshot.everything.digest


def test_a_condition_on_the_shard_moves_nothing_that_belongs_to_its_rows(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row("a.png")], [row("old.png"), row("b.png", {"smile": 0.9})])
    second = store.snapshot().shards[1].id
    add_shard(store, [row("c.png", {"solo": 0.9})], shadows=[Shadow(second, "images", 0)])
    store.write_column("mark", pa.table({"path": ["a.png", "b.png", "c.png"], "value": [1, 2, 3]}))
    snapshot = store.snapshot()
    assert index_tags(snapshot) == 3
    for place, mark, tag in ((1, 2, "smile"), (2, 3, "solo")):
        wanted = snapshot.everything.take(np.array([place]))
        expression = f"shard = '{snapshot.shards[place].id}'"
        found = select(snapshot, f"{expression} and has('{tag}') and mark = {mark}", Thresholds())
        assert found.shards[found.shard_index[0]] == snapshot.shards[place].id
        assert found.rows == wanted.rows and found.digest == wanted.digest
        with Session(snapshot) as session:
            assert session.places(expression).tolist() == [place]
            marks = session.sql(f"select mark from columns where {expression}")
        assert marks["mark"].to_pylist() == [mark]


def test_hidden_rows_are_not_seen(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row("a.png"), row("b.png")], [row("c.png")])
    first = store.snapshot().shards[0].id
    add_shard(store, [row("a.png", width=111)], shadows=[Shadow(first, "images", 0)])
    assert count(store.snapshot(), None, Thresholds()) == 3
    table = run_query(
        store.snapshot(),
        "path = 'a.png'",
        thresholds=Thresholds(),
        columns=["width"],
        limits=Limits(rows=5),
        roots={},
    )
    assert table["width"].to_pylist() == [111]
    assert len(select(store.snapshot(), "row >= 0", Thresholds())) == 3


def test_a_limit_keeps_the_first_rows_of_the_whole_order(store: Store) -> None:
    def first(limit: int | None) -> list[str]:
        table = run_query(
            store.snapshot(),
            "true",
            thresholds=Thresholds(),
            columns=["path", "tags"],
            limits=Limits(rows=limit),
            roots={},
        )
        return list(table["path"].to_pylist())

    everything = first(None)
    assert len(everything) == 4
    assert [first(limit) for limit in (0, 1, 3, 9)] == [
        [],
        everything[:1],
        everything[:3],
        everything,
    ]


def test_an_empty_store_answers_with_no_rows_and_still_checks_the_expression(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s")
    table = run_query(store.snapshot(), "has('smile')", thresholds=Thresholds(), roots={})
    assert table.num_rows == 0
    assert tuple(table.column_names) == COLUMNS
    assert count(store.snapshot(), None, Thresholds()) == 0
    assert len(select(store.snapshot(), "width > 3", Thresholds())) == 0


@pytest.mark.parametrize("name", ["plain", "we*ird[1]?", "width=1", "quo'te", "späce d"])
def test_a_store_may_lie_in_a_folder_of_any_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "we*ird[1]?":  # as a pattern it would find this one
        store_of(tmp_path / "weXird1Y", [row("b.png")])
    store_of(tmp_path / name, [row("a.png")])
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        assert paths(Store.open(path), "width > 3") == {"a.png"}


def test_files_are_written_as_the_user_stands_to_them(tmp_path: Path) -> None:
    store = store_of(
        tmp_path / "s", [row("a.png"), row("b.png", root="/it's"), row("c.png", root="/elsewhere")]
    )
    roots = {ROOT: str(tmp_path / "images"), "/it's": str(tmp_path), "/elsewhere": "/else/where"}
    table = run_query(
        store.snapshot(),
        None,
        thresholds=Thresholds(),
        columns=["file"],
        roots=locations(roots, start=tmp_path),
    )
    assert table["file"].to_pylist() == ["images/a.png", "/else/where/c.png", "b.png"]


def test_scores_of_the_query_are_those_of_the_rows(store: Store) -> None:
    snapshot = store.snapshot()
    by_path = {r["path"]: r for r in snapshot.images().to_pylist()}
    for name in VOCABULARY.names[4:]:
        number = VOCABULARY.index(name)
        expected = {
            path
            for path, r in by_path.items()
            if number in r["tag_ids"] and float(r["tag_scores"][r["tag_ids"].index(number)]) > 0.3
        }
        assert paths(store, f"score('{name.replace(chr(39), chr(39) * 2)}') > 0.3") == expected
