"""Copies are found and kept apart from variants, around the one to keep; a person's word holds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.errors import QueryError, StoreError
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.query import Thresholds, select
from pfgdata.similarity import DuplicateOptions, DuplicateReport, find_duplicates
from pfgdata.store import Store, pair_of, verify
from tests.conftest import new_store
from tests.doubles import CheapTagger

DEMO = Path(__file__).parents[3] / "pipelines" / "demo" / "images"
OLD, NEW = 1_600_000_000, 1_700_000_000


def portraits(count: int) -> list[Path]:
    return sorted(DEMO.glob("*/00/*-v0.*"))[:: max(1, 40 // count)][:count]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five portraits; of the first two a smaller, a cropped, a converted copy, a text, equal bytes."""
    folder = tmp_path_factory.mktemp("pictures") / "images"
    folder.mkdir()
    for number, source in enumerate(portraits(5)):
        picture = Image.open(source).convert("RGB")
        picture.save(folder / f"{number}.png")
        if number < 2:
            picture.resize((180, 180), Image.Resampling.LANCZOS).save(
                folder / f"{number}-small.jpg", quality=80
            )
            picture.crop((4, 3, 252, 251)).save(folder / f"{number}-crop.png")
            picture.save(folder / f"{number}-conv.webp", quality=70)
            text = picture.copy()
            ImageDraw.Draw(text).text((40, 200), "HELLO", fill=(255, 0, 0), font_size=22)
            text.save(folder / f"{number}-text.png")
            shutil.copy(folder / f"{number}.png", folder / f"{number}-again.png")
    for name, colour in (("flat", (3, 200, 9)), ("flat2", (3, 200, 90))):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    for path in folder.iterdir():
        os.utime(path, (NEW, NEW))
    for number in (0, 1):
        os.utime(folder / f"{number}.png", (OLD, OLD))
    return folder


@pytest.fixture
def store(pictures: Path, tmp_path: Path) -> Store:
    path = tmp_path / "feats"
    ingest(plan_segments([pictures], {}), new_store(path), CheapTagger(), options=IngestOptions(batch_size=8))
    return Store.open(path)


def found(store: Store, *, between: Sequence[str] = (), **options: Any) -> DuplicateReport:
    snapshot = store.snapshot()
    chosen = DuplicateOptions(
        least=np.full(len(store.vocabulary), 2, np.float32), decided=store.verdicts(), **options
    )
    rows, *other = (select(snapshot, text, Thresholds()) for text in between or (None,))
    return find_duplicates(
        snapshot, rows, options=chosen, roots=store.roots(), between=other[0] if other else None
    )


def named(store: Store, report: DuplicateReport) -> dict[str, dict[str, str]]:
    """Of each kept image, by name, its members and their kinds."""
    table = store.snapshot().images(["path"])
    names = [table["path"][int(at)].as_py() for at in store.snapshot().positions(report.rows)]
    return {names[star.keep]: {names[one.row]: one.kind for one in star.members} for star in report.stars}


def test_copies_gather_around_the_one_to_keep_and_variants_stay(store: Store) -> None:
    report = found(store)
    stars = named(store, report)
    for number in ("0", "1"):
        copies = {name: kind for name, kind in stars[f"{number}.png"].items() if kind != "variant"}
        assert copies == {
            f"{number}-again.png": "same",
            f"{number}-crop.png": "copy",
            f"{number}-conv.webp": "copy",
            f"{number}-small.jpg": "copy",
        }
        kept, other = f"{number}.png", f"{number}-text.png"  # which comes first hangs on their bytes
        assert (stars[kept].get(other) or stars.get(other, {}).get(kept)) == "variant"
    assert set(stars) <= {"0.png", "1.png", "0-text.png", "1-text.png"}
    assert report.flat == 2 and not report.failures
    assert (report.count("same"), report.count("copy"), report.count("variant")) == (2, 6, 2)


def test_the_worst_of_a_star_is_the_copy_that_differs_most(store: Store) -> None:
    for star in found(store).stars:
        copies = [one for one in star.members if one.kind == "copy"]
        changes = [one.likeness.difference.change for one in copies if one.likeness]
        if copies:
            assert star.worst and star.worst.likeness
            assert star.worst.likeness.difference.change == max(changes)


def test_of_equal_bytes_the_older_file_is_kept(store: Store, pictures: Path) -> None:
    stars = named(store, found(store, radius=0))
    assert stars["0.png"]["0-again.png"] == "same"


def test_no_file_is_changed_and_a_lost_one_is_named(store: Store, pictures: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    away = tmp_path / "0-crop.png"
    shutil.move(pictures / "0-crop.png", away)
    try:
        report = found(store)
    finally:
        shutil.move(away, pictures / "0-crop.png")
    assert [Path(file).name for file, _, _ in report.failures] == ["0-crop.png"]
    assert report.count("copy") == 5
    assert before == {path.name: path.read_bytes() for path in pictures.iterdir()}


def test_between_two_selections_only_pairs_across_are_found(store: Store) -> None:
    stars = named(store, found(store, between=("path like '0%'", "path like '%small%'")))
    assert stars["0.png"] == {"0-small.jpg": "copy"} and "1.png" not in stars
    same = named(store, found(store, between=("path = '0.png'", "path = '0-again.png'")))
    assert same == {"0.png": {"0-again.png": "same"}}
    assert named(store, found(store, between=("path = '0.png'", "path = '2.png'"))) == {}


def test_a_verdict_outlives_reruns_and_can_be_taken_back(store: Store, pictures: Path) -> None:
    table = store.snapshot().images(["path", "content_id"])
    ids = dict(
        zip(table["path"].to_pylist(), (one.bytes for one in table["content_id"].to_pylist()), strict=True)
    )
    pair = pair_of(ids["0.png"], ids["0-crop.png"])
    store.set_verdicts({pair: "keep-both"})
    again = Store.open(store.path)
    report = found(again)
    assert "0-crop.png" not in named(again, report)["0.png"] and report.decided
    assert verify(store.path, deep=True) == []
    again.set_verdicts({pair: None})
    assert named(store, found(store))["0.png"]["0-crop.png"] == "copy" and store.verdicts() == {}
    with pytest.raises(StoreError, match="same bytes"):
        pair_of(ids["0.png"], ids["0-again.png"])


def test_damaged_verdicts_are_one_line_and_verify_sees_them(store: Store) -> None:
    store.set_verdicts({(b"a" * 16, b"b" * 16): "different"})
    path = store.path / "verdicts.parquet"
    data = bytearray(path.read_bytes())
    data[9] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        StoreError, match=r"verdicts.parquet: its bytes .*; restore it from a backup, or delete"
    ):
        store.verdicts()
    assert [problem.path.name for problem in verify(store.path)] == ["verdicts.parquet"]


def test_a_damaged_record_of_verdicts_is_named_itself_and_with_its_own_advice(store: Store) -> None:
    store.set_verdicts({(b"a" * 16, b"b" * 16): "different"})
    record = store.path / "verdicts.json"
    record.write_bytes(record.read_bytes()[:-3])
    with pytest.raises(StoreError, match=r"verdicts.json: damaged .*; restore it from a backup, or delete"):
        store.verdicts()
    (problem,) = verify(store.path)
    assert problem.path == record and problem.what.startswith("damaged")
    assert problem.what.endswith("to judge anew") and "write the column" not in problem.what


def test_the_command_prints_stars_and_takes_verdicts(store: Store) -> None:
    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["duplicates", str(store.path), *arguments])
        assert result.exit_code == 0, result.output
        return result

    answer = json.loads(run("--json").stdout)
    assert (answer["same"], answer["copy"], answer["flat"]) == (2, 6, 2)
    (star,) = (one for one in answer["stars"] if one["keep"]["path"] == "0.png")
    assert sum(one["worst"] for one in star["members"]) == 1
    assert all(Path(one["file"]).is_file() for one in star["members"])
    run("--verdict", "different", "0.png", "0-conv.webp")
    lines = [line.split("\t")[:3] for line in run().stdout.splitlines()]
    copies = {(Path(file).name, Path(kept).name) for file, kept, kind in lines if kind == "copy"}
    assert ("1-conv.webp", "1.png") in copies and ("0-conv.webp", "0.png") not in copies
    said = json.loads(run("--verdict", "none", "0.png", star["members"][-1]["content_id"], "--json").stdout)
    pair = [star["keep"]["content_id"], star["members"][-1]["content_id"]]
    assert said == {"verdict": "none", "pair": pair, "on_record": 1}
    for wrong in (["--radius", "40"], ["--verdict", "maybe", "0.png", "1.png"]):
        assert CliRunner().invoke(app, ["duplicates", str(store.path), *wrong]).exit_code == 2
    unknown = CliRunner().invoke(
        app, ["duplicates", str(store.path), "--verdict", "different", "0.png", "no"]
    )
    assert isinstance(unknown.exception, QueryError)
    low = CliRunner().invoke(app, ["duplicates", str(store.path), "--threshold", "0.001"])
    assert isinstance(low.exception, QueryError) and "the store keeps scores from" in str(low.exception)


def test_the_copies_become_a_selection_that_leaves_each_picture_once(store: Store) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments), env={"PFG_STORE": str(store.path)})
        assert result.exit_code == 0, result.output
        return result.stdout

    run("select", "small", "path like '%small%'")
    run("select", "first", "path like '0%' and not @small")
    stars = json.loads(run("duplicates", "--between", "@first", "@small", "--select", "leak", "--json"))[
        "stars"
    ]
    assert [(s["keep"]["path"], [m["path"] for m in s["members"]]) for s in stars] == [
        ("0.png", ["0-small.jpg"])
    ]
    assert run("query", "@leak", "--columns", "path").split() == ["path", "0-small.jpg"]
    answer = json.loads(run("duplicates", "--select", "copies", "--json"))
    kept = run("query", "not @copies", "--columns", "path", "--csv").split()[1:]
    assert not {"0-small.jpg", "0-crop.png", "1-conv.webp"} & set(kept)
    assert {"0.png", "0-again.png", "0-text.png", "2.png", "flat.png"} <= set(kept)
    assert int(run("query", "@copies", "--count")) == answer["copy"] == 6
    saved = store.read_selection("copies")
    assert (saved.text, saved.how) == (None, "the copies of duplicates --radius 8")
    taken = CliRunner().invoke(app, ["duplicates", str(store.path), "--select", "copies"])
    assert isinstance(taken.exception, StoreError) and "--replace it" in str(taken.exception)
