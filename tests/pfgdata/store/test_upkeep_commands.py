"""`pfgdata prune`, `compact`, `gc` and `verify` as a user runs them: what is said, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.files import ObjectPlace
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.screen import run_app
from pfgdata.store import Store
from pfgdata.urls import UrlPath
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

Captured = pytest.CaptureFixture[str]
OPTIONS = IngestOptions(batch_size=8, shard_rows=8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """60 images in eight shards."""
    make_images(tmp_path / "images", 60)
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=OPTIONS)
    return store


def pfgdata(*arguments: object) -> int:
    """Run the command, and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=[str(argument) for argument in arguments], name="pfgdata")
    assert isinstance(caught.value.code, int)
    return caught.value.code


def remove(images: Path, count: int) -> None:
    for index in range(count):
        (images / f"{index:04d}.png").unlink()


def test_prune_names_the_first_ten_files_and_counts_the_rest(
    store: Store, tmp_path: Path, capsys: Captured
) -> None:
    remove(tmp_path / "images", 12)
    assert pfgdata("prune", store.path, "--json") == 0
    captured = capsys.readouterr()
    assert captured.err.count("gone  ") == 11 and "and 2 more" in captured.err
    assert "dropped  12 images and 0 failures, of 60 looked at" in captured.err
    assert len(json.loads(captured.out)["files"]) == 12
    assert store.snapshot().num_images == 48


def test_prune_of_an_unmounted_disk_is_refused_in_one_line(
    store: Store, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    assert pfgdata("prune", store.path) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "no such file" in line and "60 of 60 rows" in line and "--yes" in line
    assert pfgdata("prune", store.path, "--dry-run") == 0
    assert "needs --yes" in capsys.readouterr().err
    assert store.snapshot().num_images == 60
    assert pfgdata("prune", store.path, "--yes") == 0
    assert store.snapshot().num_images == 0


def test_compact_and_gc_say_what_they_did(store: Store, capsys: Captured) -> None:
    assert pfgdata("compact", store.path, "--dry-run") == 0
    assert "8 before, 1 after" in capsys.readouterr().err
    assert pfgdata("compact", store.path, "--json") == 0
    captured = capsys.readouterr()
    assert "pfgdata gc frees" in captured.err
    assert json.loads(captured.out)["rows"] == 60
    assert pfgdata("gc", store.path) == 0
    assert "8 shards that were replaced less than 7d ago" in capsys.readouterr().err
    assert pfgdata("gc", store.path, "--older-than", "0", "--json") == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["removed"]) == 8
    assert len(list((store.path / "shards").iterdir())) == 1


@pytest.mark.parametrize("age", ["7 weeks", "-1", "d", ""])
def test_an_age_that_is_none_is_wrong_usage(store: Store, age: str, capsys: Captured) -> None:
    assert pfgdata("gc", store.path, f"--older-than={age}") == 2
    assert "7d, 12h, 30m or 0" in capsys.readouterr().err


def test_each_says_who_is_writing(store: Store, tmp_path: Path, capsys: Captured) -> None:
    with store.writer():
        for command in ("prune", "compact", "gc"):
            assert pfgdata(command, store.path) == 1
            assert "is being written by process" in capsys.readouterr().err


def test_verify_offers_a_repair_only_of_what_it_can_repair(store: Store, capsys: Captured) -> None:
    (store.path / "roots.json").write_bytes(b"{}")
    assert pfgdata("verify", store.path) == 1
    assert "--repair" not in capsys.readouterr().err
    (store.snapshot().shards[0].path / "features.h5").write_bytes(b"")
    assert pfgdata("verify", store.path) == 1
    assert "--repair sets broken shards aside" in capsys.readouterr().err


def test_one_repair_of_a_bucket_puts_its_records_right_and_then_the_shards_that_they_name(
    bucket: str, tmp_path: Path, capsys: Captured
) -> None:
    make_images(tmp_path / "images", 40)
    store = new_store(UrlPath(bucket))
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=OPTIONS)
    place, broken = ObjectPlace.at(bucket), store.snapshot().shards[1].id
    place.delete("commits/00000001.json")
    assert pfgdata("verify", bucket, "--repair") == 0
    assert "still broken" not in capsys.readouterr().err
    place.delete("commits/00000001.json")
    features = place.read(f"shards/{broken}/features.h5")
    place.put(f"shards/{broken}/features.h5", features[:-1] + b"x")
    assert pfgdata("verify", bucket, "--repair", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["path"].removeprefix(f"{bucket}/") for one in said["problems"]] == [
        "commits/00000001.json",
        f"shards/{broken}/features.h5",
    ]
    assert (len(said["mended"]), len(said["set_aside"]), said["left"]) == (1, 1, [])
    assert pfgdata("verify", bucket, "--deep") == 0


def test_a_repair_says_what_it_has_left_and_ends_with_1(store: Store, capsys: Captured) -> None:
    (store.snapshot().shards[0].path / "features.h5").write_bytes(b"")
    (store.path / "roots.json").write_bytes(b"{}")
    assert pfgdata("verify", store.path, "--repair", "--json") == 1
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["left"] == [str(store.path / "roots.json")]
    assert len(said["set_aside"]) == 1 and len(said["problems"]) == 2
    assert captured.err.count("still broken") == 1
