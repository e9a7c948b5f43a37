"""A balanced sample is drawn by seed and group alone, and a spread one covers its group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.cli import app
from pfgdata.query import Thresholds, select
from pfgdata.records import Selection, content_id
from pfgdata.screen import run_app
from pfgdata.similarity import SampleOptions, SampleReport, balanced_sample
from pfgdata.store import FAILURES_SCHEMA, ShardContents, Store, images_table
from tests.pfgdata.query.rows import row, store_of

DIRECTIONS = np.array([[1, 0, 0, 0], [0.99, 0.1, 0, 0], [0.98, 0.15, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])


def build(path: Path, *parts: range) -> Store:
    """Images 0..: five directions in turn, of length 1 and more; half are Miku's."""
    store = store_of(path)
    for numbers in parts:
        rows = [row(f"{n:02}.png", {"hatsune_miku": 0.9} if n % 10 >= 5 else {"smile": 0.9}) for n in numbers]
        features = np.array([DIRECTIONS[n % 5] * (1 + n) for n in numbers], np.float16)
        with store.writer() as writer:
            failures = FAILURES_SCHEMA.empty_table()
            writer.commit(ShardContents(images=images_table(rows), features=features, failures=failures))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build(tmp_path_factory.mktemp("store") / "s", range(12), range(12, 40))


def drawn(store: Store, *, groups: str = "character", **options: Any) -> tuple[SampleReport, list[str]]:
    snapshot = store.snapshot()
    every = select(snapshot, None, Thresholds())
    names = {content_id(f"{n:02}.png".encode()): n for n in range(40)}
    numbers = [names[one.tobytes()] for one in every.content_ids]
    values = [
        {"character": "miku" if n % 10 >= 5 else None, "parity": n % 2, "one": 0}[groups] for n in numbers
    ]
    report = balanced_sample(snapshot, every, values, SampleOptions(**options))
    return report, sorted(f"{names[one.tobytes()]:02}" for one in report.chosen.content_ids)


def test_each_group_gives_at_most_so_many_and_what_has_no_group_is_left_out(store: Store) -> None:
    report, names = drawn(store, at_most=7)
    assert (report.images, report.groups, report.full, report.without) == (40, 1, 1, 20)
    assert len(names) == 7 and all(int(name) % 10 >= 5 for name in names)
    report, names = drawn(store, groups="parity", at_most=15)
    assert (report.groups, report.full, len(names)) == (2, 2, 30)
    assert drawn(store, groups="parity", at_most=20)[0].full == 0


@pytest.mark.parametrize("spread", [False, True])
def test_a_seed_draws_the_same_whatever_the_shards_and_other_groups(
    store: Store, tmp_path: Path, spread: bool
) -> None:
    other = build(tmp_path / "s", range(30, 40), range(30))
    one = drawn(store, groups="parity", at_most=3, seed=5, spread=spread)[1]
    assert one == drawn(other, groups="parity", at_most=3, seed=5, spread=spread)[1]
    seeds = {tuple(drawn(store, groups="parity", at_most=3, seed=n, spread=spread)[1]) for n in range(5)}
    assert len(seeds) > 1


@pytest.mark.parametrize("seed", range(5))
def test_a_spread_sample_of_three_has_the_three_directions(store: Store, seed: int) -> None:
    _, names = drawn(store, groups="one", at_most=3, seed=seed, spread=True)
    assert sorted(max(2, int(name) % 5) for name in names) == [2, 3, 4]


def test_a_group_too_large_for_memory_is_read_again_with_the_same_answer(store: Store) -> None:
    whole = drawn(store, groups="one", at_most=4, spread=True)[1]
    assert drawn(store, groups="one", at_most=4, spread=True, memory=7 * 4 * 4)[1] == whole


def test_one_content_under_two_paths_is_one_image(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row("a.png"), row("b.png", content_id=content_id(b"a.png"))])
    every = select(store.snapshot(), None, Thresholds())
    report = balanced_sample(store.snapshot(), every, ["x", "x"], SampleOptions(at_most=2))
    assert (report.images, len(report.chosen)) == (1, 1)


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [row("a.png")])
    none = select(store.snapshot(), "false", Thresholds())
    report = balanced_sample(store.snapshot(), none, [], SampleOptions(at_most=2))
    assert isinstance(report.chosen, Selection) and len(report.chosen) == 0


def test_the_command_saves_a_frozen_selection(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as caught:
            run_app(app, args=[*arguments, "--store", str(store.path)], name="pfgdata")
        assert isinstance(caught.value.code, int)
        return caught.value.code

    asked = ["sample", "few", "width > 100", "--at-most", "3", "--spread", "--seed", "2"]
    assert run(*asked, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["of"], said["without"], said["frozen"]["count"]) == (3, 40, 20, 3)
    assert said["how"] == "sample --per character --at-most 3 --spread --seed 2"
    assert run("query", "@few and character = 'hatsune_miku'", "--count") == 0
    assert capsys.readouterr().out == "3\n"
    assert run(*asked) == 1 and "has a selection few already" in capsys.readouterr().err
    assert run(*asked, "--replace", "--per", "ratin") == 1
    assert "did you mean rating?" in capsys.readouterr().err
    assert run(*asked, "--replace", "--per", "tags") == 1
    assert "--per tags: has lists" in capsys.readouterr().err


def test_a_group_is_no_date_that_python_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path / "s", [row("a.png")])
    far = pa.array([10**7], pa.date32())
    store.write_column("far", pa.table({"path": ["a.png"], "value": far}))
    asked = ["sample", "few", "true", "--at-most", "1", "--per", "far", "--store", str(store.path)]
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=asked, name="pfgdata")
    assert caught.value.code == 1
    said = "--per far: has a date or time beyond the years 1 to 9999; name another column"
    assert said in capsys.readouterr().err
