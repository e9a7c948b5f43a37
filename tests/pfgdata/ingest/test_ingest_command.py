"""`pfgdata ingest` as a user runs it: what is said, waiting for others, and the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.ingest import IngestOptions, ingest, open_or_create
from pfgdata.screen import run_app
from pfgdata.store import Store
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

Captured = pytest.CaptureFixture[str]


def pfgdata(*arguments: object) -> int:
    """Run the command, and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=[str(argument) for argument in arguments], name="pfgdata")
    assert isinstance(caught.value.code, int)
    return caught.value.code


def one_image(place: Path) -> tuple[object, ...]:
    """The arguments that ingest a corpus of one image with the demo tagger."""
    make_images(place / "images", 1)
    store = ("--store", place / "feats")
    return ("ingest", place / "images", *store, "--tagger", "demo", "--batch-size", 1)


def test_every_limit_may_be_none(tmp_path: Path, capsys: Captured) -> None:
    make_images(tmp_path / "images", 2)
    new = ("--store", tmp_path / "feats", "--tagger", "demo", "--batch-size", 2)
    limits = ("--max-megapixels", "--max-megabytes", "--max-aspect", "--image-seconds")
    without = [word for limit in limits for word in (limit, "inf")]
    assert pfgdata("ingest", tmp_path / "images", *new, *without) == 0
    assert "2 = 2 tagged" in capsys.readouterr().err


def test_the_flag_s_old_name_is_still_taken(tmp_path: Path, capsys: Captured) -> None:
    for flag, square in (("--preprocess", "webui"), ("--recipe", "pfg-train")):
        assert pfgdata(*one_image(tmp_path / square), flag, square) == 0
        store = tmp_path / square / "feats"
        assert Store.open(store).identity.tagger.preprocess == square
        assert json.loads((store / "store.json").read_bytes())["tagger"]["recipe"] == square
    assert pfgdata("ingest", "--help") == 0
    assert "--recipe" not in capsys.readouterr().out


def test_what_was_passed_over_is_said_with_the_option_that_takes_it(tmp_path: Path, capsys: Captured) -> None:
    make_images(tmp_path / "images", 1)
    (tmp_path / "images" / "loop").symlink_to(".")
    (tmp_path / "images" / "a.zip").write_bytes(b"")
    here = ("ingest", tmp_path / "images", "--store", tmp_path / "feats", "--dry-run")
    assert pfgdata(*here) == 0
    said = capsys.readouterr().err
    assert "too, which --archives opens" in said and "1 to folders or out of the corpus, not followed" in said
    assert pfgdata(*here, "--follow-links", "--archives") == 0
    said = capsys.readouterr().err
    assert "1 to folders they lie in, not followed" in said and "--" not in said


def test_a_dry_run_counts_the_shards_there_are(tmp_path: Path, capsys: Captured) -> None:
    here = one_image(tmp_path)
    assert pfgdata(*here) == 0
    assert pfgdata(*here, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["shards"] == 1


def test_captions_that_cannot_be_kept_do_not_hide_what_was_tagged(tmp_path: Path, capsys: Captured) -> None:
    here = one_image(tmp_path)
    assert pfgdata(*here) == 0
    made = pa.table({"path": ["0000.png"], "value": ["mine"]})
    Store.open(tmp_path / "feats").write_column("captions", made)
    capsys.readouterr()
    assert pfgdata(*here, "--sidecars") == 1
    said = capsys.readouterr().err
    assert "1 = 0 tagged + 0 copied + 1 unchanged" in said and "was not made from files beside images" in said


def test_who_waits_makes_a_store_together_with_others(tmp_path: Path) -> None:
    for number in range(10):
        path = tmp_path / str(number)
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _, at=path: open_or_create(at, CheapTagger(), wait=True), range(4)))
        assert {store.identity for store in made} == {Store.open(path).identity}


def test_a_root_is_moved_after_the_one_who_writes(tmp_path: Path) -> None:
    store = new_store(tmp_path / "feats")
    with ThreadPoolExecutor(1) as pool:
        with store.writer() as writer:
            writer.set_roots({"/a": "/a"})
            moved = pool.submit(Store.open(store.path).move_root, "/a", "/b", wait=True)
            time.sleep(0.1)
            assert not moved.done()
        moved.result()
    assert store.roots() == {"/a": "/b"}


def test_a_root_that_moves_may_have_an_equals_sign_in_its_name(tmp_path: Path, capsys: Captured) -> None:
    plain, year, there = (tmp_path / name for name in ("year", "year=2024", "year=2025"))
    for seed, folder in enumerate((plain, year)):
        make_images(folder, 1, seed=seed)
    new = ("--store", tmp_path / "feats", "--tagger", "demo")
    assert pfgdata("ingest", plain, year, *new, "--plan-out", tmp_path / "plan") == 0
    year.rename(there)
    move = ("--root", f"{year}={there}")
    assert pfgdata("ingest", "--plan", tmp_path / "plan", *move) == 0
    assert "2 = 2 tagged" in capsys.readouterr().err
    assert pfgdata("adopt", tmp_path / "feats") == 0
    assert pfgdata("ingest", there, "--store", tmp_path / "feats", *move) == 0
    assert "1 = 0 tagged + 0 copied + 1 unchanged" in capsys.readouterr().err
    assert Store.open(tmp_path / "feats").roots() == {str(plain): str(plain), str(year): str(there)}
    assert pfgdata("ingest", there, *new, "--root", f"{tmp_path}/nowhere={there}") == 1
    assert f"{tmp_path}/nowhere is no corpus root" in capsys.readouterr().err
    assert pfgdata("ingest", there, *new, "--root", plain) == 2
    assert "write it OLD=NEW" in capsys.readouterr().err


def test_who_waits_for_another_stops_at_the_first_interrupt(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 1)
    store, options = new_store(tmp_path / "feats"), IngestOptions(wait=True)
    segments = plan_segments([tmp_path / "images"], {})
    with store.writer(), pytest.raises(KeyboardInterrupt):
        ingest(segments, store, CheapTagger(), options=options, stop=lambda: True)
    assert store.roots() == {}


def test_a_name_that_the_terminal_has_no_letters_for_is_escaped(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 1)[0].rename(tmp_path / "images" / "日本.png")
    new = ("--store", str(tmp_path / "feats"), "--tagger", "demo", "--min-side", "9999", "--json")
    run = subprocess.run(
        [sys.executable, "-m", "pfgdata", "ingest", str(tmp_path / "images"), *new],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert json.loads(run.stdout)["failures"][0]["file"].endswith("日本.png")


def test_any_number_of_interrupts_ends_it_without_an_abort(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 300)
    store = tmp_path / "feats"
    command = [sys.executable, "-m", "pfgdata", "ingest", str(tmp_path / "images"), "--store", str(store)]
    with subprocess.Popen(
        [*command, "--tagger", "demo", "--shard-rows", "8"], stderr=subprocess.PIPE, env=os.environ
    ) as run:
        while not any(store.glob("shards/0*")) and run.poll() is None:
            time.sleep(0.01)
        for _ in range(3):
            run.send_signal(signal.SIGINT)
            time.sleep(0.02)
        said = run.stderr.read().decode() if run.stderr else ""
    assert run.returncode in (130, -signal.SIGINT) and "terminate" not in said
    assert Store.open(store).snapshot().num_images
