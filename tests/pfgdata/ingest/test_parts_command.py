"""An ingest by several processes, as a user runs it: plan, two shares at once, adopt."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pfgdata.cli import app
from pfgdata.screen import run_app
from pfgdata.store import Store, list_parts, verify
from tests.conftest import make_images

Captured = pytest.CaptureFixture[str]


def pfgdata(*arguments: object) -> int:
    """Run the command, and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=[str(argument) for argument in arguments], name="pfgdata")
    assert isinstance(caught.value.code, int)
    return caught.value.code


def plan(place: Path, *more: object) -> tuple[object, ...]:
    """The arguments that plan an ingest of 6 images with the demo tagger."""
    make_images(place / "images", 6)
    store = ("--store", place / "feats", "--tagger", "demo", "--plan-out", place / "plan")
    return ("ingest", place / "images", *store, "--range-rows", 2, *more)


def test_two_processes_at_once_make_the_store_of_one_ingest(mini: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(mini / "lorelei", images)
    feats, one = tmp_path / "feats", tmp_path / "one"
    new = ("--tagger", "demo", "--batch-size", 8)
    assert pfgdata("ingest", images, "--store", one, *new) == 0
    out = ("--plan-out", tmp_path / "plan", "--range-rows", 9)
    assert pfgdata("ingest", images, "--store", feats, "--tagger", "demo", *out) == 0
    words = [sys.executable, "-m", "pfgdata", "ingest", "--plan", str(tmp_path / "plan"), "--batch-size", "8"]
    shares = [subprocess.Popen([*words, "--part", f"{share}/2"]) for share in (1, 2)]
    assert [share.wait(120) for share in shares] == [0, 0]
    assert pfgdata("adopt", feats) == 0
    rows = []
    for path in (feats, one):
        snapshot = Store.open(path).snapshot()
        table = snapshot.images().drop_columns(["shard", "row"]).to_pylist()
        features = snapshot.features(snapshot.everything)
        order = sorted(range(len(table)), key=lambda at: table[at]["path"])
        rows.append(([table[at] for at in order], features[order]))
    assert len(rows[0][0]) == len(list(images.iterdir())) == 40
    np.testing.assert_allclose(rows[0][1], rows[1][1], atol=1e-2)
    for ours, theirs in zip(rows[0][0], rows[1][0], strict=True):
        assert ours["tag_ids"][:5] == theirs["tag_ids"][:5]
        np.testing.assert_allclose(ours["rating_scores"], theirs["rating_scores"], atol=1e-3)
        for name in ("path", "content_id", "size", "mtime_ns", "phash", "rating", "character"):
            assert ours[name] == theirs[name]
    assert verify(feats, deep=True) == []


def test_each_step_says_what_it_did_and_how_to_go_on(tmp_path: Path, capsys: Captured) -> None:
    assert pfgdata(*plan(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "6 images in 3 ranges" in said and f"--plan {tmp_path / 'plan'} --part 1/N" in said
    work = ("ingest", "--plan", tmp_path / "plan")
    assert pfgdata(*work, "--part", "1/2", "--dry-run") == 0
    assert "4 = 0 tagged + 0 copied + 0 unchanged + 0 failed + 4 pending" in capsys.readouterr().err
    assert pfgdata(*work, "--part", "1/2") == 0
    assert "4 = 4 tagged" in capsys.readouterr().err
    assert pfgdata("adopt", tmp_path / "feats", "--json") == 0
    out, said = capsys.readouterr()
    assert "6 = 4 tagged + 0 copied + 0 unchanged + 0 failed + 2 pending" in said
    result = json.loads(out)
    assert (result["tagged"], result["pending"], result["parts"], result["refused"]) == (4, 2, 2, [])
    assert pfgdata(*work) == 0
    assert "6 = 2 tagged + 0 copied + 4 unchanged" in capsys.readouterr().err
    assert pfgdata("adopt", tmp_path / "feats") == 0
    assert "6 = 2 tagged + 0 copied + 4 unchanged + 0 failed + 0 pending" in capsys.readouterr().err
    assert pfgdata("adopt", tmp_path / "feats") == 0
    assert "none in" in capsys.readouterr().err


def test_a_damaged_part_ends_adopt_with_its_name_and_the_others_are_in(
    tmp_path: Path, capsys: Captured
) -> None:
    assert pfgdata(*plan(tmp_path)) == 0
    assert pfgdata("ingest", "--plan", tmp_path / "plan", "--parts", tmp_path / "share") == 0
    store = Store.open(tmp_path / "feats")
    first = list_parts(store.disk, tmp_path / "share")[0] / "features.h5"
    first.write_bytes(first.read_bytes()[:-1])
    capsys.readouterr()
    assert pfgdata("adopt", store.path, tmp_path / "share") == 1
    said = capsys.readouterr().err
    assert f"refused  {first}" in said and "6 = 4 tagged" in said and "2 pending" in said
    assert pfgdata("ingest", "--plan", tmp_path / "plan", "--parts", tmp_path / "share") == 0
    assert "done again: " in capsys.readouterr().err
    assert pfgdata("adopt", store.path, tmp_path / "share") == 0
    assert store.snapshot().num_images == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ingest"], "name IMAGES, or a plan"),
        (["ingest", "x", "--part", "1/2"], "--part is for --plan"),
        (["ingest", "--plan", "p", "--part", "3/2"], "write I/N"),
        (["ingest", "--plan", "p", "--part", "half"], "write I/N"),
        (["ingest", "--plan", "p", "--part", f"1/{'9' * 5000}"], "write I/N"),
        (["ingest", "x", "--range-rows", "9"], "--range-rows is for --plan-out"),
        (["ingest", "x", "--plan", "p"], "IMAGES: the plan decides that"),
        (["ingest", "--plan", "p", "--min-side", "9", "--rehash"], "--min-side, --rehash: the plan decides"),
        (["ingest", "x", "--plan-out", "p", "--sidecars"], "after pfgdata adopt"),
        (["ingest", "x", "--workers", "2"], "--workers is for --cluster"),
        (["ingest", "x", "--plan-out", "p", "--cluster", "auto"], "leave one of them out"),
        (["ingest", "--plan", "p", "--cluster", "auto"], "--cluster: the plan decides"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(words: list[str], said: str, capsys: Captured) -> None:
    assert pfgdata(*words) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_worker_without_plan_or_store_is_told_what_to_name(tmp_path: Path, capsys: Captured) -> None:
    assert pfgdata("ingest", "--plan", tmp_path / "nowhere") == 1
    assert "make one with: pfgdata ingest IMAGES --plan-out" in capsys.readouterr().err
    assert pfgdata(*plan(tmp_path)) == 0
    shutil.move(tmp_path / "feats", tmp_path / "away")
    assert pfgdata("ingest", "--plan", tmp_path / "plan") == 1
    assert "name it by --store, or a folder for the parts by --parts" in capsys.readouterr().err
    assert pfgdata("ingest", "--plan", tmp_path / "plan", "--store", tmp_path / "away") == 0
    assert pfgdata("adopt", tmp_path / "away") == 0
    assert Store.open(tmp_path / "away").snapshot().num_images == 6


def test_adopt_says_where_it_looked_and_which_folder_is_not_there(tmp_path: Path, capsys: Captured) -> None:
    assert pfgdata(*plan(tmp_path)) == 0
    feats, images, nowhere = tmp_path / "feats", tmp_path / "images", tmp_path / "nowhere"
    assert pfgdata("adopt", feats, images) == 0
    assert f"none in {feats / 'parts'}, {images};" in capsys.readouterr().err
    assert pfgdata("adopt", feats, images, nowhere) == 1
    assert f"{nowhere}: no such folder of parts" in capsys.readouterr().err
    (feats / "parts").mkdir()
    (feats / "parts" / "0123456789ab-00000-00000000").write_text("no part")
    assert pfgdata("adopt", feats) == 0
    shutil.copy(feats / "store.json", tmp_path / "plan" / "plan.json")
    capsys.readouterr()
    assert pfgdata("ingest", "--plan", tmp_path / "plan") == 1
    assert "plan.json: is of another kind; make the plan again" in capsys.readouterr().err
