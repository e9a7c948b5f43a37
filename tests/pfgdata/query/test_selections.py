"""`@NAME` in an expression: a saved selection, live or frozen, is one condition among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfgdata.errors import QueryError, StoreError
from pfgdata.query import Thresholds, count, run_query, select
from pfgdata.records import content_id
from pfgdata.store import SavedSelection, Store
from tests.pfgdata.query.rows import add_shard, row, store_of

USUAL = {"general": 0.35, "character": 0.85}


def live(store: Store, name: str, text: str, **thresholds: float) -> None:
    store.write_selection(SavedSelection(name=name, text=text, thresholds={**USUAL, **thresholds}))


def freeze(store: Store, name: str, *paths: str) -> None:
    ids = np.frombuffer(b"".join(content_id(path.encode()) for path in paths), np.uint8).reshape(-1, 16)
    store.write_selection(SavedSelection(name=name, text=None), ids)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four images, and five selections of them."""
    store = store_of(
        tmp_path / "s",
        [row("a.png", {"smile": 0.9, "1girl": 0.8}), row("b.png", {"hatsune_miku": 0.97})],
        [row("c.png", {"solo": 0.5}), row("d.png", {"smile": 0.4}, width=100)],
    )
    live(store, "smiling", "has('smile')")
    live(store, "surely", "has('smile')", general=0.8)
    live(store, "miku", "character = 'hatsune_miku' -- null where there is none")
    live(store, "either", "@surely or @miku")
    freeze(store, "kept", "c.png", "d.png", "gone.png")
    return store


def paths(store: Store, expression: str) -> str:
    found = run_query(store.snapshot(), expression, thresholds=Thresholds(), columns=["path"], roots={})
    assert count(store.snapshot(), expression, Thresholds()) == found.num_rows
    return " ".join(path.removesuffix(".png") for path in found["path"].to_pylist())


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("@smiling", "a d"),
        ("@surely", "a"),
        ("@either", "a b"),
        ("@kept", "c d"),
        ("@KEPT and @smiling", "d"),
        ("not @miku", "a c d"),
        ("not @either", "c d"),
        ("@kept or @miku and width > 200", "b c d"),
        ("@kept = false", "a b"),
    ],
)
def test_a_selection_is_a_condition_true_or_false_in_each_row(
    store: Store, expression: str, found: str
) -> None:
    assert paths(store, expression) == found


def test_a_live_selection_sees_new_images_and_a_frozen_one_does_not(store: Store) -> None:
    add_shard(store, [row("e.png", {"smile": 0.9})])
    assert paths(store, "@smiling") == "a d e" and paths(store, "@kept") == "c d"


def test_a_frozen_selection_has_an_image_back_whose_bytes_are(store: Store) -> None:
    add_shard(store, [row("moved.png", content_id=content_id(b"gone.png"))])
    assert paths(store, "@kept") == "c d moved"


def test_what_each_name_meant_is_told_with_the_selection(store: Store) -> None:
    chosen = select(store.snapshot(), "@either and not @kept", Thresholds())
    assert sorted(chosen.named) == ["either", "kept", "miku", "surely"]
    assert chosen.named["surely"]["thresholds"] == {"general": 0.8, "character": 0.85}
    assert chosen.named["either"] == {
        "text": "@surely or @miku",
        "language": "sql",
        "thresholds": USUAL,
        "frozen": None,
    }
    assert chosen.named["kept"]["frozen"] == store.read_selection("kept").frozen.ids  # type: ignore[union-attr]
    assert chosen.take(np.array([0])).named == chosen.named


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("@smilin", "no selection @smilin; did you mean @smiling.+character 1 of the expression"),
        ("true and @x", "there are @either, @kept, .*@miku, .+character 10 of"),
        ("@kept.x", "@ stands before the name"),
        ("@(width > 2)", "@ stands before the name"),
        ("@round_a", "@round_b: @round_a is made of itself: @round_a -> @round_b -> @round_a"),
        ("@wrong", "@wrong: this store's tagger knows no tag 'smil'"),
        ("@two", "@two: the expression is more than one condition"),
        ("@tagged", "@tagged: .*no tag 'smil'; did you mean smile. .character 6 of the tags"),
        ("@ordered", "@ordered: order: and limit: are no condition"),
        ("@later", "@later: is written as runes, which this pfg does not read; upgrade pfg"),
    ],
)
def test_a_selection_that_cannot_be_asked_is_one_line(store: Store, expression: str, said: str) -> None:
    live(store, "round_a", "@round_b")
    live(store, "round_b", "@round_a or true")
    live(store, "wrong", "has('smil')")
    live(store, "two", "false) or (true")
    for name, text in (("tagged", "solo smil"), ("ordered", "smile order:width")):
        store.write_selection(SavedSelection(name=name, text=text, language="tags", thresholds=USUAL))
    later: Any = "runes"
    store.write_selection(SavedSelection(name="later", text="x", language=later, thresholds=USUAL))
    with pytest.raises(QueryError, match=said) as caught:
        count(store.snapshot(), expression, Thresholds())
    assert "\n" not in str(caught.value)


def test_selections_that_double_each_other_end_before_they_fill_memory(store: Store) -> None:
    for number in range(8):
        live(store, f"n{number + 1}", f"@n{number} or @n{number}" if number else "@smiling or @smiling")
    with pytest.raises(QueryError, match="name each other over 100 times"):
        count(store.snapshot(), "@n8", Thresholds())


def test_damaged_ids_are_named_and_select_nothing(store: Store) -> None:
    (ids,) = (store.path / "selections").glob("kept.*.parquet")
    ids.write_bytes(ids.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"kept\..*: its bytes are not those that were written"):
        count(store.snapshot(), "@kept", Thresholds())
    assert paths(store, "@smiling") == "a d"
