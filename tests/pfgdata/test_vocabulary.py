"""selected_tags.csv as it is published, and as it should not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pfgdata.errors import VocabularyError
from pfgdata.vocabulary import Vocabulary

HEAD = "tag_id,name,category,count"
RATINGS = ["1,general,9,0", "2,sensitive,9,0", "3,questionable,9,0", "4,explicit,9,0"]
TAGS = ["5,1girl,0,100", "6,long_hair,0,90", "7,ganyu_(genshin_impact),4,12", '8,"a,b",0,3', "9,somebody,1,3"]


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    return Vocabulary.read(written(tmp_path / "selected_tags.csv", HEAD, *RATINGS, *TAGS))


def test_rows_keep_their_order_and_their_groups(vocabulary: Vocabulary) -> None:
    assert len(vocabulary) == 9
    assert vocabulary.names[4:8] == ("1girl", "long_hair", "ganyu_(genshin_impact)", "a,b")
    assert vocabulary.rating_ids.tolist() == [0, 1, 2, 3]
    assert vocabulary.general_ids.tolist() == [4, 5, 7]
    assert vocabulary.character_ids.tolist() == [6]
    assert vocabulary.categories.dtype == np.uint8 and vocabulary.counts.dtype == np.int64
    assert vocabulary.counts[4] == 100


def test_a_tag_is_found_by_name_and_a_wrong_one_answered_with_the_nearest(vocabulary: Vocabulary) -> None:
    assert vocabulary.index("long_hair") == 5
    with pytest.raises(VocabularyError, match="no tag 'long hair'; nearest: long_hair"):
        vocabulary.index("long hair")
    with pytest.raises(VocabularyError, match=r"no tag 'zzzz'$"):
        vocabulary.index("zzzz")


def test_the_digest_is_of_names_and_categories_not_of_counts(vocabulary: Vocabulary, tmp_path: Path) -> None:
    recounted = [line.replace(",100", ",101") for line in TAGS]
    same = Vocabulary.read(written(tmp_path / "recounted.csv", HEAD, *RATINGS, *recounted))
    assert same == vocabulary and hash(same) == hash(vocabulary)
    other = Vocabulary.read(written(tmp_path / "other.csv", HEAD, *RATINGS, *reversed(TAGS)))
    assert other != vocabulary


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEAD, *RATINGS, "5,1girl,zero,1"], "line 6"),
        ([HEAD, *RATINGS, "5,1girl"], "line 6"),
        ([HEAD, *RATINGS, "5,,0,1"], "line 6"),
        ([HEAD, *RATINGS, "5,1girl,300,1"], "line 6"),
        ([HEAD, *RATINGS, f"5,1girl,0,{2**63}"], "line 6"),
        (["id,tag,category", *RATINGS], "no column name, count"),
        ([HEAD, *TAGS], "ratings .* found none"),
        ([HEAD, *reversed(RATINGS)], "ratings .* in that order; found explicit"),
        ([], "no column"),
    ],
)
def test_a_file_that_is_not_as_published_is_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "selected_tags.csv", *lines)
    with pytest.raises(VocabularyError, match=message) as caught:
        Vocabulary.read(path)
    assert str(path) in str(caught.value)


def test_a_missing_or_unreadable_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="is missing"):
        Vocabulary.read(tmp_path / "selected_tags.csv")
    (tmp_path / "latin.csv").write_bytes(b"tag_id,name,category,count\n1,caf\xe9,0,1\n")
    with pytest.raises(VocabularyError, match="UTF-8"):
        Vocabulary.read(tmp_path / "latin.csv")
