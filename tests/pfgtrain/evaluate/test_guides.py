"""Who the guides are: characters of guides.jsonl, images of a folder, a selection of a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfgdata.errors import AccessError, ConfigError, ContentError
from pfgdata.query import Thresholds, select
from pfgdata.records import Selection
from pfgdata.store import Store
from pfgtrain.evaluate import Guide, guides_of_folder, guides_of_selection
from pfgtrain.evaluate.guides import read_view
from tests.conftest import make_images
from tests.pfgtrain.evaluate.small_evaluation import write_guides, write_lines
from tests.pfgtrain.small_store import build_store


def test_every_image_of_a_plain_folder_guides_in_the_order_of_names(tmp_path: Path) -> None:
    make_images(tmp_path / "b", 2)
    (path,) = make_images(tmp_path / "a", 1)
    found = guides_of_folder(tmp_path)
    assert [guide.name for guide in found] == ["a/0000.png", "b/0000.png", "b/0001.png"]
    assert found[0] == Guide(name="a/0000.png", character=None, views=(path,))


def test_lines_name_characters_whose_first_view_guides_whatever_their_order(tmp_path: Path) -> None:
    rows = write_guides(tmp_path, characters=2, views=3)
    write_lines(tmp_path, [rows[5], rows[1], rows[0], rows[4], rows[2], rows[3]])
    one, other = guides_of_folder(tmp_path)
    assert (one.character, other.character) == ("char-0-1", "char-0-0")
    assert one.views == tuple(tmp_path / f"images/000{number}.png" for number in (3, 4, 5))
    assert (one.name, one.style, one.tags) == ("images/0003.png", "b", frozenset({"glasses", "solo"}))


def test_the_number_of_a_view_decides_and_not_its_name(tmp_path: Path) -> None:
    rows = write_guides(tmp_path, characters=1, views=2)
    write_lines(tmp_path, [{**rows[0], "view": 1}, {**rows[1], "view": 0}])
    (guide,) = guides_of_folder(tmp_path)
    assert guide.views == (tmp_path / "images/0001.png", tmp_path / "images/0000.png")


def test_a_line_needs_only_path_and_character(tmp_path: Path) -> None:
    write_lines(tmp_path, [{"path": "x.png", "character": "x"}])
    assert guides_of_folder(tmp_path) == [Guide(name="x.png", character="x", views=(tmp_path / "x.png",))]


def test_a_line_ends_where_json_lines_do(tmp_path: Path) -> None:
    write = (tmp_path / "guides.jsonl").write_text
    write('{"path": "x.png", "character": "a\u2028b"}\r\n', encoding="utf-8")
    (guide,) = guides_of_folder(tmp_path)
    assert guide.character == "a\u2028b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"guides\.jsonl, line 2: no JSON"),
        pytest.param("[" * 100_000, "line 2: no JSON", id="nested without end"),
        ("[1]", "line 2: no object"),
        ('{"character": "x"}', "line 2: path is None, must be a text"),
        ('{"path": "x.png", "character": 3}', "line 2: character is 3, must be a text"),
        ('{"path": "x.png", "character": "x", "view": "0"}', "line 2: view is '0', must be a whole number"),
        ('{"path": "x.png", "character": "x", "tags_coarse": "hat"}', "tags_coarse is 'hat', must be a list"),
        ('{"path": "x.png", "character": "x", "tags_coarse": [1]}', "tags_coarse must be a list of texts"),
        (r'{"path": "a\u0000.png", "character": "x"}', r"line 2: 'a\\x00\.png' holds a NUL"),
        (r'{"path": "x.png", "character": "\ud800"}', "line 2: .* half a letter"),
        ('{"path": "a.png", "character": "a", "view": 1}', r"line 2: a\.png is named before"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "guides.jsonl").write_text(f'{{"path": "a.png", "character": "a"}}\n{line}\n')
    with pytest.raises(ConfigError, match=message):
        guides_of_folder(tmp_path)


def test_a_file_may_begin_with_the_mark_of_utf_8(tmp_path: Path) -> None:
    rows = write_guides(tmp_path, characters=2, views=1)
    write_lines(tmp_path, rows)
    without = guides_of_folder(tmp_path)
    lines = tmp_path / "guides.jsonl"
    lines.write_bytes(b"\xef\xbb\xbf" + lines.read_bytes())
    assert guides_of_folder(tmp_path) == without


def test_a_folder_that_is_not_there_or_holds_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        guides_of_folder(tmp_path / "absent")
    with pytest.raises(ConfigError, match="holds no image"):
        guides_of_folder(tmp_path)


def test_a_guide_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    absent, bad = tmp_path / "absent.png", tmp_path / "bad.png"
    guide = Guide(name="both", character=None, views=(absent, bad))
    with pytest.raises(AccessError, match=r"absent\.png: cannot be read \(gone, or a link"):
        read_view(guide, absent)
    bad.write_bytes(b"no image")
    with pytest.raises(ContentError, match=r"bad\.png: no image that can be used \(no image of a"):
        read_view(guide, bad)


def test_characters_of_a_selection_guide_once_with_four_views_at_most(tmp_path: Path) -> None:
    store = build_store(tmp_path / "feats", [*range(18), 0], shard_rows=7)
    found = guides_of_selection(store, store.snapshot(), everything_of(store, character=0.85))
    hers, *rest = found
    assert hers.character == "special_week"
    assert [str(view) for view in hers.views] == [f"/images/0000{number}.png" for number in (0, 3, 6, 9)]
    assert len(rest) == 12
    assert {guide.character for guide in rest} == {None}
    assert str(rest[0].views[0]) == "/images/00001.png"


def test_below_the_selections_threshold_an_image_has_no_character(tmp_path: Path) -> None:
    store = build_store(tmp_path / "feats", list(range(6)), shard_rows=7)
    found = guides_of_selection(store, store.snapshot(), everything_of(store, character=0.99))
    assert [len(guide.views) for guide in found] == [1] * 6


def everything_of(store: Store, *, character: float) -> Selection:
    thresholds = Thresholds(character=character)
    return select(store.snapshot(), None, thresholds)
