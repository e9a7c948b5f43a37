"""What is offered where the cursor stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pfgdata.errors import QueryError
from pfgdata.query import Session, read_tags
from pfgdata.store import Store
from pfgdata.web.completion import Completion, Names
from tests.doubles import tiny_vocabulary
from tests.pfgdata.web.browser import Client
from tests.pfgdata.web.conftest import Corpus

NAMES = Names(
    own=["style", "points"],
    selections=["good", "wides"],
    values=lambda name: {"style": [("it's", 5), ("plain", 2)], "format": [("jpeg", 9), ("png", 1)]}.get(
        name, []
    ),
)
COUNTS = np.arange(15)  # later tags are more frequent


def completed(text: str, language: str) -> Any:
    """With the cursor at the |."""
    at = text.index("|")
    whole = text.replace("|", "")
    told = Completion(tiny_vocabulary(), COUNTS).answer(whole, at, language, NAMES)
    return [whole[: told["start"]] + item["insert"] + whole[told["end"] :] for item in told["items"]], told[
        "items"
    ]


@pytest.mark.parametrize(
    ("text", "language", "first"),
    [
        ("has('smi|", "sql", "has('smile')"),
        ("has('smi|')", "sql", "has('smile')"),
        ("has('long ha|') and width > 1", "sql", "has('long_hair') and width > 1"),
        ("has('it''|", "sql", "has('it''s')"),
        ("any_of('solo', 'gla|", "sql", "any_of('solo', 'glasses'"),
        ("character = 'hat|'", "sql", "character = 'hatsune_miku'"),
        ("character IN ('hatsune_miku', 'spec|", "sql", "character IN ('hatsune_miku', 'special_week'"),
        ("rating = 'q|", "sql", "rating = 'questionable'"),
        ("format = '|", "sql", "format = 'jpeg'"),
        ("style = 'i|", "sql", "style = 'it''s'"),
        ("list_contains(characters, 'tok|", "sql", "list_contains(characters, 'tokai_teio_(umamusume)'"),
        ("width > 1 and wid|", "sql", "width > 1 and width"),
        ("wi|dth > 1", "sql", "width > 1"),
        ("po|", "sql", "points"),
        ("smil|", "sql", "has('smile')"),
        ("@go|", "sql", "@good"),
        ("has('solo') and @w|", "sql", "has('solo') and @wides"),
        ("so|", "tags", "solo"),
        ("solo -smi|", "tags", "solo -smile"),
        ("(smi| or solo)", "tags", "(smile or solo)"),
        ("~hat|", "tags", "~hatsune_miku"),
        ("rating:q|", "tags", "rating:questionable"),
        ("char:tok|", "tags", 'char:"tokai_teio_(umamusume)"'),
        ("format:|", "tags", "format:jpeg"),
        ("order:wi| solo", "tags", "order:width solo"),
        ("conf:smi|", "tags", "conf:smile:>"),
        ("@g|", "tags", "@good"),
        ("widt|", "tags", "width:"),
        ("style:p|", "tags", "style:plain"),
        (">_|", "tags", ">_<"),
    ],
)
def test_the_best_comes_first(text: str, language: str, first: str) -> None:
    texts, items = completed(text, language)
    assert texts[:1] == [first], items


@pytest.mark.parametrize(
    ("text", "language"),
    [("|", "sql"), ("|", "tags"), ("solo |", "tags"), ("width > 1 |", "sql"), ("path = 'x|", "sql"),
     ("width:5|", "tags"), ("has('zzzz|", "sql"),
     ("'|", "sql"), ("@zzz|", "tags"), ("similar_to('a|", "sql")],
)  # fmt: skip
def test_nothing_is_offered_where_nothing_fits(text: str, language: str) -> None:
    assert completed(text, language) == ([], [])


def test_frequent_names_come_first_and_those_that_begin_so_before_all() -> None:
    labels = [item["label"] for item in completed("has('s|", "sql")[1]]
    assert labels[:3] == ["special_week", "smile", "solo"]
    assert labels.index("long_hair") if "long_hair" in labels else True
    counts = [item["count"] for item in completed("has('s|", "sql")[1]][:3]
    assert counts == [13, 6, 5]
    assert "glasses" in labels[4:]


def test_a_place_outside_of_the_text_is_its_end() -> None:
    completion = Completion(tiny_vocabulary(), COUNTS)
    assert completion.answer("so", 99, "tags", NAMES)["end"] == 2
    assert completion.answer("x" * 100_000, 5, "sql", NAMES)["items"] == []
    with pytest.raises(QueryError, match="write sql or tags"):
        completion.answer("so", 1, "perl", NAMES)


def test_what_is_offered_can_be_asked(client: Client, corpus: Corpus) -> None:
    store = Store.open(corpus.feats)
    with Session(store.snapshot()) as session:
        for text in ("s", "l", "g", "w", "i", "t", ">", "1"):
            for item in client.get("/api/complete", text=text, language="tags").json["items"]:
                if not item["insert"].endswith(":") and item["insert"] != "or":
                    session.check(read_tags(store.snapshot(), item["insert"]))
            for item in client.get("/api/complete", text=f"has('{text}", language="sql").json["items"]:
                found = session.count(f"has({item['insert'].removesuffix(')')})")
                assert found == item["count"] or item["kind"] == "word"


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE images --", "<script>alert(1)</script>", "\0", "has('\u202e", "((" * 5000]
)
def test_any_text_is_answered(client: Client, text: str) -> None:
    for language in ("sql", "tags"):
        answer = client.get("/api/complete", text=text, at=len(text), language=language)
        assert answer.status == 200
        assert isinstance(answer.json["items"], list)
