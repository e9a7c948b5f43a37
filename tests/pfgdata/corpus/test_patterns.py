"""Patterns: the stated rule, case by case, and the walk that keeps to it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from pfgdata.corpus import WalkCounts, WalkOptions, plan_segments, walk
from pfgdata.corpus.patterns import Patterns
from pfgdata.errors import ConfigError
from tests.pfgdata.corpus.packing import make_tar, make_tree


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


@pytest.mark.skipif(shutil.which("git") is None, reason="git is what the patterns are compared with")
def test_200_random_patterns_agree_with_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    dice = random.Random(1)
    names = ("a", "b", "ab", "1", "a.b", "b1", "*", "]", "-", "a b", "a-", "x\n")
    paths = ["/".join(dice.choices(names, k=dice.randint(1, 4))) for _ in range(150)]
    atoms = ("a", "b", "1", ".", "*", "?", "[ab]", "[!a]", "[^b]", "[a-c]", "\\*", "]", "-")
    for _ in range(200):
        parts = ["".join(dice.choices(atoms, k=dice.randint(1, 3))) for _ in range(dice.randint(1, 3))]
        parts = ["**" if dice.random() < 0.1 else part for part in parts]
        pattern = dice.choice(["", "/"]) + "/".join(parts) + dice.choice(["", "", "/"])
        patterns = Patterns((), (pattern,))
        ours = {path for path in paths if not patterns.takes(path.encode())}
        assert ours == ignored_by_git(tmp_path, pattern, paths), pattern


def ignored_by_git(repository: Path, pattern: str, paths: list[str]) -> set[str]:
    """Those of `paths` that a .gitignore of that one line leaves out; none of them need exist."""
    (repository / ".gitignore").write_text(f"{pattern}\n")
    asked = "\0".join(paths) + "\0"
    command = ["git", "-C", str(repository), "check-ignore", "--no-index", "-z", "--stdin"]
    answer = subprocess.run(command, input=asked.encode(), capture_output=True, check=False)
    assert answer.returncode in (0, 1), answer.stderr  # 1: none
    return set(answer.stdout.decode().split("\0")) - {""}
