"""What a recipe says of a step holds for all of that step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pfgdata.errors import QueryError
from pfgdata.records import NoProgress
from pipelines.recipe import read_recipe
from pipelines.steps import run_steps
from tests.conftest import make_images

NUMBERS = list(range(100))
SLOW = f"len(list_filter({NUMBERS}, lambda a: len(list_filter({NUMBERS}, lambda b: a + b = width)) > 9)) > 3"


def test_the_seconds_of_a_question_hold_for_its_count_too(tmp_path: Path) -> None:
    (image,) = make_images(tmp_path / "images", 1)
    for number in range(500):  # a count of them takes a tenth of a second or more
        shutil.copy(image, tmp_path / "images" / f"copy{number}.png")
    asked = f'expression = "{SLOW}"\nseconds = 0.001\ncolumns = "none"\n'  # what is shown comes after it
    (tmp_path / "x.toml").write_text(f'[ingest]\nimages = "images"\ntagger = "demo"\n[query]\n{asked}')
    steps = run_steps(
        read_recipe(tmp_path / "x.toml"), tmp_path / "out", progress=NoProgress(), stop=lambda: False
    )
    assert next(steps).result.startswith("501 images = 1 tagged + 500 copied")
    with pytest.raises(QueryError, match=r"longer than 0\.001 s"):
        next(steps)
