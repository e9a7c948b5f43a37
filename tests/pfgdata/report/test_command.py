"""`pfgdata report` as a user runs it: one whole file, JSON with the same figures, mistakes in one line."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import pytest

from pfgdata.cli import app
from pfgdata.screen import run_app
from tests.pfgdata.report.small_reports import Page, drawn_store, report_of

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    drawn_store(tmp_path / "feats", rows=30)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PFG_STORE", raising=False)
    return tmp_path


def report(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=["report", *arguments], name="pfgdata")
    code = caught.value.code
    assert isinstance(code, int)
    return code


def test_the_page_is_one_file_and_its_name_is_said(here: Path, capsys: Captured) -> None:
    assert report() == 0
    out, err = capsys.readouterr()
    assert out == "" and "page      report.html" in err and "of 25 of 25 images, 3 failed" in err
    assert sorted(path.name for path in here.iterdir()) == ["feats", "report.html"]
    page = Page((here / "report.html").read_text("utf-8"))
    assert page.open == [] and "feats" in page.text


def test_json_has_the_figures_of_the_page_and_writes_none_unless_asked(here: Path, capsys: Captured) -> None:
    assert report("--json", "--where", "width > 100") == 0
    value = json.loads(capsys.readouterr().out)
    assert not (here / "report.html").exists()
    from pfgdata.store import Store

    wanted = json.loads(json.dumps(report_of(Store.open(here / "feats"), "width > 100").as_dict()))
    for name in ("created", "seconds"):
        value.pop(name), wanted.pop(name)
    assert value == wanted
    assert report("--json", "-o", "both.html", "--where", "width > 100") == 0
    again = json.loads(capsys.readouterr().out)
    bars = Page((here / "both.html").read_text("utf-8")).bars
    assert bars["Tags"] == {one["name"]: f"{one['count']:,}" for one in again["general"]["top"]}


def test_a_dash_is_stdout(here: Path, capsys: Captured) -> None:
    assert report("-o", "-", "feats") == 0
    out, err = capsys.readouterr()
    assert out.startswith("<!doctype html>") and Page(out).open == []
    assert "page" not in err
    assert [path.name for path in here.iterdir()] == ["feats"]
    assert report("-o", "-", "--json") == 2
    assert "--json and -o - both go to stdout" in capsys.readouterr().err


def test_tags_and_thresholds_choose_what_counts(capsys: Captured) -> None:
    assert report("--json", "--tags", "smile", "--threshold", "0.9") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["where"] == "has('smile')" and value["thresholds"]["general"] == 0.9
    (smile,) = [one for one in value["general"]["top"] if one["name"] == "smile"]
    assert smile["count"] == value["images"] < value["total"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "folder"], 1, "folder: is a folder; name a file in it"),
        (["-o", "gone/x.html"], 1, "gone/x.html: gone is no folder; make it first"),
        (["--where", "widht > 3"], 1, "widht"),
        (["--where", "true", "--tags", "smile"], 1, "give one of them"),
        (["--threshold", "0.01"], 1, "keeps scores from"),
        (["absent"], 1, "absent"),
        (["--pictures", "-1"], 2, "--pictures"),
    ],
)
def test_a_mistake_is_one_line_and_an_old_page_stays(
    here: Path, capsys: Captured, arguments: list[str], code: int, message: str
) -> None:
    (here / "folder").mkdir()
    (here / "report.html").write_text("old")
    assert report(*arguments) == code
    out, err = capsys.readouterr()
    assert out == "" and message in err and len(err.splitlines()) == 1
    assert (here / "report.html").read_text() == "old"
    assert sorted(path.name for path in here.iterdir()) == ["feats", "folder", "report.html"]


def test_an_old_page_is_replaced_whole_and_a_pipe_is_filled(here: Path) -> None:
    (here / "report.html").write_text("x" * 1_000_000)
    assert report() == 0
    text = (here / "report.html").read_text("utf-8")
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
    os.mkfifo(here / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((here / "pipe").read_text("utf-8")))
    reader.start()
    assert report("-o", "pipe") == 0
    reader.join(10)
    assert read and read[0].startswith("<!doctype html>")
    assert (here / "pipe").is_fifo()


def test_no_folder_of_this_machine_stands_in_a_page(here: Path) -> None:
    assert report("feats") == 0
    assert not re.search(re.escape(str(here)), (here / "report.html").read_text("utf-8"))
