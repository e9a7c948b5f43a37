"""Danbooru's syntax: what each word of it selects, and what is wrong by its place."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.errors import QueryError
from pfgdata.query import Question, Session, Thresholds, count, read_tags
from pfgdata.store import Store, StoreIdentity
from pfgdata.vocabulary import Vocabulary
from tests.pfgdata.query.rows import VOCABULARY, row, store_of

ROWS = [
    row("a.png", {"1girl": 0.99, "smile": 0.9, "long_hair": 0.5, "hatsune_miku": 0.97, "general": 0.8}),
    row(
        "b.jpg", {"1girl": 0.6, "glasses": 0.7, "special_week": 0.9, "explicit": 0.8}, width=1024, height=1024
    ),
    row("in/c d.png", {"solo": 0.9, ">_<": 0.8, "sensitive": 0.5}, width=1600, height=900, size=3 * 2**20),
    row(
        "d_1.webp",
        {"smile": 0.4, "long_hair": 0.9, "questionable": 0.6},
        width=100,
        height=300,
        format="webp",
    ),
    row("dx1.webp", {"it's": 0.9, "tokai_teio_(umamusume)": 0.9, "hatsune_miku": 0.86}, size=200 * 1024),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = store_of(tmp_path_factory.mktemp("store"), ROWS[:2], ROWS[2:])
    paths = ["a.png", "b.jpg", "in/c d.png"]
    for name, values in {
        "danbooru_score": [5, 30, -2],
        "danbooru_tags": [["blue", "sky"], ["sky"], []],
        "good": [True, False, True],
        "artist": ["one", "two men", None],
        "posted": [datetime(2024, 1, day) for day in (1, 2, 3)],
        "group": [3, 2, 1],
        "text": ["x", "y", "z"],
    }.items():
        store.write_column(name, pa.table({"path": paths, "value": values}))
    return store


@pytest.fixture(scope="module")
def session(store: Store) -> Iterator[Session]:
    with Session(store.snapshot()) as session:
        yield session


def found(session: Session, question: Question) -> str:
    """The first letters of the images' names (dx1 is e), in their order."""
    table = session.rows(question, columns=["path"])
    letters = {"a.png": "a", "b.jpg": "b", "in/c d.png": "c", "d_1.webp": "d", "dx1.webp": "e"}
    return "".join(letters[path] for path in table["path"].to_pylist())


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("1girl", "ab"),
        ("1girl smile", "a"),
        ("1GIRL", "ab"),
        ("1girl -smile", "b"),
        ("-1girl", "dec"),
        ("--1girl", "ab"),
        ("~smile ~glasses", "abd"),
        ("1girl ~smile ~glasses ~solo", "ab"),
        ("~solo", "c"),
        ("smile or glasses", "abd"),
        ("1girl smile or solo", "ac"),
        ("1girl (smile or solo)", "a"),
        ("( 1girl ( smile OR glasses ) )", "ab"),
        ("-(1girl or solo)", "de"),
        ("-(1girl smile)", "bdec"),
        ("~(1girl smile) ~solo", "ac"),
        ("~-1girl ~smile", "adec"),
        (">_<", "c"),
        ("(>_< solo)", "c"),
        ("it's", "e"),
        ("tokai_teio_(umamusume)", "e"),
        ("(tokai_teio_(umamusume) or solo)", "ec"),
        ('"long hair"', "ad"),
        ('-"long hair" 1girl', "b"),
        ('("long hair" or >_<)', "adc"),
        ("hatsune_miku", "ae"),
        ("*_hair", "ad"),
        ("*m*e", "ad"),
        ("-*_hair", "bec"),
        ("l*g*r", "ad"),
        ("hatsune*", "ae"),
        ("rating:g", "ae"),
        ("rating:s", "c"),
        ("rating:g,q", "ade"),
        ("rating:safe", "aec"),
        ("-rating:explicit,Q", "aec"),
        ("rating:questionable", "d"),
        ("conf:1girl:>0.9", "a"),
        ("conf:1girl:0.5..0.7", "b"),
        ("conf:smile:>0.3 -conf:smile:>0.5", "d"),
        ('conf:"long hair":>0.8', "d"),
        ("conf:>_<:>0.5", "c"),
        ("conf:explicit:>0.5", "b"),
        ("chartags:>1", "e"),
        ("chartags:0", "dc"),
        ("gentags:1..2", "bdec"),
        ("gentags:3", "a"),
        ("tagcount:4", "a"),
        ("width:1024", "b"),
        ("width:>=1024", "bc"),
        ("width:<640", "d"),
        ("width:=>1024", "bc"),
        ("width:640,1600", "aec"),
        ("width:..640", "ade"),
        ("width:1024..", "bc"),
        ("width:640..1024", "abe"),
        ("width:640...1024", "ae"),
        ("width:100,>1024", "dc"),
        ("-width:>=1024 -smile", "e"),
        ("mpixels:>1", "bc"),
        ("mpixels:1", "b"),
        ("ratio:16:9", "c"),
        ("ratio:>1", "aec"),
        ("ratio:4:3", "ae"),
        ("ratio:0.33", "d"),
        ("ratio:1", "b"),
        ("ratio:1:1..16:9", "abec"),
        ("filesize:>1mb", "c"),
        ("filesize:200kb", "e"),
        ("filesize:3M", "c"),
        ("size:1000", "abd"),
        ("format:png,webp", "d"),
        ("filetype:jpg", "abec"),
        ("path:*.webp", "de"),
        ("path:d_*", "d"),
        ('path:"in/c d.png"', "c"),
        ("path:a.png,b*", "ab"),
        ("character:hatsune_miku", "a"),
        ("char:hatsune_miku", "a"),
        ("-character:hatsune_miku", "bdec"),
        ("character:hatsune*", "a"),
        ("character:*", "abe"),
        ("-character:*", "dc"),
        ("tags:glasses,solo", "bc"),
        ("score:>10", "b"),
        ("score:<0", "c"),
        ("-score:>10", "adec"),
        ("danbooru_score:5", "a"),
        ("danbooru_tags:sky", "ab"),
        ("danbooru_tags:blue,red", "a"),
        ("good:yes", "ac"),
        ("-good:true", "bde"),
        ("artist:one", "a"),
        ('artist:"two men"', "b"),
        ("-artist:one", "bdec"),
        ("posted:2024-01-02", "b"),
        ("posted:>=2024-01-02", "bc"),
        ("text:x", "a"),
        ("order:width", "cbaed"),
        ("order:width_asc", "daebc"),
        ("order:id", "abdec"),
        ("order:path_desc", "cedba"),
        ("order:mpixels", "cbaed"),
        ("order:landscape", "caebd"),
        ("order:portrait", "dbaec"),
        ("order:ratio", "caebd"),
        ("order:filesize", "ceabd"),
        ("order:height", "bcaed"),
        ("order:score", "bacde"),
        ("order:score_asc", "cabde"),
        ("order:conf:smile", "adbec"),
        ("order:character", "abedc"),
        ("order:tagcount", "abedc"),
        ("limit:2", "ab"),
        ("limit:2 order:width 1girl", "ba"),
        ("order:score limit:1 smile", "a"),
    ],
)
def test_tags_select_and_order(session: Session, tags: str, expected: str) -> None:
    assert found(session, read_tags(session.snapshot, tags)) == expected


def test_the_condition_can_be_typed_and_means_the_same(session: Session) -> None:
    for tags in (
        "-(1girl smile) rating:safe",
        "~-1girl ~conf:smile:>0.3",
        "-artist:one order:score_asc limit:3",
    ):
        asked = read_tags(session.snapshot, tags)
        again = Question(where=asked.condition, order=asked.order, limit=asked.limit)
        assert found(session, asked) == found(session, again)


@pytest.mark.parametrize(
    ("tags", "condition"),
    [
        ("1girl smile -glasses", "has('1girl') AND has('smile') AND NOT has('glasses')"),
        ("~smile ~solo 1girl", "has('1girl') AND (has('smile') OR has('solo'))"),
        ("it's", "has('it''s')"),
        ("*_hair", "any_of('long_hair')"),
        ("rating:g,s", "rating IN ('general', 'sensitive')"),
        ("conf:1girl:>0.9", "score('1girl') > 0.9"),
        ("chartags:>1", "count_characters() > 1"),
        ("width:512..1024", "(width >= 512 AND width <= 1024)"),
        ("-score:>10", "NOT coalesce(danbooru_score > 10, false)"),
        ("order:1", None),
        ("limit:3", None),
        ('order:2 "it\'s"', None),
    ],
)
def test_the_condition_is_what_one_would_type(session: Session, tags: str, condition: str | None) -> None:
    if "order" in tags:
        with pytest.raises(QueryError, match="no order"):
            read_tags(session.snapshot, tags)
        return
    assert read_tags(session.snapshot, tags).condition == condition


def test_a_column_is_called_in_quotes_where_sql_has_a_word_of_its_name(session: Session) -> None:
    assert read_tags(session.snapshot, "text:x").condition == "\"text\" = 'x'"
    assert found(session, Question(where='"group" > 1')) == "ab"


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ("1girl smlie", "no tag 'smlie'; did you mean smile? (character 7 of the tags)"),
        ("日本 1girl", "no tag '日本'; its vocabulary has nothing like it (character 1 of the tags)"),
        ("1girl long hair", "no tag 'long'; did you mean long_hair? (character 7 of"),
        ("widht:>768", "no metatag widht:; did you mean width:? (character 1 of"),
        ("1girl widthh:>768", "did you mean width:? (character 7 of"),
        ("width:big", "width: 'big' is no number; write 512, >=512, <0.9 or 512..1024 (character 1 of"),
        ("width:", "width: has no value (character 1 of"),
        ("width:..", "width: a range has a number on a side"),
        ("width:>=", "width: '' is no number"),
        ("width:1e9", "is no number"),
        ("width:nan", "is no number"),
        ("ratio:16:0", "a height of 0"),
        ("ratio:wide", "is no ratio; write 16:9"),
        ("filesize:big", "is no size of a file; write 500, 200kb"),
        ("posted:today", "posted: 'today' is no day; write 2024-01-31"),
        ("good:maybe", "good: 'maybe' is neither true nor false"),
        ("rating:x", "no rating 'x'; there are g general, s sensitive"),
        ("rating:smile", "no rating 'smile'"),
        ("conf:1girl", "conf: takes a tag and a score: conf:1girl:>0.9"),
        ("solo conf:1grl:>0.9", "no tag '1grl'; did you mean 1girl? (character 6 of"),
        ("conf:1girl:0.9", "conf: a score is never just 0.9; write conf:1girl:>=0.9"),
        ("conf:1girl:x", "conf: 'x' is no number"),
        ("character:smile", "no value of character, it is a general tag; write has('smile')"),
        ("character:hatsune_mik", "no character 'hatsune_mik'; did you mean hatsune_miku"),
        ("blue_*", "no tag is like blue_* (character 1 of"),
        ("order:widht", "no order 'widht'; did you mean width"),
        ("order:qqqq", "no order 'qqqq'; orders are id, random"),
        ("order:conf:smlie", "no tag 'smlie'"),
        ("order:width order:height", "order: stands twice (character 13 of"),
        (
            "(smile order:width)",
            "order: stands by itself, outside of brackets and without a sign (character 8 of",
        ),
        ("-limit:3", "limit: stands by itself"),
        ("~order:width", "order: stands by itself"),
        ("limit:-3", "limit: '-3' is no number of images"),
        ("limit:²", "is no number of images"),
        ("~ smile", "a sign stands right before its tag, as in -hat (character 1 of"),
        ("- smile", "a sign stands right before its tag"),
        ("smile -", "a sign stands right before its tag"),
        ("smile ~", "a sign stands right before its tag"),
        ("-~smile", "~ stands before everything else"),
        ("(smile", "this bracket is not closed (character 1 of"),
        ("smile)", "a ) without its ( (character 6 of"),
        ("smile ( )", "no tag stands here (character 9 of"),
        ("smile or", "no tag stands here (character 9 of"),
        ("or smile", "no tag stands here (character 1 of"),
        ("smile or or solo", "no tag stands here (character 10 of"),
        ('smile "long hair', "this quote is not closed (character 7 of"),
        ("", "no tags; an example: 1girl smile"),
        ("  ", "no tags"),
        ("smile -@good", "no selection @good; save one with pfgdata select NAME EXPR (char"),
        ("smile -@good", "(character 8 of the tags)"),
        ("@order", "no selection @order; save one with"),
        ("@a+b", "@ stands before the name of a saved selection: @good (character 1 of"),
        ("(" * 60 + "smile" + ")" * 60, "50 deep at most (character 51 of"),
        ("-" * 60 + "smile", "50 deep at most"),
        ("smile " * 20_000, "the tags have 120,000 letters; at most 65,536"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(session: Session, tags: str, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        read_tags(session.snapshot, tags)
        session.count(read_tags(session.snapshot, tags))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_without_scores_of_posts_says_how_to_get_them(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", ROWS)
    for tags in ("score:>10", "order:score", "smile -score:3"):
        with pytest.raises(QueryError, match=r"pfgdata attach danbooru DIR.* \(character \d+ of the tags\)"):
            read_tags(store.snapshot(), tags)
    store.write_column("score", pa.table({"path": ["a.png"], "value": [11]}))
    with Session(store.snapshot()) as session:
        assert found(session, read_tags(session.snapshot, "score:>10")) == "a"


@pytest.mark.parametrize(
    ("values", "kind", "what", "condition"),
    [
        ([{"x": 1}, {"x": 2}], None, "structs", "own['x'] = 1"),
        ([[("x", 1)], [("y", 2)]], pa.map_(pa.string(), pa.int64()), "maps", "own['x'] = 1"),
        ([[{"x": 1}], []], None, "lists of other things than texts", "len(own) = 1"),
        ([[1, 2], []], None, "lists of other things than texts", "list_contains(own, 2)"),
        (
            [["x", "y"], ["z", "z"]],
            pa.list_(pa.string(), 2),
            "lists of other things than texts",
            "own[1] = 'x'",
        ),
        ([timedelta(days=1), None], None, "durations", "own = interval '24 hours'"),
        ([time(1, 2, 3), None], None, "times of day", "own = '01:02:03'"),
    ],
)
def test_a_column_that_no_tag_can_be_compared_to_says_so_and_is_asked_in_a_condition(
    tmp_path: Path, values: list[Any], kind: pa.DataType | None, what: str, condition: str
) -> None:
    store = store_of(tmp_path / "s", ROWS)
    store.write_column("own", pa.table({"path": ["a.png", "b.jpg"], "value": pa.array(values, kind)}))
    said = rf"^own: the column has {what}, for which .* in a condition \(character 2 of the tags\)$"
    for tags in ("-own:x", "-own:1", "-own:>2024-01-31"):
        with pytest.raises(QueryError, match=said):
            read_tags(store.snapshot(), tags)
    with Session(store.snapshot()) as session:
        assert found(session, Question(where=condition)) == "a"
        with pytest.raises(QueryError, match=r"^has\(\) takes one tag name in single quotes.*\)$"):
            session.count("has(own)")


def test_what_the_condition_shows_only_later_has_the_place_that_was_typed(session: Session) -> None:
    many = " ".join(["smile"] * 2500)
    with pytest.raises(QueryError, match="at most 2,000"):
        session.count(read_tags(session.snapshot, many))
    question = read_tags(session.snapshot, "(smile or 1girl) width:>3")
    assert question.where is not None and not isinstance(question.where, str)
    text = question.where.text
    for part, character in (("has('smile')", 2), ("has('1girl')", 11), ("width > 3", 18)):
        assert question.where.place(text.index(part)) == f"character {character} of the tags"


def test_a_wildcard_is_capped_at_the_most_used_and_says_so(tmp_path: Path) -> None:
    names = ["general", "sensitive", "questionable", "explicit", *(f"blue_{n}" for n in range(150)), "red_1"]
    vocabulary = Vocabulary(
        names=tuple(names),
        categories=np.array([9] * 4 + [0] * 151, np.uint8),
        counts=np.array([0] * 4 + [*range(150), 1000], np.int64),
    )
    identity = StoreIdentity(
        tagger=store_of(tmp_path / "other").identity.tagger,
        vocabulary_digest=vocabulary.digest,
        feature_dim=4,
    )
    snapshot = Store.create(tmp_path / "s", identity=identity, vocabulary=vocabulary).snapshot()
    question = read_tags(snapshot, "blue_* -red*")
    assert question.notes == ("blue_* stands for the 100 most used of 150 tags",)
    assert question.condition is not None
    assert question.condition.startswith("any_of('blue_149', 'blue_148'")
    assert question.condition.count("blue") == 100
    assert question.condition.endswith("NOT any_of('red_1')")
    assert count(snapshot, question, Thresholds()) == 0


def test_a_random_order_is_of_the_seed(session: Session) -> None:
    question = read_tags(session.snapshot, "order:random")
    assert sorted(found(session, question)) == sorted("abcde")
    orders = {found(session, Question(order=question.order, seed=seed)) for seed in range(8)}
    assert len(orders) > 4


def test_every_tag_of_a_vocabulary_is_itself(session: Session) -> None:
    for name in VOCABULARY.names:
        for tags, words in ((name, "has({})"), (f"-{name}", "NOT has({})"), (f"({name})", "has({})")):
            quoted = "'" + name.replace("'", "''") + "'"
            assert read_tags(session.snapshot, tags).condition == words.format(quoted)


def test_a_selection_says_the_condition(session: Session) -> None:
    chosen: Any = session.select(read_tags(session.snapshot, "smile limit:1"))
    assert len(chosen) == 1
    assert chosen.expression == "has('smile') (the first 1)"
