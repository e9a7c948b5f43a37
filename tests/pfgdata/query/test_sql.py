"""One SELECT over a store: what it answers, and a hundred ways of asking for more than that."""

# ruff: noqa: E501 - statements stand on a line each

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pfgdata.errors import QueryError
from pfgdata.query import COLUMNS, VIEWS, Session, Thresholds
from pfgdata.store import Store
from tests.pfgdata.query.rows import VOCABULARY, row, store_of

ROWS = [
    row("a.png", {"smile": 0.9, "1girl": 0.8, "solo": 0.1, "hatsune_miku": 0.97}, width=100),
    row("b.png", {"smile": 0.4, "hatsune_miku": 0.5, "explicit": 0.9}, width=300),
    row("c.png", {"glasses": 0.6}, width=200),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = store_of(tmp_path_factory.mktemp("store") / "s", ROWS[:1], ROWS[1:])
    store.write_column("mark", pa.table({"path": ["a.png", "c.png"], "value": [5, 9]}))
    store.write_column("note", pa.table({"path": ["b.png"], "value": ["it's"]}))
    return store


@pytest.fixture(scope="module")
def session(store: Store) -> Iterator[Session]:
    with Session(store.snapshot()) as session:
        yield session


def ask(session: Session, sql: str, *, limit: int | None = None) -> list[tuple[Any, ...]]:
    return [tuple(one.values()) for one in session.sql(sql, limit=limit).to_pylist()]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select path from images where width > 150 order by width desc", [("b.png",), ("c.png",)]),
        ("select count(*), sum(width), min(path) from images", [(3, 600, "a.png")]),
        ("from images select character, tags where path = 'a.png'", [("hatsune_miku", ["smile", "1girl"])]),
        (
            "select tag, category, count(*) as n from tags group by all having n > 1 order by tag",
            [("hatsune_miku", "character", 2), ("smile", "general", 2)],
        ),
        (
            "select i.path, t.tag from images i join tags t using (content_id, shard, row) "
            "where t.score < 0.35 or t.tag = 'glasses' order by all",
            [("a.png", "solo"), ("c.png", "glasses")],
        ),
        (
            "select path, mark, note from columns order by mark desc nulls last",
            [("c.png", 9, None), ("a.png", 5, None), ("b.png", None, "it's")],
        ),
        (
            "with wide as (select path as p, width from images where width > 150), most as (select max(width) as m "
            "from wide) select p from wide, most where width = m",
            [("b.png",)],
        ),
        (
            "select path, row_number() over (order by width) as n from images qualify n < 3 order by n",
            [("a.png", 1), ("c.png", 2)],
        ),
        ("select unnest(tags) as t from images order by t limit 2", [("1girl",), ("glasses",)]),
        (
            "select path from images i where exists (select 1 from tags t where t.content_id = i.content_id and t.tag = 'solo')",
            [("a.png",)],
        ),
        ("select 'a' as x union all select path from images order by x desc limit 1", [("c.png",)]),
        (
            "select rating, string_agg(path, ' ' order by path) as p from images group by rating order by rating",
            [("explicit", "b.png"), ("general", "a.png c.png")],
        ),
        (
            "select t.x from images, unnest(tags) as t(x) where path = 'a.png' order by x",
            [("1girl",), ("smile",)],
        ),
        (
            "select len(list_filter(tags, lambda t: t like 's%')) as n from images order by path -- a comment",
            [(1,), (1,), (0,)],
        ),
        ('select "path" from "images" where "width" = 100;', [("a.png",)]),
        ("select path from images where width = (select max(width) from images)", [("b.png",)]),
        (
            "select case when width > 150 then 'wide' else 'narrow' end as k, count(*) from images group by k order by k",
            [("narrow", 1), ("wide", 2)],
        ),
        ("select * exclude (path) from (select path, width from images where path = 'a.png')", [(100,)]),
        ("select count(*) from failures", [(0,)]),
        ("select count(*) from latents", [(0,)]),
        ("with images as (select 1 as x) select x from images", [(1,)]),
        ("select [sum(width)::bigint] as s from images", [([600],)]),
    ],
)
def test_a_select_is_answered(session: Session, sql: str, expected: list[tuple[Any, ...]]) -> None:
    assert ask(session, sql) == expected


def test_the_views_have_the_columns_that_they_say(session: Session) -> None:
    for view, columns in VIEWS.items():
        table = session.sql(f"from {view}")
        more = ["mark", "note"] if view == "columns" else []
        assert table.column_names == [*columns, *more]
    assert VIEWS["images"] == COLUMNS


def test_thresholds_and_roots_and_a_limit_hold(store: Store) -> None:
    low = Thresholds(general=0.1, character=0.5)
    sql = "select file, len(tags) as n, character from images order by n desc, file"
    with Session(store.snapshot(), thresholds=low, roots={"/corpus": "here"}) as session:
        table = session.sql(sql, limit=2)
    assert table.to_pylist() == [
        {"file": "here/a.png", "n": 3, "character": "hatsune_miku"},
        {"file": "here/b.png", "n": 1, "character": "hatsune_miku"},
    ]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select mark from columns", [(5,)]),
        ("select c.mark from columns c where c.mark = 5", [(5,)]),
        ("select count(*) from columns", [(1,)]),
        ("select c.mark, i.width from columns c join images i using (content_id, shard, row)", [(5, 640)]),
        ("select unnest(i.tags), mark from columns join images i using (path)", [("smile", 5)]),
        ("select big from columns", None),
        ("select 1 from columns c where c.big > 0", None),
        ("select 1 from columns join columns c using (big)", None),
        ("from columns", None),
        ("select c.* from columns c", None),
        ("select c from columns c", None),
        ("select columns from columns", None),
        ("select a from columns as c(a)", None),
        ("select 1 from columns natural join images", None),
    ],
)
def test_a_column_that_duckdb_has_no_type_for_is_only_in_the_way_of_who_names_it(
    tmp_path: Path, sql: str, expected: list[tuple[Any, ...]] | None
) -> None:
    store = store_of(tmp_path / "s", [row("a.png", {"smile": 0.9})])
    store.write_column("mark", pa.table({"path": ["a.png"], "value": [5]}))
    large = pa.array([Decimal(1)], pa.decimal256(50, 0))
    store.write_column("big", pa.table({"path": ["a.png"], "value": large}))
    with Session(store.snapshot()) as session:
        if expected is not None:
            assert ask(session, sql) == expected
            return
        with pytest.raises(QueryError, match=r"DuckDB has no type for a column of these: .*big \(decimal256"):
            ask(session, sql)


def test_an_order_outlives_a_limit_over_many_rows(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row(f"{number:05}.png", width=number + 1) for number in range(5000)])
    with Session(store.snapshot()) as session:
        found = ask(session, "select width from images order by width desc", limit=2500)
    assert found == [(width,) for width in range(5000, 2500, -1)]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select widht from images", "no column widht; did you mean width? (character 8 of the SELECT)"),
        ("select 1 from imges", "no view imges; did you mean images"),
        ("select 1 from main.images", "no view main.images"),
        ("select i.widht from images i where i.width > 3", "no column i.widht; did you mean width?"),
        ("select cuont(path) from images", "no function cuont; did you mean count or"),
        ("select has('smile') from images", "has() is of conditions; here ask the view tags"),
        ("selct 1", "(character 1 of the SELECT)"),
        ("select from images", "the SELECT is not valid: SELECT clause without selection list"),
        ("", "the SELECT is empty; an example"),
        ("select '日本', widht from images", "(character 14 of the SELECT)"),
        ("select path + 1 from images", "cannot be answered"),
        ("select 1; select 2", "2 statements; only one SELECT is answered"),
        ("delete from images", "only one SELECT is answered: nothing else"),
        ("select '\udcff'", "the SELECT is not UTF-8 text"),
        (
            "select [sum(width)] as s from images",
            "s: has numbers of 128 bits in a list or struct; cast them there",
        ),
        (
            "select {'a': [width::uhugeint]} as s from images",
            "s: has numbers of 128 bits in a list or struct",
        ),
        (
            "values (1)",
            "VALUES is not answered here; write SELECT 1 AS x UNION ALL SELECT 2 (character 9 of the SELECT)",
        ),
        ("select path from images where width in (values (1), (2))", "VALUES is not answered here"),
        ("with v(x) as (values (1, 'a')) from v order by x", "VALUES is not answered here"),
        ("select 1 union all values (2)", "VALUES is not answered here"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(session: Session, sql: str, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        ask(session, sql)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


REFUSED = [
    # other statements
    "copy images to '{out}/x.csv'",
    "copy (select 1) to '{out}/x.parquet' (format parquet)",
    "copy images from '{out}/secret.csv'",
    "attach '{out}/x.db' as y",
    "attach ':memory:' as y",
    "detach memory",
    "use memory",
    "create table x as select 1",
    "create temp view x as select 1",
    "create macro f(x) as x",
    "create secret s (type s3)",
    "drop view images",
    "alter table images rename to x",
    "insert into images values (1)",
    "update images set width = 1",
    "truncate images",
    "set threads = 1",
    "set variable general_names = []",
    "reset memory_limit",
    "pragma database_list",
    "pragma threads = 1",
    "call pragma_version()",
    "install httpfs",
    "load httpfs",
    "checkpoint",
    "begin transaction",
    "export database '{out}'",
    "import database '{out}'",
    "vacuum",
    "prepare p as select 1",
    "execute p",
    "explain select 1",
    "explain analyze select 1",
    "describe images",
    "summarize images",
    "show tables",
    "show all tables",
    "comment on view images is 'x'",
    "pivot images on rating using count(*)",
    "unpivot images on width, height",
    "select 1; copy images to '{out}/x.csv'",
    "select 1; -- ;\n drop view images",
    "/* select */ attach '{out}/x.db'",
    # files and what is around us
    "select * from '{out}/secret.csv'",
    'select * from "{out}/secret.csv"',
    "select * from read_csv('{out}/secret.csv')",
    "select * from read_csv_auto('{out}/secret.csv')",
    "select * from read_parquet('{store}/vocabulary.parquet')",
    "select * from parquet_scan('{store}/vocabulary.parquet')",
    "select * from parquet_metadata('{store}/vocabulary.parquet')",
    "select * from read_json('{out}/secret.csv')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/etc/passwd')",
    "select * from glob('/etc/*')",
    "select * from sniff_csv('{out}/secret.csv')",
    "select content from read_text('/etc/passwd') where (select count(*) from images) > 0",
    "select (select content from read_text('/etc/passwd'))",
    "with a as (select * from read_text('/etc/passwd')) select * from a",
    "select * from images where path in (select content from read_text('/etc/passwd'))",
    "select * from images, lateral (select * from read_text(path))",
    "select 1 union all select content from read_text('/etc/passwd')",
    "select * from images order by (select content from read_text('/etc/passwd'))",
    "select * from images limit (select length(content) from read_text('/etc/passwd'))",
    "select count(*) filter (where (select content from read_text('/etc/passwd')) = 'x') from images",
    "select row_number() over (order by (select content from read_text('/etc/passwd'))) from images",
    "select list_filter([1], lambda x: (select content from read_text('/etc/passwd')) = 'x')",
    "values ((select content from read_text('/etc/passwd')))",
    "select getenv('HOME')",
    "select current_setting('memory_limit')",
    "select getvariable('general_names')",
    "select * from duckdb_settings()",
    "select * from duckdb_secrets()",
    "select * from duckdb_views()",
    "select * from pragma_database_list()",
    "select * from information_schema.tables",
    "select * from pg_catalog.pg_class",
    "select * from sqlite_master",
    "select * from main.images",
    "select * from temp.main._images",
    "select * from _images",
    "select * from hidden",
    "select * from joined",
    "select * from snapshot",
    "select * from sandbox, views",
    "from (with hidden as (select 1) select 1), hidden",
    "select * from query('select 1')",
    "select * from query_table('images')",
    "select * from json_execute_serialized_sql('x')",
    "select json_serialize_sql('select 1')",
    "select system.main.lower('A')",
    "select write_log('x')",
    "select nextval('x')",
    "select filename from images",
    "select images.file_index from images",
    "select path::images from images",
    "select path::struct(a int) from images",
    "select current_user",
    "select user, session_user",
    "select current_date",
    "select now()",
    "select random()",
    "select uuid()",
    "select ?",
    "select $1",
    "select #1 from images",
    "select columns('w.*') from images",
    "select columns(c -> c like 'w%') from images",
    "select path collate nocase from images",
    "select * from images tablesample 10%",
    "select * from images using sample 3",
    "select * from images at (version => 3)",
    "select * from images positional join tags",
    "with t as (delete from images returning *) select * from t",
    "with t as (insert into images values (1) returning *) select * from t",
    "with t as (update images set width = 1 returning *) select 1",
    # what grows without end
    "with recursive a as (select 1 as x union all select x + 1 from a) select * from a",
    "with recursive a(x) as (select 1 union all select x * 2 from a where x > 0) select count(*) from a",
    "with recursive a(k, v) using key (k) as (select 1, 1 union select k, v + 1 from a) select * from a",
    "select * from range(100000000000)",
    "select * from generate_series(1, 100000000000)",
    "select * from repeat('x', 1000000000)",
    "select unnest(range(100000000000))",
    "select unnest(generate_series(1, 100000000000))",
    "select repeat('x', 1000000000)",
    "select lpad('x', 1000000000, 'x')",
    "select format('{{:>1000000000}}', path) from images",
    "select list_resize([1], 1000000000)",
    "select array_to_string([path], repeat('x', 1000000000)) from images",
    "select " + "(select " * 2000 + "1" + ")" * 2000,
    "select " + "(" * 5000 + "1" + ")" * 5000,
    "select 1" + " union all select 1" * 200,
    "select " + ", ".join(["width"] * 5000) + " from images",
    "select path || '" + "x" * 1_100_000 + "' from images",
    "with "
    + ", ".join(f"a{n} as (select x || x as x from a{n - 1})" for n in range(1, 40)).replace(
        "from a0)", "from (select path as x from images))"
    )
    + " select length(x) from a39",
    "select replace(s, 'a', s) from (select string_agg(path, 'a') as s from images)",
    "select list_transform(l, lambda a: list_transform(l, lambda b: l)) from (select list(path) as l from images)",
    "select regexp_replace(path, '.', path || path || path, 'g') as a, regexp_replace(a, '.', a || a, 'g') as b, regexp_replace(b, '.', b || b, 'g') from images",
]

BOUNDED = [  # answered, refused or ended: within a second and 300 MB
    "select count(*) from tags a, tags b, tags c, tags d",
    "select a.path, b.path from images a, images b, images c",
    "select string_agg(a.path || b.path || c.path, '') from images a, images b, images c",
    "select list(a.tags) from images a, images b, images c",
    "select a.path, count(*) from images a, images b, images c group by all",
    "select distinct a.path || b.path || c.path from images a, images b, images c",
    "select * from images a, images b, images c order by a.path || c.path",
    "select sum(a.width) over (order by a.width + b.width) from images a, images b, images c",
    "select (select count(*) from images b, images c where b.width + c.width > a.width) from images a",
    "select count(*) from images a join images b on a.path <> b.path join images c on levenshtein(a.path, c.path) > 3",
    "with a as (select x.path as p from images x, images y), b as (select a.p from a, images) select count(distinct p) from b",
    "select unnest(a.tags) from images a, images b, images c",
    "select * from images cross join images cross join images cross join tags",
    "select count(*) from images group by cube (path, width, height, root, member, format, frames, phash, rating, row)",
    "select quantile_cont(a.width, 0.5), mode(b.path || c.path) from images a, images b, images c",
    "select max(length(a.path || b.path)) from images a, images b, images c where a.path || b.path || c.path like '%x%y%z%'",
]

CHILD = """
import json, os, resource, sys, threading, time
from pathlib import Path
from pfgdata.errors import PfgError
from pfgdata.query import Limits, Session
from pfgdata.store import Store

store = Store.open(Path(sys.argv[1]))
session = Session(store.snapshot(), limits=Limits(seconds=float(sys.argv[2]), memory=300 * 2**20))
session.sql("from images")
first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for statement in json.load(sys.stdin):
    start = time.monotonic()
    try:
        said = str(session.sql(statement).num_rows)
    except PfgError as problem:
        said = "refused: " + str(problem)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first) / 1024
    print(json.dumps([statement, said, grown, time.monotonic() - start]), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Enough rows that a product of three is without end."""
    tags = dict.fromkeys(VOCABULARY.names[4:], 0.9)
    rows = [row(f"{'a/b' * 60}/{number:06}.jpg", tags) for number in range(4096)]
    return store_of(tmp_path_factory.mktemp("larger") / "feats", rows)


def answers(store: Store, statements: list[str], seconds: float) -> list[tuple[str, str, float, float]]:
    """Statement, what was said, MiB that the child had grown by, seconds; asked in a child one by one."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, store.path, str(seconds)],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    lines = [line[line.index("[") :] for line in child.stdout.splitlines() if "[" in line]
    found = [tuple(json.loads(line)) for line in lines]
    assert [statement for statement, *_ in found] == statements, child.stderr[-2000:]
    return found


def test_a_hundred_attacks_are_refused(larger: Store, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    before = sorted(tmp_path.rglob("*")), sorted(larger.path.rglob("*"))
    attacks = [one.replace("{out}", str(tmp_path)).replace("{store}", str(larger.path)) for one in REFUSED]
    assert len(set(attacks)) >= 100
    for statement, said, grown, seconds in answers(larger, attacks, 20):
        assert said.startswith("refused: "), (statement[:200], said)
        assert "\n" not in said
        assert "cannot be answered" not in said, (statement[:200], said)  # by us, before DuckDB binds it
        assert grown < 200, (statement[:200], said, grown)
        assert seconds < 5, (statement[:200], said, seconds)
    assert before == (sorted(tmp_path.rglob("*")), sorted(larger.path.rglob("*")))


@pytest.mark.slow
def test_what_only_running_shows_ends_at_its_limits(larger: Store) -> None:
    for statement, said, grown, seconds in answers(larger, BOUNDED, 0.5):
        assert "\n" not in said
        assert grown < 1200, (statement, said, grown)
        assert seconds < 4, (statement, said, seconds)  # half one and the time to end, on a busy machine
