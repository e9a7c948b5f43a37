"""A question beside its condition: order, sample, limit; and functions over the tags that count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pfgdata.errors import QueryError
from pfgdata.query import Question, Session, Thresholds
from pfgdata.store import Store
from tests.pfgdata.query.rows import row, store_of

ROWS = [
    row("a.png", {"smile": 0.9, "1girl": 0.8, "hatsune_miku": 0.97}, width=100, height=300),
    row("b.png", {"smile": 0.4, "special_week": 0.95, "hatsune_miku": 0.9}, width=300, height=100),
    row("c.png", {"smile": 0.2, "solo": 0.3}, width=200, height=200),
    row("d.png", {"glasses": 0.6}, width=200, height=100),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = store_of(tmp_path_factory.mktemp("store"), ROWS[:1], ROWS[1:])
    store.write_column("mark", pa.table({"path": ["a.png", "d.png"], "value": [5, 9]}))
    store.write_column("note", pa.table({"path": ["b.png"], "value": ["x"]}))
    return store


@pytest.fixture(scope="module")
def session(store: Store) -> Iterator[Session]:
    with Session(store.snapshot()) as session:
        yield session


def paths(session: Session, question: str | Question, *, limit: int | None = None, **more: Any) -> list[str]:
    """The names without .png, in the order of the answer; asked in three ways."""
    table = session.rows(question, columns=["path", "content_id"], limit=limit, **more)
    if limit is None:
        chosen = session.select(question, **more)
        assert [bytes(one) for one in chosen.content_ids] == [
            one.bytes for one in table["content_id"].to_pylist()
        ]
        assert session.count(question, **more) == table.num_rows
    return [path.removesuffix(".png") for path in table["path"].to_pylist()]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("any_of('smile', 'glasses')", "abd"),
        ("any_of('hatsune miku')", "ab"),
        ("all_of('smile', 'hatsune_miku', '1girl')", "a"),
        ("all_of('smile', 'general')", "ab"),
        ("not any_of('smile', 'glasses')", "c"),
        ("width > 0 and all_of('smile', 'hatsune_miku') and has('1girl')", "a"),
        ("list_has_all(tags, ['smile', '1girl']) and width > 0", "a"),
        ("has('glasses') or (any_of('smile', 'glasses') or width < 0)", "abd"),
        ("count_tags() = 2", "a"),
        ("count_tags() = 0", "c"),
        ("count_characters() > 1", "b"),
        ("count_tags() = len(tags) and count_characters() = len(characters)", "abcd"),
        ("len(list_filter([1, 2], lambda n: n = count_characters())) = 1 and any_of('smile')", "ab"),
    ],
)
def test_tags_are_combined_and_counted(session: Session, expression: str, expected: str) -> None:
    assert paths(session, expression) == list(expected)


def test_counts_follow_the_thresholds_in_force(session: Session) -> None:
    low = Thresholds(general=0.2, character=0.99)
    assert paths(session, "count_tags() = 2", thresholds=low) == ["a", "c"]
    assert paths(session, "count_characters() > 0", thresholds=low) == []
    assert paths(session, "all_of('smile', 'solo')", thresholds=low) == ["c"]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("any_of()", "any_of() takes tag names in single quotes: any_of('smile', 'blush') (character 1 of"),
        ("any_of('smile', path)", "takes tag names"),
        ("all_of('smile', 'smlie')", "no tag 'smlie'; did you mean smile? (character 17 of"),
        ("count_tags('smile') > 1", "count_tags() takes nothing between its brackets"),
        ("count_tag() > 1", "no function count_tag; did you mean count_tags"),
        ("count_tags()", "gives BIGINT, not true or false"),
        ("any_of(" + ", ".join(["'smile'"] * 2001) + ")", "functions and operators; at most 2,000"),
        (
            "len(list_filter(tags, lambda t: len(list_filter(tags, lambda u: count_tags() > 2)) > 1)) > 3",
            "steps for each image, more than",
        ),
    ],
)
def test_a_wrong_use_of_them_is_one_line(session: Session, expression: str, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        session.count(expression)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("width", "acdb"),
        ("-width", "bcda"),
        ("path", "abcd"),
        ("-path", "dcba"),
        ("score('smile')", "dcba"),
        ("-score('smile')", "abcd"),
        ("width / height", "acdb"),
        ("-width::int + 3", "bcda"),
        ("-(width / height)", "bdca"),
        ("-mark", "dabc"),
        ("mark", "adbc"),
        ("character", "abcd"),
        ("-character", "bacd"),
        ("-count_characters()", "bacd"),
        ("has('glasses')", "abcd"),
        ("-has('glasses')", "dabc"),
        ("3", "abcd"),
        ("-tags", "abdc"),
    ],
)
def test_an_order_is_an_expression_nulls_last_and_ties_in_the_stable_order(
    session: Session, order: str, expected: str
) -> None:
    assert paths(session, Question(order=order)) == list(expected)
    first = paths(session, Question(order=order), limit=3)
    assert first == list(expected)[:3] == paths(session, Question(order=order, limit=3))


def test_an_order_and_a_condition_name_different_columns_of_the_user(session: Session) -> None:
    assert paths(session, Question(where="note is null", order="-mark")) == ["d", "a", "c"]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("widht", "no column widht; did you mean width? (character 1 of the order)"),
        ("-widht", "did you mean width? (character 2 of the order)"),
        ("", "the order is empty"),
        ("width, height", "more than one condition"),
        ("width) desc, (height", "(character 8 of the order)"),
        ("random() + 1", "no function random"),
        ("(select 1)", "a query inside the expression is not allowed here"),
        ("width desc", "character 7 of the order"),
        ("read_text('/etc/passwd')", "no function read_text"),
    ],
)
def test_an_order_is_checked_as_a_condition_is(session: Session, order: str, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        paths(session, Question(order=order))
    assert "\n" not in str(caught.value)
    assert words in str(caught.value)


def in_shards(path: Path, parts: Sequence[Sequence[str]]) -> Session:
    store = store_of(path, *([row(name, {"smile": 0.9}) for name in part] for part in parts))
    return Session(store.snapshot())


def test_a_sample_is_of_the_seed_and_the_images_not_of_the_shards(tmp_path: Path) -> None:
    names = [f"{number:03}.png" for number in range(100)]
    parts = [names[70:], names[:20], names[20:70]]
    with in_shards(tmp_path / "one", [names]) as one, in_shards(tmp_path / "many", parts) as many:
        asked = Question(where="has('smile')", sample=10)
        first = paths(one, asked)
        assert len(first) == 10
        assert first == sorted(first) == paths(many, asked) == paths(one, asked)
        assert first != paths(one, Question(where="has('smile')", sample=10, seed=1))
        larger = paths(one, Question(sample=20))
        assert set(first) < set(larger)
        assert paths(one, Question(sample=1000)) == paths(one, "true")
        shuffled = paths(one, Question(order="random()", limit=10))
        assert sorted(shuffled) == first != shuffled
        assert paths(one, Question(sample=10, order="-path", limit=3)) == first[::-1][:3]
        assert paths(one, Question(sample=0)) == []


def test_every_image_is_as_likely_to_be_drawn(tmp_path: Path) -> None:
    names = [f"{number:02}.png" for number in range(20)]
    with in_shards(tmp_path / "s", [names]) as session:
        found = [session.rows(Question(sample=5, seed=seed), columns=["path"]) for seed in range(60)]
    drawn = [name for table in found for name in table["path"].to_pylist()]
    often = [drawn.count(name) for name in names]
    assert min(often) > 3 and max(often) < 30  # 15 of 60 each, and 4 standard deviations of 3.4


def test_a_selection_says_how_it_was_asked(session: Session) -> None:
    def words(**asked: Any) -> str | None:
        return session.select(Question(**asked)).expression

    assert words(where="width > 3") == "width > 3"
    assert words() is None
    assert words(sample=2, seed=7) == "true (a sample of 2, seed 7)"
    assert words(where="width > 3", order="-mark", limit=2) == "width > 3 (the first 2 by -mark)"


def test_a_number_of_rows_is_none_below_zero_or_without_end(session: Session) -> None:
    with pytest.raises(QueryError, match="sample -1: give 0 or more"):
        Question(sample=-1)
    with pytest.raises(QueryError, match="limit -1: give 0 or more"):
        session.sql("from images", limit=-1)
    for ask in (
        lambda: Question(limit=2**63),
        lambda: session.rows(None, limit=2**63),
        lambda: session.sql("from images", limit=2**63),
    ):
        with pytest.raises(QueryError, match="limit 9223372036854775808: give 9223372036854775807 at most"):
            ask()
    assert session.rows(None, limit=2**63 - 1).num_rows == session.count(None)
