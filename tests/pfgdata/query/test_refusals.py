"""What is refused, in one line that says what and where; and that nothing gets round it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from pfgdata.errors import CorruptShardError, QueryError
from pfgdata.query import Limits, Thresholds, count, run_query, select
from pfgdata.query.allowed import FUNCTIONS
from pfgdata.query.sandbox import Sandbox
from pfgdata.store import Store
from tests.pfgdata.query.rows import row, store_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of(tmp_path_factory.mktemp("store"), [row("a.png", {"smile": 0.9})], [row("b.png")])


def refusal(store: Store, expression: str) -> str:
    with pytest.raises(QueryError) as caught:
        count(store.snapshot(), expression, Thresholds())
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("widht > 3", ["no column widht", "did you mean width?", "character 1 of"]),
        ("width > 3 and heigth < 2", ["no column heigth", "height", "character 15 of"]),
        ("path = '日本é' and heigth < 2", ["heigth", "character 18 of"]),
        ("images.widt > 3", ["images.widt", "width"]),
        ("other.width > 3", ["no column other.width"]),
        ("tag_ids is null", ["no column tag_ids"]),
        ("smile", ["has('smile')", "'smile'"]),
        ('character = "hatsune_miku"', ["no column hatsune_miku", "'hatsune_miku'"]),
        ("has('smille')", ["no tag 'smille'", "did you mean smile", "character 5 of"]),
        ("score('hatsune mikku') > 0.5", ["hatsune_miku"]),
        ("has('zzzzzzzz')", ["nothing like it"]),
        ("has(path)", ["has('smile')", "single quotes"]),
        ("has('smile', 'solo')", ["takes one tag name"]),
        ("has()", ["takes one tag name"]),
        ("character = 'hatsune_mikku'", ["no character", "hatsune_miku"]),
        ("character = 'smile'", ["no value of character", "has('smile')"]),
        ("rating = 'safe'", ["no rating 'safe'", "general, sensitive, questionable, explicit"]),
        ("rating in ('general', 'nsfw')", ["no rating 'nsfw'"]),
        ("list_contains(tags, 'smlie')", ["no tag 'smlie'", "smile"]),
        ("list_has_any(tags, ['smile', 'sollo'])", ["sollo", "solo"]),
        ("list_contains(tags, 'hatsune_miku')", ["character tag", "has('hatsune_miku')"]),
        ("lenght(tags) > 3", ["no function lenght", "length"]),
        ("width", ["gives UINTEGER, not true or false"]),
        ("score('smile')", ["gives FLOAT"]),
        ("tags", ["gives VARCHAR[]"]),
        ("NULL", ["not true or false"]),
        ("width >", ["does not end well"]),
        ("(width > 3", ["does not end well"]),
        ("width > 3 and and height > 2", ['near "and"', "character 15 of"]),
        ("path = 'a", ["unterminated string", "character 8 of"]),
        ("width > 3)", ["does not end well"]),
        ("", ["empty"]),
        (" \n ", ["empty"]),
        ("-- nothing", ["not true or false"]),
        ("width > 'abc'", ["abc"]),
        ("path::integer > 3", [".png' to INT32", "path"]),  # of either row: DuckDB reads both at once
        ("width > 3 ; drop table images", ["syntax error"]),
        ("path = '\udcff'", ["UTF-8"]),
        ("not " * 3000 + "true", ["depth"]),
        ("list_filter(tags, lambda width: width = 'a') = []", ["lambda", "width"]),
        ("list_filter(tags, lambda tag_ids: has('smile')) = []", ["lambda", "tag_ids"]),
        ("width::json is null", ["no cast to json"]),
    ],
)
def test_a_wrong_expression_is_answered_in_one_line(store: Store, expression: str, words: list[str]) -> None:
    text = refusal(store, expression)
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    "expression",
    [
        "true) union all select * from images where (true",
        "true) order by (width",
        "true) limit (1",
        "true) group by all having (true",
        "true); copy images to '/tmp/x.csv'; select (1",
        "true) qualify (true",
        "true) using sample (3",
        "width in (select 1)",
        "(select true)",
        "exists (from images)",
        "width = any(select 3)",
        "'a' = any(tags)",
        "exists (from read_text('/etc/passwd'))",
        "read_text('/etc/passwd') is null",
        "read_blob('/etc/passwd') is null",
        "main.read_text('x') is null",
        "getenv('HOME') = 'a'",
        "current_setting('threads') = 'a'",
        "getvariable('general_names') is null",
        "set_config('threads', '1') is null",
        "nextval('x') = 3",
        "random() < 0.5",
        "now() > '2020-01-01'",
        "current_date > '2020-01-01'",
        "repeat('x', 1000000000) = path",
        "len(range(1000000000)) > 3",
        "query('select 1') is null",
        "json_execute_serialized_sql('x') is null",
        "sum(width) > 3",
        "count(*) > 3",
        "count(*) over () > 3",
        "row_number() over (order by path) < 3",
        "len(tags) filter (where true) > 3",
        "lower(distinct path) = 'a'",
        "system.main.lower(path) = 'a'",
        "columns('w.*') > 3",
        "columns(*) > 3",
        "* > 3",
        "$1 = 3",
        "? = 3",
        "#1 = 3",
        "path collate nocase = 'A'",
        "filename = 'x'",
        "images is not null",
        "unnest(tags) = 'smile'",
        "width = default",
        "list_aggregate(tags, 'count') > 3",
        "lambda x: x",
        "path::images is null",
    ],
)
def test_what_is_no_plain_condition_is_refused(store: Store, expression: str) -> None:
    refusal(store, expression)


def test_a_wrong_column_to_show_is_refused_with_the_nearest(store: Store) -> None:
    with pytest.raises(QueryError, match="no column caracter; did you mean character"):
        run_query(store.snapshot(), None, thresholds=Thresholds(), columns=["caracter"], roots={})


def test_a_threshold_below_the_floor_of_the_store_is_refused_by_every_question(store: Store) -> None:
    snapshot = store.snapshot()
    for wrong in (0.01, -1, 1.5, float("nan")):
        with pytest.raises(QueryError, match="keeps scores from"):
            count(snapshot, None, Thresholds(general=wrong))
        with pytest.raises(QueryError, match="character threshold"):
            select(snapshot, None, Thresholds(character=wrong))
    identity = replace(store.identity, score_floor=0.3)
    higher = Store(store.path, identity, store.vocabulary, store.disk).snapshot()
    with pytest.raises(QueryError, match=r"0\.3 on"):
        run_query(higher, None, thresholds=Thresholds(general=0.2), roots={})


def test_every_allowed_function_is_a_function_of_this_duckdb() -> None:
    found = duckdb.sql("SELECT function_name, function_type FROM duckdb_functions()").fetchall()
    kinds: dict[str, set[str]] = {}
    for name, kind in found:
        kinds.setdefault(name, set()).add(kind)
    of_the_parser = {"ifnull", "nullif", "if"}
    unknown = {name for name in FUNCTIONS - of_the_parser if not kinds.get(name, set()) & {"scalar", "macro"}}
    assert not unknown
    assert not {name for name in FUNCTIONS if kinds.get(name, set()) & {"table", "pragma", "table_macro"}}


def test_the_sandbox_reads_its_files_and_nothing_else(tmp_path: Path, store: Store) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    inside = store.path / "vocabulary.parquet"
    with closing(Sandbox(store.snapshot().shards, variables={}, limits=Limits())) as sandbox:
        assert sandbox.fetch("SELECT count(*) AS n FROM images")["n"].to_pylist() == [2]
        for statement in (
            f"SELECT * FROM read_csv('{outside}')",
            f"SELECT * FROM read_parquet('{inside}')",
            f"COPY images TO '{store.path / 'x.csv'}'",
            f"ATTACH '{store.path / 'x.db'}'",
            "SET enable_external_access = true",
            "SET threads = 1",
            "INSTALL httpfs",
            "LOAD httpfs",
        ):
            with pytest.raises((QueryError, CorruptShardError)):
                sandbox.fetch(statement)
    assert not list(store.path.glob("x.*"))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row("a.png")])
    snapshot = store.snapshot()
    path = snapshot.shards[0].images_path
    assert path is not None
    for damage in (lambda: path.write_bytes(b"PAR1 nothing PAR1"), path.unlink):
        damage()
        with pytest.raises(CorruptShardError, match="verify STORE --repair"):
            count(snapshot, "width > 3", Thresholds())


@pytest.mark.parametrize("expression", ["false) or (true", "true) or (true", "true THEN true WHEN false"])
def test_brackets_that_close_ours_are_no_expression(store: Store, expression: str) -> None:
    with pytest.raises(QueryError):
        count(store.snapshot(), expression, Thresholds())


def test_file_cannot_be_asked_for_because_it_depends_on_where_one_stands(store: Store) -> None:
    with pytest.raises(QueryError, match="ask with root and path"):
        count(store.snapshot(), "file like 'a%'", Thresholds())
