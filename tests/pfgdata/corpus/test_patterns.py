"""Patterns: the stated rule, case by case, and the walk that keeps to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pfgdata.corpus import WalkCounts, WalkOptions, plan_segments, walk
from pfgdata.errors import ConfigError
from tests.pfgdata.corpus.test_archives import make_tar
from tests.pfgdata.corpus.test_inputs import make_tree


def taken(folder: Path, **options: tuple[str, ...]) -> list[str]:
    (segment,) = plan_segments([folder], {}, options=WalkOptions(archives=True, **options))  # type: ignore[arg-type]
    found = walk(segment, counts=WalkCounts())
    return ["!".join(os.fsdecode(part) for part in (one.key.path, one.key.member) if part) for one in found]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", "a/2.png"),
        ("1.jpg", "1.jpg a/1.jpg a/b/1.jpg"),
        ("/1.jpg", "1.jpg"),
        ("a/1.jpg", "a/1.jpg"),
        ("a", "a/1.jpg a/2.png a/b/1.jpg a/b/a/x.jpg"),
        ("a/", "a/1.jpg a/2.png a/b/1.jpg a/b/a/x.jpg"),
        ("1.jpg/", ""),
        ("a/*", "a/1.jpg a/2.png a/b/1.jpg a/b/a/x.jpg"),
        ("a/*.jpg", "a/1.jpg"),
        ("a/**/*.jpg", "a/1.jpg a/b/1.jpg a/b/a/x.jpg"),
        ("a/**", "a/1.jpg a/2.png a/b/1.jpg a/b/a/x.jpg"),
        ("**/b", "a/b/1.jpg a/b/a/x.jpg"),
        ("/a/b/", "a/b/1.jpg a/b/a/x.jpg"),
        ("b/1.jpg", ""),
        ("[a-z].jpg", "a/b/a/x.jpg t.tar!m/n.jpg"),
        ("[!a-z].jpg", "1.jpg a/1.jpg a/b/1.jpg"),
        ("?.png", "a/2.png"),
        ("初?.jpg", "初音.jpg"),
        (r"\[x].jpg", "[x].jpg"),
        ("[[]x].jpg", "[x].jpg"),
        ("T.TAR", ""),
        ("t.tar", "t.tar!m/n.jpg"),
        ("n.jpg", "t.tar!m/n.jpg"),
        ("t.tar/m/", "t.tar!m/n.jpg"),
        ("m/n.jpg", ""),
    ],
)
def test_a_pattern_takes_and_leaves_what_its_rule_says(tmp_path: Path, pattern: str, expected: str) -> None:
    names = ("1.jpg", "a/1.jpg", "a/2.png", "a/b/1.jpg", "a/b/a/x.jpg", "初音.jpg", "[x].jpg")
    make_tree(tmp_path, names)
    make_tar(tmp_path / "t.tar", [(b"m/n.jpg", b"")])
    everything = taken(tmp_path)
    assert len(everything) == 8
    assert taken(tmp_path, include=(pattern,)) == expected.split()
    assert taken(tmp_path, exclude=(pattern,)) == [one for one in everything if one not in expected.split()]


def test_exclude_wins_and_of_several_one_is_enough(tmp_path: Path) -> None:
    make_tree(tmp_path)
    assert taken(tmp_path, include=("*.png", "z.*", "a-b")) == ["a-b/4.jpg", "a/2.png", "z.jpg"]
    assert taken(tmp_path, include=("*.png", "z.*"), exclude=("a", "x")) == ["z.jpg"]


def test_what_a_pattern_leaves_is_counted_and_its_folders_are_not_listed(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (segment,) = plan_segments([tmp_path], {}, options=WalkOptions(exclude=("a", "z.jpg")))
    counts = WalkCounts()
    assert [one.key.path for one in walk(segment, counts=counts)] == [b"a-b/4.jpg", b"a.jpg"]
    assert (counts.found, counts.ignored) == (2, 2)


@pytest.mark.parametrize("pattern", ["", "/", "!a.jpg", "[z-a].jpg"])
def test_a_pattern_that_says_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        WalkOptions(exclude=(pattern,))
