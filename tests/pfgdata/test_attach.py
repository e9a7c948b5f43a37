"""`pfgdata attach`, `columns` and `detach` as a user runs them, over tables of every kind."""

from __future__ import annotations

import csv
import json
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pfgdata.cli import app
from pfgdata.records import content_id
from pfgdata.screen import run_app
from pfgdata.store import Store
from tests.pfgdata.query.rows import row, store_of

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    store = store_of(
        tmp_path / "feats",
        [row("x/a.png"), row("x/b.c.png")],
        [row("y/a2.png"), row("z.zip", member="in/m.png"), row("007.png")],
    )
    with store.writer() as writer:
        writer.set_roots({"/corpus": "/moved/here"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PFG_STORE", raising=False)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=list(arguments), name="pfgdata")
    assert isinstance(caught.value.code, int)
    return caught.value.code


def values(capsys: Captured, name: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run("query", f"{name} is not null", "--json", "--columns", f"path,{name}") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {one["path"]: one[name] for one in rows}


def write(name: str, rows: list[dict[str, Any]]) -> None:
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), name)
    elif name.endswith(".jsonl"):
        Path(name).write_text("".join(json.dumps(one) + "\n" for one in rows))
    else:
        with Path(name).open("w", newline="") as file:
            lines = csv.writer(file, delimiter="\t" if name.endswith(".tsv") else ",")
            lines.writerows([list(rows[0]), *(list(one.values()) for one in rows)])


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.tsv", "t.jsonl"])
def test_each_kind_of_table_is_attached_by_path_and_asked(capsys: Captured, name: str) -> None:
    write(
        name,
        [{"path": "x/a.png", "mark": 7.5}, {"path": "007.png", "mark": 3.0}, {"path": "no", "mark": 1.0}],
    )
    assert run("attach", "aesthetic", name, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "column": "aesthetic",
        "type": "double",
        "key": "path",
        "rows": 3,
        "images": 2,
        "unmatched": 1,
        "first_unmatched": "no",
    }
    assert "1 rows are of no image, first: no" in said.err
    assert values(capsys, "aesthetic") == {"x/a.png": 7.5, "007.png": 3.0}


def test_a_number_that_names_an_image_stays_text_and_types_are_kept(capsys: Captured) -> None:
    write("t.csv", [{"stem": "007", "n": 5, "word": "x, y"}, {"stem": "b.c", "n": -1, "word": "0"}])
    assert run("attach", "n", "t.csv") == run("attach", "word", "t.csv") == 0
    assert values(capsys, "n") == {"007.png": 5, "x/b.c.png": -1}
    assert values(capsys, "word") == {"007.png": "x, y", "x/b.c.png": "0"}
    write("t.jsonl", [{"path": "x/a.png", "t": ["p", "q"]}, {"path": "007.png", "t": []}])
    assert run("attach", "t", "t.jsonl") == 0
    assert values(capsys, "t") == {"x/a.png": ["p", "q"], "007.png": []}


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
def test_categories_of_pandas_and_views_of_strings_are_text(capsys: Captured, kind: pa.DataType) -> None:
    names, words = (pa.array(some).cast(kind) for some in (["x/a.png", "007.png"], ["good", "bad"]))
    pq.write_table(pa.table({"path": names, "word": words}), "t.parquet")
    assert run("attach", "word", "t.parquet") == 0
    assert values(capsys, "word") == {"x/a.png": "good", "007.png": "bad"}


def test_rows_can_be_named_by_content(capsys: Captured) -> None:
    ids = [content_id(path.encode()) for path in ("x/a.png", "y/a2.png")]
    write("t.csv", [{"content_id": str(uuid.UUID(bytes=one)), "v": number} for number, one in enumerate(ids)])
    assert run("attach", "v", "t.csv") == 0
    assert values(capsys, "v") == {"x/a.png": 0, "y/a2.png": 1}


def test_what_query_writes_can_be_attached_again(capsys: Captured) -> None:
    assert (
        run("query", "true", "--parquet", "q.parquet", "--columns", "root,path,member,content_id,width") == 0
    )
    for key in ("path", "content_id"):
        assert run("attach", f"by_{key}", "q.parquet", "--key", key, "--value", "width") == 0
        assert len(values(capsys, f"by_{key}")) == 5


def test_an_empty_member_in_a_csv_is_none(capsys: Captured) -> None:
    write(
        "t.csv",
        [
            {"root": "/corpus", "path": "x/a.png", "member": None, "v": 1},
            {"root": "/corpus", "path": "z.zip", "member": "in/m.png", "v": 2},
        ],
    )
    assert run("attach", "v", "t.csv", "--value", "v") == 0
    assert values(capsys, "v") == {"x/a.png": 1, "z.zip": 2}


def test_absolute_paths_below_where_the_corpus_is_now_are_its(capsys: Captured) -> None:
    write("t.csv", [{"path": "/moved/here/x/a.png", "v": 1}])
    assert run("attach", "v", "t.csv") == 0
    assert values(capsys, "v") == {"x/a.png": 1}


def test_stems_name_images_and_members_by_their_names(capsys: Captured) -> None:
    write("t.csv", [{"path": "elsewhere/m.jpg", "v": 1}, {"path": "a2", "v": 2}, {"path": "q.png", "v": 3}])
    assert run("attach", "v", "t.csv", "--key", "stem") == 0
    assert "1 rows are of no image, first: q" in capsys.readouterr().err
    assert values(capsys, "v") == {"z.zip": 1, "y/a2.png": 2}


def test_a_stem_of_two_different_images_is_refused(capsys: Captured, here: Path) -> None:
    store_of(
        here / "two", [row("p/a.png"), row("q/a.png"), row("q/b.png"), row("b.jpg", content_id=b"s" * 16)]
    )
    write("t.csv", [{"stem": "a", "v": 1}])
    assert run("attach", "v", "t.csv", "--store", "two") == 1
    assert "stems are of different images, first: a (p/a.png and q/a.png); use --key path" in (
        capsys.readouterr().err
    )
    assert Store.open(here / "two").columns() == []


def test_columns_are_listed_and_detached(capsys: Captured, here: Path) -> None:
    write("t.csv", [{"path": "x/a.png", "v": 1}, {"path": "gone", "v": 2}])
    assert run("attach", "v", "t.csv") == run("attach", "w", "t.csv", "--value", "v") == 0
    (here / "feats" / "columns" / "w.parquet").write_bytes(b"x")
    capsys.readouterr()
    assert run("columns") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1:] == ["v\tint64\t1\t2"] and "w.parquet" in said.err
    assert run("attach", "v", "t.csv") == 1 and "has a column v already" in capsys.readouterr().err
    assert run("attach", "v", "t.csv", "--replace") == 0
    assert run("detach", "v") == run("detach", "w") == 0
    assert list((here / "feats" / "columns").iterdir()) == []
    capsys.readouterr()
    assert run("detach", "v") == 1
    assert "no column 'v'; its columns: none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "more", "said"),
    [
        ("none.csv", [], "none.csv: cannot be read: no such file"),
        ("t.txt", [], "t.txt: is no table that pfg reads; name a .parquet"),
        ("bad.parquet", [], "bad.parquet: is damaged, or no parquet file"),
        ("bad.jsonl", [], "bad.jsonl: is damaged, or no jsonl file"),
        ("bad.csv", [], "bad.csv: is damaged, or no csv file"),
        ("t.csv", ["--value", "scor"], "no column scor; did you mean score?"),
        ("t.csv", [], "no column v; it has score, other; say which by --value"),
        (
            "t.csv",
            ["--key", "content_id"],
            "no column content_id to name the images; it has path, score, other",
        ),
        ("ids.csv", [], "row 1: 'abc' is no content_id; it is a UUID"),
        ("far.csv", [], "row 1: /far/a.png lies below no corpus of the store (/moved/here/)"),
        ("twice.csv", [], "1 rows repeat the key of another, first: x/a.png"),
        ("stems.csv", ["--key", "stem"], "the stem a stands twice"),
        ("nameless.csv", [], "nameless.csv: 2 rows have no path; leave them out"),
        ("idless.csv", [], "idless.csv: 1 rows have no content_id; leave them out"),
        ("nameless.jsonl", ["--key", "stem"], "nameless.jsonl: 1 rows have no stem; leave them out"),
        ("keyless.csv", [], "no column content_id, path or stem to name the images; it has name, v"),
    ],
)
def test_a_file_that_cannot_be_attached_is_one_line(
    capsys: Captured, here: Path, file: str, more: list[str], said: str
) -> None:
    write("t.csv", [{"path": "x/a.png", "score": 1, "other": 2}])
    write("ids.csv", [{"content_id": "abc", "v": 1}])
    write("far.csv", [{"path": "/far/a.png", "v": 1}])
    write("twice.csv", [{"path": "x/a.png", "v": 1}, {"path": "x/a.png", "v": 2}])
    write("stems.csv", [{"path": "p/a.png", "v": 1}, {"path": "a.jpg", "v": 2}])
    write("nameless.csv", [{"path": "x/a.png", "v": 1}, {"path": "", "v": 2}, {"path": None, "v": 3}])
    write("idless.csv", [{"content_id": "", "v": 1}])
    write("nameless.jsonl", [{"stem": "a", "v": 1}, {"stem": None, "v": 2}])
    write("keyless.csv", [{"name": "x/a.png", "v": 1}])
    Path("t.txt").write_text("x")
    Path("bad.parquet").write_bytes(b"PAR1 no")
    Path("bad.jsonl").write_text('{"path": "x", "v": \n')
    Path("bad.csv").write_text("path,v\nx,1,2\n")
    assert run("attach", "v", file, *more) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert Store.open(here / "feats").columns() == []


def test_a_name_of_the_stores_own_is_refused(capsys: Captured) -> None:
    write("t.csv", [{"path": "x/a.png", "v": 1}])
    assert run("attach", "tags", "t.csv", "--value", "v") == 1
    assert "tags is what the store itself calls something" in capsys.readouterr().err
