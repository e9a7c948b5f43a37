"""A stored image answers to each of its names, whatever letters they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfgdata.errors import QueryError
from pfgdata.records import content_id
from pfgdata.similarity import find_stored
from pfgdata.store import Store
from tests.pfgdata.query.rows import ROOT, row, store_of

MEMBERS = [("a.zip", "1.png"), ("a.zip", "wow!.png"), ("b!.zip", "in/2!.png"), ("b", ".zip!in/3.png")]
PLAIN = ["k-on!.png", "x!y/z.png", "plain.png"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Files and members of archives, most with a ! in their names, and one path under two roots."""
    rows = [*(row(path) for path in PLAIN)]
    rows += [row(path, member=name, content_id=content_id(name.encode())) for path, name in MEMBERS]
    rows += [row("two!.png", root=root, content_id=content_id(root.encode())) for root in (ROOT, "/other!")]
    return store_of(tmp_path / "s", rows)


def test_an_image_is_named_by_its_path_and_member_though_they_have_the_sign_between(store: Store) -> None:
    snapshot = store.snapshot()
    wanted = {path: path for path in PLAIN} | {f"{path}!{name}": name for path, name in MEMBERS}
    for text, known in wanted.items():
        for called in (text, f"{ROOT}/{text}"):
            found = find_stored(snapshot, called)
            assert found is not None and found.content_ids[0].tobytes() == content_id(known.encode()), called
    found = find_stored(snapshot, "/other!/two!.png")
    assert found is not None and found.content_ids[0].tobytes() == content_id(b"/other!")
    for text in ("a.zip", "k-on", "1.png", "b!.zip", "in/2!.png", "!", ""):
        assert find_stored(snapshot, text) is None, text


def test_a_name_of_different_images_is_refused_with_what_tells_them_apart(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(QueryError, match=r"lies under /corpus and /other!; put the root before it, or take"):
        find_stored(store.snapshot(), "two!.png")
    rows = [row("a!b.png"), row("a", member="b.png", content_id=content_id(b"member"))]
    with pytest.raises(QueryError, match=r"names different images below /corpus; take the content_id"):
        find_stored(store_of(tmp_path / "t", rows).snapshot(), "a!b.png")
    assert find_stored(store_of(tmp_path / "e").snapshot(), "a!b.png") is None


def test_a_name_that_is_no_text_is_found_as_the_store_shows_it(tmp_path: Path) -> None:
    snapshot = store_of(tmp_path / "s", [row(r"x\xff.png")]).snapshot()
    assert find_stored(snapshot, "x\udcff.png") is not None
    assert find_stored(snapshot, "y\udcff.png") is None
