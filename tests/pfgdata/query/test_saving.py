"""`pfgdata select` and `pfgdata selections` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pfgdata.cli import app
from pfgdata.screen import run_app
from pfgdata.store import Store
from tests.pfgdata.query.rows import add_shard, row, store_of

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    store_of(
        tmp_path / "feats",
        [row("a.png", {"smile": 0.9, "1girl": 0.8}), row("b.png", {"hatsune_miku": 0.97})],
        [row("c.png", {"solo": 0.5}), row("d.png", {"smile": 0.4}, width=100)],
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PFG_STORE", raising=False)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=list(arguments), name="pfgdata")
    assert isinstance(caught.value.code, int)
    return caught.value.code


def paths(capsys: Captured, expression: str) -> list[str]:
    capsys.readouterr()
    assert run("query", expression, "--columns", "path") == 0
    return capsys.readouterr().out.split()[1:]


def listed(capsys: Captured) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert run("selections", "--json") == 0
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)}


def test_a_selection_is_saved_with_its_thresholds_and_asked_by_its_name(capsys: Captured) -> None:
    assert run("select", "good", "has('smile')", "--threshold", "0.8") == 0
    assert "@good  1 images in 1 files, live" in capsys.readouterr().err
    assert paths(capsys, "@good") == ["a.png"]
    assert paths(capsys, "not @good and has('smile')") == ["d.png"]


def test_a_live_one_grows_and_a_frozen_one_stays(capsys: Captured, here: Path) -> None:
    assert run("select", "live", "has('smile')") == run("select", "kept", "has('smile')", "--freeze") == 0
    add_shard(Store.open(here / "feats"), [row("e.png", {"smile": 0.9})])
    assert paths(capsys, "@live") == ["a.png", "d.png", "e.png"]
    assert paths(capsys, "@kept") == ["a.png", "d.png"]
    found = listed(capsys)
    assert (found["@live"]["images"], found["@live"]["kind"], found["@live"]["frozen"]) == (3, "live", None)
    assert (found["@kept"]["images"], found["@kept"]["kind"], found["@kept"]["frozen"]) == (2, "frozen", 2)


def test_tags_are_kept_as_they_were_typed_and_asked_again(capsys: Captured, here: Path) -> None:
    assert run("select", "tagged", "--tags", "smile -solo", "--threshold", "0.5") == 0
    assert run("select", "either", "--tags", "~@tagged ~solo") == 0
    add_shard(Store.open(here / "feats"), [row("e.png", {"smile": 0.9}), row("f.png", {"smile": 0.4})])
    assert paths(capsys, "@tagged") == ["a.png", "e.png"]
    assert paths(capsys, "@either and width > 3") == ["a.png", "c.png", "e.png"]
    saved = Store.open(here / "feats").read_selection("either")
    assert (saved.text, saved.language, saved.uses) == ("~@tagged ~solo", "tags", ("tagged",))


def test_tags_with_an_order_and_a_limit_are_kept_as_images_only(capsys: Captured, here: Path) -> None:
    assert run("select", "smiling", "has('smile')") == 0
    ordered = ("select", "few", "--tags", "order:width_asc limit:2")
    capsys.readouterr()
    assert run(*ordered) == 1
    assert "leave them out, or --freeze" in capsys.readouterr().err
    assert run(*ordered, "--freeze") == 0
    assert paths(capsys, "@few") == ["a.png", "d.png"]
    assert run(*ordered, "--freeze", "--replace", "--minus", "@smiling") == 0
    assert paths(capsys, "@few") == ["b.png", "c.png"]
    saved = Store.open(here / "feats").read_selection("few")
    assert (saved.text, saved.how, saved.uses) == (
        "(true) and not @smiling",
        "the first 2 by width",
        ("smiling",),
    )


def test_minus_leaves_out_what_others_hold_now_and_later(capsys: Captured) -> None:
    assert run("select", "wide", "width > 200") == run("select", "miku", "has('hatsune_miku')") == 0
    assert run("select", "rest", "true or false -- all", "--minus", "@wide") == 0
    assert run("select", "more", "true or false", "--minus", "miku", "--minus", "@rest") == 0
    assert paths(capsys, "@rest") == ["d.png"] and paths(capsys, "@more") == ["a.png", "c.png"]


def test_a_frozen_one_says_how_many_of_its_images_are_gone(capsys: Captured, here: Path) -> None:
    assert run("select", "kept", "true", "--freeze", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frozen"]["count"] == 4
    from pfgdata.store import Shadow

    store = Store.open(here / "feats")
    add_shard(store, [row("z.png")], shadows=[Shadow(store.snapshot().shards[0].id, "images", 0)])
    assert listed(capsys)["@kept"]["kind"] == "frozen, 1 gone"


def test_the_list_shows_each_and_names_a_damaged_one(capsys: Captured, here: Path) -> None:
    assert run("select", "good", "has('smile')") == run("select", "bad", "true") == 0
    (here / "feats" / "selections" / "bad.json").write_text("{}")
    capsys.readouterr()
    assert run("selections") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].startswith("@good\t2\tlive\thas('smile')\t")
    assert "@bad  " in shown.err and "bad.json: damaged" in shown.err
    assert run("selections", "--remove", "@bad") == 0
    capsys.readouterr()
    assert run("selections", "--remove", "good", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"removed": "@good"}
    assert listed(capsys) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["select", "good", "true"], "has a selection good already; --replace it"),
        (["select", "Good", "true"], "'Good' cannot name a selection"),
        (["select", "order", "true"], "order is a word of SQL; name the selection my_order"),
        (["select", "x", "has('smil')"], "knows no tag 'smil'; did you mean smile?"),
        (["select", "x", "@goo"], "no selection @goo; did you mean @good"),
        (["select", "x", "true", "--minus", "@goo"], "no selection @goo; did you mean @good"),
        (["select", "x", "true) or (true", "--minus", "@good"], "more than one condition"),
        (["select", "good", "not @good", "--replace"], "@good would be made of itself; --freeze it"),
        (["select", "good", "@on_good", "--replace"], "@good would be made of itself"),
        (["select", "x", "true", "--threshold", "0.01"], "the store keeps scores from 0.05 on"),
        (["selections", "--remove", "good"], "@on_good is made of @good"),
        (["selections", "--remove", "goof"], "no selection @goof; did you mean @good"),
    ],
)
def test_what_cannot_be_saved_is_one_line(capsys: Captured, arguments: list[str], said: str) -> None:
    assert run("select", "good", "has('smile')") == run("select", "on_good", "not @good") == 0
    capsys.readouterr()
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_selection_may_be_frozen_over_itself(capsys: Captured) -> None:
    assert run("select", "good", "has('smile')") == 0
    assert run("select", "good", "@good and width > 200", "--freeze", "--replace") == 0
    assert paths(capsys, "@good") == ["a.png"]
