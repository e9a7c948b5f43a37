"""The committed evaluation guides: whole, small, and of characters that no demo model has seen."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pfgdata.images import decode
from pipelines.demo_corpus import load_corpora
from pipelines.demo_models import load_split

DEMO = Path(__file__).parents[2] / "pipelines" / "demo"
GUIDES = DEMO / "guides"
KEYS = ["path", "style", "character", "view", "tags_coarse"]


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def guides() -> list[dict[str, Any]]:
    return read_lines(GUIDES / "guides.jsonl")


def test_every_guide_has_its_line_and_every_line_its_guide(guides: list[dict[str, Any]]) -> None:
    files = {path.relative_to(GUIDES).as_posix() for path in GUIDES.rglob("*.*")}
    assert files == {guide["path"] for guide in guides} | {"guides.jsonl"}
    assert all(list(guide) == KEYS for guide in guides)


def test_every_guide_is_a_picture_of_256_pixels(guides: list[dict[str, Any]]) -> None:
    shapes = {decode((GUIDES / guide["path"]).read_bytes()).array.shape for guide in guides}
    assert shapes == {(256, 256, 3)}


def test_guides_are_two_views_of_ten_characters_in_each_of_five_styles(guides: list[dict[str, Any]]) -> None:
    views = Counter((guide["style"], guide["character"]) for guide in guides)
    styles = Counter(style for style, _ in views)
    assert styles == dict.fromkeys(load_corpora()["guides"].styles, 10)
    assert set(views.values()) == {2} and {guide["view"] for guide in guides} == {0, 1}


def test_guides_are_the_characters_that_the_split_gives_to_the_report(guides: list[dict[str, Any]]) -> None:
    first, last = load_split().ranges["guides"]["report"]
    expected = {
        f"{style}-g{number:04d}"
        for style in load_corpora()["guides"].styles
        for number in range(first, last + 1)
    }
    assert {guide["character"] for guide in guides} == expected


def test_no_guide_shows_a_character_of_the_demo_corpus(guides: list[dict[str, Any]]) -> None:
    learnt = {row["character"] for row in read_lines(DEMO / "images.jsonl")}
    assert learnt and learnt.isdisjoint(guide["character"] for guide in guides)


def test_guides_take_less_than_a_megabyte() -> None:
    assert sum(path.stat().st_size for path in GUIDES.rglob("*.*")) < 1_000_000
