"""Captions of rows: from the store's tags, or as the user wrote them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.captions import Captions, column_captions, shuffled, tag_captions
from pfgdata.errors import StoreError
from pfgdata.records import Selection
from pfgdata.store import FAILURES_SCHEMA, Shadow, ShardContents, Store, images_table
from tests.conftest import new_store
from tests.doubles import tiny_vocabulary
from tests.pfgtrain.small_store import build_store, content_of

MIKU, WEEK, TEIO = "hatsune_miku", "special_week", "tokai_teio_(umamusume)"
SCORES: list[dict[str, float]] = [  # an image each: what lies over the store's floor
    {"1girl": 0.99, WEEK: 0.95, "long_hair": 0.75, "smile": 0.34},
    {TEIO: 0.99, "solo": 0.9, MIKU: 0.86, ">_<": 0.5, WEEK: 0.84, "it's": 0.36},
    {"smile": 0.1},
    {},
    {"red_background": 0.35, "glasses": 0.349},  # 0.35 is stored as float16, a little above
]
TEXTS = [
    "special week, 1girl, long hair",
    "tokai teio (umamusume), hatsune miku, solo, >_<, it's",
    "",
    "",
    "red background",
]


def add_images(
    store: Store,
    numbers: list[int],
    *,
    scores: list[dict[str, float]] = SCORES,
    shadows: tuple[Shadow, ...] = (),
) -> None:
    """Commit one shard: image i has the scores of `scores[i]`."""
    names = tiny_vocabulary().names
    rows: list[dict[str, Any]] = []
    for number in numbers:
        best_first = sorted(scores[number].items(), key=lambda pair: -pair[1])
        rows.append(
            {
                "content_id": content_of(number),
                "root": "/images",
                "path": f"{number}.png",
                "rating": "general",
                "rating_scores": [0.9, 0.1, 0.0, 0.0],
                "tag_ids": [names.index(name) for name, _ in best_first],
                "tag_scores": [score for _, score in best_first],
            }
        )
    contents = ShardContents(
        images=images_table(rows),
        features=np.zeros((len(rows), store.identity.feature_dim), np.float16),
        failures=FAILURES_SCHEMA.empty_table(),
        shadows=shadows,
    )
    with store.writer() as writer:
        writer.commit(contents)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The images of SCORES in two shards."""
    store = new_store(tmp_path / "feats")
    add_images(store, [0, 1])
    add_images(store, [2, 3, 4])
    return store


def captions_of(store: Store, images: Selection | None = None, **thresholds: float) -> Captions:
    """The tag captions of `images`, or of the whole store."""
    snapshot = store.snapshot()
    given = {"threshold": 0.35, "character_threshold": 0.85, **thresholds}
    selected = snapshot.everything if images is None else images
    return tag_captions(snapshot, selected, **given)


def rows(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Row numbers as `of` takes them."""
    return np.array(numbers, np.int64)


def test_tags_are_written_characters_first_then_general_tags_best_first(store: Store) -> None:
    captions = captions_of(store)
    assert captions.of(np.arange(5)) == TEXTS
    assert len(captions) == 5 and captions.missing == 2


def test_captions_come_for_any_rows_in_any_order(store: Store) -> None:
    captions = captions_of(store)
    assert captions.of(rows(4, 0, 0, 3)) == [TEXTS[4], TEXTS[0], TEXTS[0], ""]
    assert captions.of(rows()) == []


def test_captions_follow_the_selection_not_the_layout_of_shards(store: Store) -> None:
    order = rows(4, 1, 2, 0, 1)
    captions = captions_of(store, store.snapshot().everything.take(order))
    assert captions.of(np.arange(5)) == [TEXTS[row] for row in order]


def test_thresholds_are_those_asked_for(store: Store) -> None:
    low = captions_of(store, threshold=0.05, character_threshold=0.5)
    assert low.of(rows(0, 1, 2)) == [
        "special week, 1girl, long hair, smile",
        "tokai teio (umamusume), hatsune miku, special week, solo, >_<, it's",
        "smile",
    ]
    high = captions_of(store, threshold=1, character_threshold=0.9)
    assert high.of(rows(0, 1)) == ["special week", "tokai teio (umamusume)"] and high.missing == 3


def test_rows_that_a_later_shard_hides_do_not_shift_the_others(store: Store) -> None:
    before = store.snapshot()
    add_images(store, [2], shadows=(Shadow(before.shards[1].id, "images", 0),))
    assert captions_of(store).of(np.arange(5)) == [*TEXTS[:2], *TEXTS[3:], TEXTS[2]]
    with pytest.raises(StoreError, match="select again"):
        captions_of(store, before.everything)


def test_no_images_have_no_captions(store: Store) -> None:
    nothing = store.snapshot().everything.take(rows())
    assert len(captions_of(store, nothing)) == 0
    store.write_column("text", pa.table({"path": ["0.png"], "value": ["x"]}))
    assert column_captions(store, store.snapshot(), nothing, name="text").of(rows()) == []


def test_faces_keep_their_underscores_and_words_do_not(tmp_path: Path) -> None:
    faces = ["^_^", "0_0", "(o)_(o)", "<|>_<|>", "||_||", "+_-", "@_@"]
    words = ["k-on!_(series)", "v_over_eye", "no.21_x", "東方_project"]
    vocabulary = tiny_vocabulary()  # of the same numbers under other names
    names = (*vocabulary.names[:4], *faces, *words)
    renamed = replace(
        vocabulary, names=names, categories=np.where(vocabulary.categories == 4, 0, vocabulary.categories)
    )
    store = new_store(tmp_path / "feats")
    add_images(store, [0], scores=[dict.fromkeys(vocabulary.names[4:], 0.9)])
    snapshot = Store(store.path, store.identity, renamed, store.disk).snapshot()
    captions = tag_captions(snapshot, snapshot.everything, threshold=0.35, character_threshold=0.85)
    expected = [*faces, "k-on! (series)", "v over eye", "no.21 x", "東方 project"]
    assert captions.of(rows(0)) == [", ".join(expected)]


def test_a_column_gives_the_users_own_texts_and_nothing_where_there_is_none(store: Store) -> None:
    texts = pa.table({"path": ["4.png", "0.png", "3.png"], "value": ["a horse girl", "she runs, fast", ""]})
    store.write_column("text", texts)
    captions = column_captions(store, store.snapshot(), store.snapshot().everything, name="text")
    assert captions.of(rows(4, 0, 1, 3, 4)) == ["a horse girl", "she runs, fast", "", "", "a horse girl"]
    assert captions.missing == 3 and len(captions) == 5


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_text_of_any_arrow_kind_is_a_caption(tmp_path: Path, kind: pa.DataType) -> None:
    store = build_store(tmp_path / "feats", [0, 1, 2], shard_rows=2)
    ids = pa.array([content_of(2), content_of(0)], pa.binary(16))
    store.write_column("text", pa.table({"content_id": ids, "value": pa.array(["two", "zero"]).cast(kind)}))
    captions = column_captions(store, store.snapshot(), store.snapshot().everything, name="text")
    assert captions.of(np.arange(3)) == ["zero", "", "two"] and captions.missing == 1


def test_an_unknown_caption_column_is_answered_with_what_there_is(store: Store) -> None:
    everything = store.snapshot().everything
    with pytest.raises(StoreError, match=r"no caption column 'tag'; did you mean tags\? there are tags$"):
        column_captions(store, store.snapshot(), everything, name="tag")
    store.write_column("sentence", pa.table({"path": ["0.png"], "value": ["x"]}))
    with pytest.raises(StoreError, match=r"did you mean sentence\? there are tags, sentence$"):
        column_captions(store, store.snapshot(), everything, name="sentense")


def test_a_column_that_is_no_text_is_no_caption(store: Store) -> None:
    store.write_column("score", pa.table({"path": ["0.png"], "value": [0.5]}))
    with pytest.raises(StoreError, match="column score holds double, a caption is text"):
        column_captions(store, store.snapshot(), store.snapshot().everything, name="score")


TEN = "one, two, three, four, five, six, seven, eight, nine, ten"


def test_shuffling_keeps_the_first_parts_and_every_other_one_somewhere() -> None:
    for seed in range(20):
        parts = shuffled(TEN, keep_tokens=3, separator=",", seed=seed).split(", ")
        assert parts[:3] == ["one", "two", "three"] and sorted(parts) == sorted(TEN.split(", "))


def test_the_order_is_a_function_of_the_seed() -> None:
    orders = [shuffled(TEN, keep_tokens=0, separator=",", seed=seed) for seed in range(50)]
    assert orders == [shuffled(TEN, keep_tokens=0, separator=",", seed=seed) for seed in range(50)]
    assert len(set(orders)) == 50
    assert len({order.split(", ")[0] for order in orders}) == 10
    assert orders[0] == shuffled(TEN, keep_tokens=0, separator=", ", seed=0)


@pytest.mark.parametrize(
    ("caption", "keep_tokens", "separator", "expected"),
    [
        (TEN, 10, ",", TEN),
        (TEN, 99, ",", TEN),
        ("", 0, ",", ""),
        ("only one", 0, ",", "only one"),
        (" a ,b,,  ,", 2, ",", "a, b"),
        ("a, b ; c", 2, ";", "a, b; c"),
        ("a  b", 2, " ", "a b"),
    ],
)
def test_what_is_kept_or_alone_stays(caption: str, keep_tokens: int, separator: str, expected: str) -> None:
    assert shuffled(caption, keep_tokens=keep_tokens, separator=separator, seed=1) == expected
