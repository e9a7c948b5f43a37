"""Why a set is a set: counts, shares and lift of its tags, and their order."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pfgdata.cli import app
from pfgdata.query import Session, Thresholds, tag_shares
from pfgdata.query.shares import TagShare
from pfgdata.screen import run_app
from pfgdata.store import Shadow, Store
from tests.pfgdata.query.rows import add_shard, row, store_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Eight visible images in three shards, of which four have smile; one more is hidden."""
    both, smile = {"smile": 0.9, "1girl": 0.8}, {"smile": 0.36, "hatsune_miku": 0.9}
    store = store_of(
        tmp_path_factory.mktemp("store") / "s",
        [row("a", both), row("b", both), row("hidden", both)],
        [row("c", both), row("d", smile), row("e", {"1girl": 0.9, "hatsune_miku": 0.5})],
    )
    first = store.snapshot().shards[0].id
    add_shard(store, [row("f"), row("g"), row("h", {"1girl": 0.34})], shadows=[Shadow(first, "images", 2)])
    return store


def shares(store: Store, expression: str | None, **thresholds: float) -> dict[str, TagShare]:
    with Session(store.snapshot()) as session:
        found = tag_shares(session, expression, thresholds=Thresholds(**thresholds))
    return {one.tag: one for one in found.tags}


def test_a_tag_is_counted_where_it_counts(store: Store) -> None:
    found = shares(store, "has('smile')")
    assert {tag: one.count for tag, one in found.items()} == {
        "smile": 4,
        "1girl": 3,
        "hatsune_miku": 1,
        "general": 4,
    }
    assert {one.kind for one in found.values()} == {"general", "character", "rating"}
    girl = found["1girl"]
    assert (girl.share, girl.rest, girl.lift) == (0.75, 0.25, 3.0)
    assert found["smile"].lift is None and found["smile"].rest == 0
    assert shares(store, "has('smile')", general=0.85)["smile"].count == 3
    assert "1girl" not in shares(store, "has('smile')", general=0.85)


def test_the_most_telling_tag_comes_first_and_what_all_have_last(store: Store) -> None:
    assert list(shares(store, "has('smile')")) == ["smile", "1girl", "hatsune_miku", "general"]
    weights = [one.weight for one in shares(store, "has('smile')").values()]
    assert weights == sorted(weights, reverse=True) and weights[-1] == 0
    assert weights[0] == pytest.approx(8 * np.log(2))  # 4 of 4 against 0 of 4


def test_what_a_set_has_less_of_comes_behind(store: Store) -> None:
    fewer = shares(store, "not has('smile')")["1girl"]
    assert fewer.weight < 0 and fewer.lift == pytest.approx(1 / 3)


def test_all_images_are_told_by_count(store: Store) -> None:
    found = shares(store, None)
    assert list(found) == ["general", "1girl", "smile", "hatsune_miku"]
    assert [one.count for one in found.values()] == [8, 4, 4, 1]


def test_of_no_image_there_are_no_tags(store: Store) -> None:
    assert shares(store, "width > 10000") == {}


def test_the_command_prints_a_table_or_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for asked in (["has('smile')"], ["--tags", "smile", "--json", "--limit", "1"]):
        with pytest.raises(SystemExit) as caught:
            run_app(app, args=["tags", *asked, "--store", str(store.path)], name="pfgdata")
        assert caught.value.code == 0
    table, _, value = capsys.readouterr().out.partition("{")
    assert table.splitlines()[2] == "1girl\tgeneral\t3\t75.0%\t25.0%\t3.00"
    said = json.loads("{" + value)
    assert (said["images"], said["total"], [one["tag"] for one in said["tags"]]) == (4, 8, ["smile"])
