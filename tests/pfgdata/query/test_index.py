"""The index of tags answers as the lists do, and where it is not sound it does not answer at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pfgdata.query import Session, Thresholds
from pfgdata.store import SavedSelection, Shadow, Store, TagIndex, compact, gc, index_tags, verify
from tests.pfgdata.query.rows import VOCABULARY, add_shard, row, store_of

TAGS = VOCABULARY.names[4:]
ENDS = (TAGS[0], TAGS[-1])  # whose rows are the first and the last of the index
CHARACTERS = {VOCABULARY.names[number] for number in VOCABULARY.character_ids}
CHOICES = (Thresholds(), Thresholds(general=0.05, character=0.05), Thresholds(general=0.61, character=0.4))


def random_rows(first: int, count: int, chance: np.random.Generator) -> list[dict[str, Any]]:
    """Rows with up to all tags, their scores as float16 has them; one row in eight has none."""
    rows = []
    for number in range(first, first + count):
        names = chance.permutation(TAGS)[: chance.integers(0, len(TAGS) + 1) if number % 8 else 0]
        scores = chance.uniform(0.05, 1, len(names)).astype(np.float16)
        rows.append(row(f"{number:04}.png", {str(n): float(s) for n, s in zip(names, scores, strict=True)}))
    return rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """90 images in four shards, one of them without any tag, seven rows hidden; not indexed."""
    chance = np.random.default_rng(1)
    store = store_of(tmp_path / "s", random_rows(0, 40, chance), random_rows(40, 40, chance))
    add_shard(store, [row(f"{number:04}.png") for number in range(80, 83)])
    second = store.snapshot().shards[1].id
    hidden = [Shadow(second, "images", number) for number in range(3, 10)]
    add_shard(store, random_rows(43, 7, chance), shadows=hidden)
    return store


def indexed(store: Store) -> bool:
    """Whether questions are answered by the index."""
    snapshot = store.snapshot()
    return TagIndex.of(snapshot, snapshot.shards) is not None


def sql(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def truth(store: Store, holds: Callable[[dict[str, float]], bool]) -> set[str]:
    """The paths of the rows whose scores, read without a query, make `holds` true."""
    found = set()
    for one in store.snapshot().images().to_pylist():
        names = [VOCABULARY.names[number] for number in one["tag_ids"]]
        if holds(dict(zip(names, map(float, one["tag_scores"]), strict=True))):
            found.add(one["path"])
    return found


def answers(store: Store, chosen: Thresholds, tags: Sequence[str] = TAGS) -> list[set[str]]:
    """What questions that put every tag anywhere in an expression select, checked against the rows."""
    found = []
    with Session(store.snapshot(), thresholds=chosen) as session:
        for one, other in zip(tags, reversed(tags), strict=True):
            least = {
                name: float(np.float16(chosen.character if name in CHARACTERS else chosen.general))
                for name in (one, other)
            }

            def has(scores: dict[str, float], name: str, least: dict[str, float] = least) -> bool:
                return scores.get(name, 0) >= least[name]

            a, b = sql(one), sql(other)
            for expression, holds in (
                (f"has({a})", lambda s, a=one, has=has: has(s, a)),
                (
                    f"not has({a}) and has({b})",
                    lambda s, a=one, b=other, has=has: not has(s, a) and has(s, b),
                ),
                (
                    f"case when score({a}) > score({b}) then has({a}) or width < 3 else score({b}) < 0.5 end",
                    lambda s, a=one, b=other, has=has: (
                        has(s, a) if s.get(a, 0) > s.get(b, 0) else s.get(b, 0) < 0.5
                    ),
                ),
            ):
                paths = set(session.rows(expression, columns=["path"])["path"].to_pylist())
                assert paths == truth(store, holds), (expression, chosen)
                found.append(paths)
    return found


@pytest.mark.parametrize("chosen", CHOICES)
def test_every_tag_at_any_threshold_is_found_by_index_and_lists_alike(
    store: Store, chosen: Thresholds
) -> None:
    by_lists = answers(store, chosen)
    assert not indexed(store)
    assert index_tags(store.snapshot()) == 4 and indexed(store)
    assert answers(store, chosen) == by_lists


@pytest.mark.parametrize("chosen", CHOICES)
@pytest.mark.parametrize("expression", [None, "has('smile')", "row % 2 = 0 and width > 3", "width > 9999"])
def test_a_tag_is_counted_as_often_as_rows_have_it(
    store: Store, expression: str | None, chosen: Thresholds
) -> None:
    with Session(store.snapshot(), thresholds=chosen) as session:
        by_lists = session.counts(expression)
        total = session.count(expression)
        wanted = {}
        for name in VOCABULARY.names:
            condition = f"has({sql(name)})" + (f" and ({expression})" if expression else "")
            if count := session.count(condition):
                wanted[name] = count
    assert dict(zip(by_lists["tag"].to_pylist(), by_lists["count"].to_pylist(), strict=True)) == wanted
    assert by_lists["share"].to_pylist() == [count / total for count in by_lists["count"].to_pylist()]
    index_tags(store.snapshot())
    with Session(store.snapshot(), thresholds=chosen) as session:
        assert session.counts(expression).equals(by_lists)


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def mistake(folder: Path, other: Path) -> None:
    """Put the index of another shard there."""
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "a row": lambda folder, _: flip(folder / "rows.h5"),
    "a score": lambda folder, _: flip(folder / "scores.h5"),
    "the table": lambda folder, _: flip(folder / "tags.h5"),
    "its record": lambda folder, _: flip(folder / "shard.json", 40),
    "a file cut": lambda folder, _: cut(folder / "rows.h5"),
    "a file gone": lambda folder, _: (folder / "scores.h5").unlink(),
    "no folder": lambda folder, _: shutil.rmtree(folder),
    "nothing in it": lambda folder, _: empty(folder),
    "that of another shard": mistake,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_index_gives_no_wrong_answer_and_compact_mends_it(
    store: Store, damage: Callable[[Path, Path], None]
) -> None:
    chosen = CHOICES[1]
    by_lists = answers(store, chosen, ENDS)
    with Session(store.snapshot(), thresholds=chosen) as session:
        counts = session.counts("row > 2")
    index_tags(store.snapshot())
    views = store.snapshot().shards
    place = store.path / "cache" / "tags"
    damage(place / views[0].id, place / views[1].id)
    assert answers(store, chosen, ENDS) == by_lists
    with Session(store.snapshot(), thresholds=chosen) as session:
        assert session.counts("row > 2").equals(counts)
    assert verify(store.path, deep=True) == []  # of a cache nothing is promised
    assert compact(store, rows=1).indexed == 1
    assert indexed(store) and answers(store, chosen, ENDS) == by_lists


def test_an_index_is_of_the_shards_that_are_seen_and_gc_removes_the_others(store: Store) -> None:
    index_tags(store.snapshot())
    before = {view.id for view in store.snapshot().shards}
    place = store.path / "cache" / "tags"
    assert compact(store).indexed == 1 and indexed(store)
    (merged,) = store.snapshot().shards
    assert {path.name for path in place.iterdir()} == {*before, merged.id}
    (place / ".tmp-left").mkdir()
    assert gc(store, older_than=0).swept == 1
    assert {path.name for path in place.iterdir()} == {merged.id}
    shutil.rmtree(store.path / "cache")
    assert not indexed(store) and compact(store).indexed == 1 and indexed(store)


def test_a_shard_whose_lists_are_damaged_gets_no_index(store: Store) -> None:
    path = store.snapshot().shards[0].path / "images.parquet"
    flip(path, 300)
    assert index_tags(store.snapshot()) == 3
    assert not indexed(store)


def test_new_images_are_found_before_they_are_indexed(store: Store) -> None:
    index_tags(store.snapshot())
    add_shard(store, [row("new.png", {"smile": 0.99})])
    with Session(store.snapshot()) as session:
        assert session.count("has('smile') and path = 'new.png'") == 1
    assert index_tags(store.snapshot()) == 1


def test_one_tag_at_two_thresholds_in_one_question_is_two_answers(store: Store) -> None:
    strict = {"general": 0.8, "character": 0.9}
    store.write_selection(SavedSelection(name="strict", text=f"has({sql(TAGS[0])})", thresholds=strict))
    expression = f"has({sql(TAGS[0])}) and not @strict"
    lists = set(paths(store, expression))
    with store.writer():
        index_tags(store.snapshot())
    assert indexed(store)
    assert set(paths(store, expression)) == lists
    assert lists == truth(store, lambda scores: 0.35 <= scores.get(TAGS[0], 0) < 0.8)
    assert lists


def paths(store: Store, expression: str) -> list[str]:
    with Session(store.snapshot()) as session:
        return session.rows(expression, columns=["path"])["path"].to_pylist()
