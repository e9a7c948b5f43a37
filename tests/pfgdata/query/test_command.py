"""`pfgdata query` as a user runs it: what goes to stdout, what to stderr, and the exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfgdata.cli import app
from pfgdata.query import COLUMNS
from pfgdata.screen import run_app
from pfgdata.store import Store
from tests.pfgdata.query.rows import add_shard, row, store_of

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    store_of(
        tmp_path / "feats",
        [row("b.png", {"smile": 0.9, "1girl": 0.8}), row("a.png", {"hatsune_miku": 0.97})],
        [row("tab\tnew\nline.png", {"solo": 0.5}), row("c,d.png", width=100)],
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PFG_STORE", raising=False)
    return tmp_path


def query(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=["query", *arguments], name="pfgdata")
    code = caught.value.code
    assert isinstance(code, int)
    return code


def test_a_pipe_gets_a_header_and_tabs(capsys: Captured) -> None:
    assert query("width >= 256", "--columns", "file,tags,character") == 0
    assert capsys.readouterr().out.splitlines() == [
        "file\ttags\tcharacter",
        "/corpus/a.png\t\thatsune_miku",
        "/corpus/b.png\tsmile 1girl\t",
        "/corpus/tab\\tnew\\nline.png\tsolo\t",
    ]


def test_json_is_one_object_a_line_with_every_column(capsys: Captured) -> None:
    assert query("true", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["path"] for one in rows] == ["a.png", "b.png", "c,d.png", "tab\tnew\nline.png"]
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["character_score"] == 0.97021  # float16, in the five digits it has
    assert rows[0]["member"] is None
    assert rows[1]["tags"] == ["smile", "1girl"]


def test_csv_quotes_what_needs_it(capsys: Captured) -> None:
    assert query("true", "--csv", "--columns", "path,tags") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["path", "tags"]
    assert rows[3:] == [["c,d.png", ""], ["tab\tnew\nline.png", "solo"]]


HOSTILE = "a\r\x1b[2Jb\x9b1m\x7f\ndc\u202e.png"


def test_a_carriage_return_in_a_name_stays_in_its_cell(here: Path, capfd: Captured) -> None:
    add_shard(Store.open(here / "feats"), [row("a\rb.png"), row(HOSTILE)])
    assert query("path like 'a_%b%'", "--csv", "--columns", "path,width") == 0
    rows = list(csv.reader(io.StringIO(capfd.readouterr().out, newline="")))
    assert rows == [["path", "width"], [HOSTILE, "640"], ["a\rb.png", "640"]]
    assert query("path like 'a_%b%'", "--json", "--columns", "path") == 0
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["path"] for line in lines] == [HOSTILE, "a\rb.png"]


def on_a_terminal(*arguments: str) -> bytes:
    """What `pfgdata query` sends to a terminal that is its stdout."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pfgdata", "query", *arguments]
    run = subprocess.run(
        command,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    os.close(theirs)
    assert run.returncode == 0, run.stderr
    shown = os.read(ours, 65_536)
    os.close(ours)
    return shown.replace(b"\r\n", b"\n")  # as a terminal ends its lines


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_a_terminal_gets_no_escape_sequence(here: Path, form: str) -> None:
    add_shard(Store.open(here / "feats"), [row(HOSTILE)])
    lines = on_a_terminal("path like 'a_%b%'", form, "--columns", "path").decode().splitlines()
    assert all(line.isprintable() for line in lines)
    if form == "--json":
        assert json.loads(lines[0]) == {"path": HOSTILE}
    else:
        assert lines == ["path", r'"a\r\x1b[2Jb\x9b1m\x7f\ndc\u202e.png"']


def test_parquet_is_written_to_its_file_and_stdout_stays_empty(here: Path, capsys: Captured) -> None:
    assert query("has('smile')", "--parquet", "out.parquet") == 0
    table = pq.read_table(here / "out.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert table["path"].to_pylist() == ["b.png"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 rows to out.parquet" in captured.err


def test_count_and_limit(capsys: Captured) -> None:
    assert query("true", "--count") == 0
    assert query("true", "--count", "--limit", "3") == 0
    assert query("true", "--limit", "1", "--columns", "path") == 0
    assert capsys.readouterr().out.split() == ["4", "3", "path", "a.png"]


def test_thresholds_are_options(capsys: Captured) -> None:
    assert query("has('smile')", "--threshold", "0.95", "--count") == 0
    assert query("character = 'hatsune miku'", "--character-threshold", "0.98", "--count") == 0
    assert capsys.readouterr().out.split() == ["0", "0"]


def test_the_store_comes_from_the_environment(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (here / "feats").rename(here / "elsewhere")
    assert query("true", "--count") == 1
    assert "no store here" in capsys.readouterr().err
    monkeypatch.setenv("PFG_STORE", "elsewhere")
    assert query("true", "--count") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["widht > 3"], 1, "did you mean width?"),
        (["true", "--columns", "paht"], 1, "did you mean path?"),
        (["true", "--threshold", "0.01"], 1, "keeps scores from 0.05"),
        (["true", "--json", "--csv"], 2, "exclude each other"),
        (["true", "--limit", "-1"], 2, "--limit"),
        ([], 2, "give EXPR, --tags or --sql, one of them"),
        (["true", "--tags", "smile"], 2, "give EXPR, --tags or --sql, one of them"),
        (["--tags", "smlie"], 1, "did you mean smile? (character 1 of the tags)"),
        (["--sql", "select 1", "--columns", "path"], 2, "--sql says itself what to show"),
        (["--sql", "select widht from images"], 1, "did you mean width? (character 8 of the SELECT)"),
        (["true", "--order", "widht"], 1, "did you mean width? (character 1 of the order)"),
        (["true", "--sample", "-1"], 2, "--sample"),
        (["widht > 3", "--explain"], 1, "did you mean width?"),
        (["true", "--explain", "--count"], 2, "exclude each other"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    capsys: Captured, arguments: list[str], code: int, words: str
) -> None:
    assert query(*arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_a_users_columns_are_named_as_the_stores_own(here: Path, capsys: Captured) -> None:
    store = Store.open(here / "feats")
    store.write_column("text", pa.table({"path": ["a.png", "b.png"], "value": ["Miku", "it's"]}))
    store.write_column("marks", pa.table({"path": ["b.png"], "value": [[0.123456789, None]]}))
    assert query("text is not null", "--columns", "file,text,marks") == 0
    assert capsys.readouterr().out.splitlines() == [
        "file\ttext\tmarks",
        "/corpus/a.png\tMiku\t",
        "/corpus/b.png\tit's\t0.123456789 None",
    ]
    assert query("text = 'Miku'", "--count") == 0
    assert capsys.readouterr().out == "1\n"
    assert query("len(marks) = 2", "--columns", "marks", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"marks": [0.123456789, None]}
    assert query("text is null", "--columns", "path,marks", "--csv") == 0
    assert query("true", "--columns", "txt") == 1
    assert "did you mean text" in capsys.readouterr().err


def test_tags_are_asked_as_danbooru_writes_them(capsys: Captured) -> None:
    assert query("--tags", "-solo width:>256 order:path_desc", "--columns", "path") == 0
    assert capsys.readouterr().out.split() == ["path", "b.png", "a.png"]
    assert query("--tags", "-hatsune_miku limit:2", "--count") == 0
    assert query("--tags", "-hatsune_miku limit:2", "--limit", "1", "--columns", "path") == 0
    assert query("--tags", "order:width", "--order", "path", "--columns", "path", "--limit", "1") == 0
    assert capsys.readouterr().out.split() == ["2", "path", "b.png", "path", "a.png"]


def test_explain_prints_the_condition_and_what_is_asked_beside_it(capsys: Captured) -> None:
    assert query("--tags", "1girl -smile order:width limit:5", "--explain") == 0
    captured = capsys.readouterr()
    assert captured.out == "has('1girl') AND NOT has('smile')\n"
    assert captured.err.split() == ["order", "-(width)", "limit", "5"]
    assert query("--tags", "order:random", "--explain", "--sample", "3", "--json") == 0
    wanted = {"where": None, "order": "random()", "sample": 3, "seed": 0, "limit": None}
    assert json.loads(capsys.readouterr().out) == wanted


def test_order_and_sample_are_options(capsys: Captured) -> None:
    assert query("true", "--order", "-width", "--columns", "path,width", "--csv") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert [width for _, width in rows] == ["width", "640", "640", "640", "100"]
    answers = []
    for seed in ("5", "5", "6"):
        assert query("true", "--sample", "2", "--seed", seed, "--columns", "path", "--json") == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert answers[0].count("\n") == 2
    assert query("true", "--sample", "2", "--count") == 0
    assert capsys.readouterr().out == "2\n"


def test_a_whole_select_is_answered_in_every_form(here: Path, capsys: Captured) -> None:
    sql = "select rating, count(*) as n, sum(width) as w, avg(width)::decimal(9, 2) from images group by 1"
    assert query("--sql", sql, "--json") == 0
    wanted = {"rating": "general", "n": 4, "wide": 2020, "CAST(avg(width) AS DECIMAL(9,2))": 505.0}
    assert [*json.loads(capsys.readouterr().out).values()] == [*wanted.values()]
    assert query("--sql", "select path, tags from images order by path", "--csv") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[:3] == [["path", "tags"], ["a.png", ""], ["b.png", "smile 1girl"]]
    assert query("--sql", "select tag, score from tags where score > 0.7 order by tag", "--limit", "2") == 0
    assert capsys.readouterr().out.splitlines() == ["tag\tscore", "1girl\t0.7998", "hatsune_miku\t0.97021"]
    assert query("--sql", "from images", "--count") == 0
    assert query("--sql", "select width, width from images", "--parquet", "out.parquet") == 0
    assert capsys.readouterr().out == "4\n"
    assert pq.read_table(here / "out.parquet").num_columns == 2


@pytest.mark.parametrize("asked", [["true"], ["--tags", "smile"], ["--sql", "from images"]])
def test_a_limit_without_end_is_called_by_its_name(capsys: Captured, asked: list[str]) -> None:
    assert query(*asked, "--limit", "9" * 20) == 1
    assert capsys.readouterr().err.endswith(f"limit {'9' * 20}: give 9223372036854775807 at most\n")


def test_what_json_does_not_have_is_null(here: Path, capsys: Captured) -> None:
    sql = "select 'nan'::double as a, [{'x': '-inf'::float}] as b, 1.5 as c"
    assert query("--sql", sql, "--json") == 0
    assert capsys.readouterr().out == '{"a": null, "b": [{"x": null}], "c": 1.5}\n'


def test_durations_and_bytes_are_the_texts_of_sql_and_can_be_typed_again(
    here: Path, capsys: Captured
) -> None:
    every = ["1 month", "-1 month", "14 months", "-14 months", "1 day", "1 month -2 days", "0 days"]
    every += ["3 seconds", "-1.5 seconds"]
    every += ["100 hours 1 microsecond", "1 year 2 months 3 days 04:05:06.789", "-00:00:00.000001"]
    one = " union all ".join(f"select interval '{span}' as i" for span in every)
    assert (
        query("--sql", f"select i, i::varchar as text, [i] as l, {{'a': i}} as s from ({one})", "--json") == 0
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(every)
    assert all(row["i"] == row["text"] == row["l"][0] == row["s"]["a"] for row in rows)
    store = Store.open(here / "feats")
    paths = {"path": ["a.png", "b.png"]}
    store.write_column("blob", pa.table({**paths, "value": [bytes(range(256)), b""]}))
    store.write_column("span", pa.table({**paths, "value": [timedelta(days=1, microseconds=5), None]}))
    sql = "select blob, blob::varchar as text, [blob] as l from columns where path <= 'b.png' order by path"
    assert query("--sql", sql, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["blob"] == row["text"] == row["l"][0] for row in rows)
    assert query(f"blob = '{rows[0]['blob']}'", "--columns", "path,span", "--csv") == 0
    assert capsys.readouterr().out.splitlines() == ["path,span", "a.png,24:00:00.000005"]
    assert query("span = interval '24:00:00.000005'", "--columns", "path") == 0
    assert capsys.readouterr().out.split() == ["path", "a.png"]


def test_a_map_is_an_object_of_json(here: Path, capsys: Captured) -> None:
    store = Store.open(here / "feats")
    for name, values, kind in (
        ("m", [[("x", 1), ("y", None)], []], pa.map_(pa.string(), pa.int64())),
        ("n", [[(1.5, [b"\xff"])], None], pa.map_(pa.float64(), pa.list_(pa.binary()))),
        ("o", [[([1], 1)], []], pa.map_(pa.list_(pa.int64()), pa.int64())),
    ):
        store.write_column(name, pa.table({"path": ["a.png", "b.png"], "value": pa.array(values, kind)}))
    assert query("true", "--columns", "m,n", "--limit", "2", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"m": {"x": 1, "y": None}, "n": {"1.5": ["\\xFF"]}}, {"m": {}, "n": None}]
    assert query("--sql", "select o from columns", "--json") == 1
    assert "o: has maps whose keys are lists, maps or structs; show it as text" in capsys.readouterr().err
    assert query("--sql", "select o::varchar as o from columns where path = 'a.png'", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"o": "{[1]=1}"}


@pytest.mark.parametrize(
    ("sql", "more", "words"),
    [
        (
            "select '2020-01-01 00:00:00.123456789'::timestamp_ns as t",
            ["--json"],
            "t: has a time to the nano",
        ),
        ("select make_date(99999, 1, 1) as day", ["--json"], "day: has a date or time beyond the years 1"),
        ("select 'infinity'::timestamp as t", [], "t: has a date or time beyond the years 1 to 9999"),
        ("select interval '1 month' as i", ["--parquet", "i.parquet"], "Parquet has no type for a column"),
    ],
)
def test_a_value_that_cannot_be_shown_is_one_line(
    here: Path, capsys: Captured, sql: str, more: list[str], words: str
) -> None:
    assert query("--sql", sql, *more) == 1
    assert words in capsys.readouterr().err
    assert not (here / "i.parquet").exists()
