"""From images to a feature set: each content once, resumable, and told apart from every other set."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pfgdata.cli.app import app
from pfgdata.corpus import plan_segments
from pfgdata.errors import ConfigError, IdentityError, QueryError, StoreError
from pfgdata.extractors import load_extractor
from pfgdata.features import (
    FeatureJob,
    FeatureOptions,
    FeaturePass,
    FeatureReport,
    extractor_for,
    extractor_of,
)
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.query import Thresholds, select
from pfgdata.store import FeatureIdentity, SetFeatures, Store, verify
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger, Watched
from tests.pfgdata.extractors.small_models import SIDE, write_graph, write_model
from tests.ray_cluster import ray_here

HOW = f"size = {SIDE}\nlayout = 'NCHW'\nchannels = 'RGB'\nsquare = 'stretch {SIDE} bilinear'\n"
OPTIONS = FeatureOptions(batch_size=4, threads=1)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A folder with a small graph and its convention, of five numbers an image."""
    folder = tmp_path / "models" / "small"
    write_graph(folder / "model.onnx", scale=1e-2)
    (folder / "convention.toml").write_text(HOW)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Ten images, one of them under two names."""
    make_images(tmp_path / "images", 10)
    shutil.copy(tmp_path / "images" / "0003.png", tmp_path / "images" / "again.png")
    store = new_store(tmp_path / "feats")
    options = IngestOptions(batch_size=4, shard_rows=5)
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=options)
    return store


def make(
    store: Store,
    graph: Path,
    *,
    where: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    **job: Any,
) -> FeatureReport:
    """What `pfgdata features` does."""
    extractor, label = extractor_for(store, FeatureJob(extractor=str(graph), device="cpu", **job))
    snapshot = store.snapshot()
    work = FeaturePass(store=store, extractor=extractor, label=label, options=OPTIONS, progress=Watched())
    return work.run(snapshot, select(snapshot, where, Thresholds()), stop=stop)


def test_each_content_gets_the_vector_of_its_picture_once(store: Store, graph: Path) -> None:
    report = make(store, graph)
    assert (report.selected, report.distinct, report.encoded, report.pending) == (11, 10, 10, 0)
    assert report.label == "small" and verify(store.path, deep=True) == []
    (made,) = store.feature_sets()
    extractor = load_extractor(str(graph), device="cpu")
    assert made.identity == FeatureIdentity.of(extractor.identity)
    images = store.snapshot().images(["path", "root"])
    rows = store.snapshot().everything
    there = SetFeatures(made)
    found = there.features(there.placed(rows))
    from PIL import Image

    for path, root, vector in zip(images["path"].to_pylist(), images["root"].to_pylist(), found, strict=True):
        pixels = np.asarray(Image.open(Path(root) / path).convert("RGB"))
        np.testing.assert_array_equal(extractor.features(extractor.square(pixels)[None])[0], vector)
    again = make(store, graph)
    assert (again.encoded, again.present) == (0, 10)


def test_a_stopped_making_goes_on_and_loses_nothing(store: Store, graph: Path) -> None:
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) == 1

    first = make(store, graph, stop=stop)
    assert first.interrupted and first.encoded == 4 and first.pending == 6
    second = make(store, graph)
    assert (second.present, second.encoded, second.pending) == (4, 6, 0)


def test_only_what_is_asked_for_is_made_and_the_rest_later(store: Store, graph: Path) -> None:
    assert make(store, graph, where="path < '0004'").encoded == 4
    assert make(store, graph).encoded == 6
    with pytest.raises(QueryError, match="no image is selected"):
        make(store, graph, where="path = 'none'")


def test_what_float16_cannot_hold_is_a_failure_and_not_tried_again(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "loud"
    write_graph(folder / "model.onnx", scale=1e7)
    (folder / "convention.toml").write_text(HOW)
    report = make(store, folder)
    assert report.failed == 10 and report.encoded == 0
    assert {(kind, why) for _, kind, why in report.failures} == {
        ("content", "its feature is not finite in float16")
    }
    again = make(store, folder)
    assert again.failed == 10 and again.failures == []


def test_nan_is_a_failure(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "nan"
    write_graph(folder / "model.onnx", scale=float("nan"))
    (folder / "convention.toml").write_text(HOW)
    assert make(store, folder).failed == 10


def test_an_image_that_is_gone_is_a_failure_of_access_and_tried_again(store: Store, graph: Path) -> None:
    (root,) = store.roots().values()
    moved = Path(root) / "0005.png"
    data = moved.read_bytes()
    moved.unlink()
    report = make(store, graph)
    assert report.failed == 1 and report.failures[0][1] == "access"
    moved.write_bytes(data)
    assert make(store, graph).encoded == 1


def test_a_set_is_found_again_by_its_label_alone(store: Store, graph: Path) -> None:
    make(store, graph, label="mine", where="path < '0004'")
    extractor, label = extractor_for(store, FeatureJob(label="mine", device="cpu"))
    assert label == "mine"
    (made,) = store.feature_sets()
    assert FeatureIdentity.of(extractor.identity) == made.identity
    work = FeaturePass(store=store, extractor=extractor, label=label, options=OPTIONS)
    snapshot = store.snapshot()
    assert work.run(snapshot, snapshot.everything).encoded == 6
    assert len(store.feature_sets()) == 1


def test_the_same_extractor_is_the_same_set_whatever_it_is_called(store: Store, graph: Path) -> None:
    make(store, graph, label="mine")
    assert make(store, graph).label == "mine"
    with pytest.raises(ConfigError, match="--label other: this set is there already, called mine"):
        make(store, graph, label="other")


def test_another_extractor_does_not_go_under_a_label_that_is_taken(
    store: Store, graph: Path, tmp_path: Path
) -> None:
    make(store, graph)
    write_graph(tmp_path / "new" / "small" / "model.onnx", scale=2e-2)
    (tmp_path / "new" / "small" / "convention.toml").write_text(HOW)
    with pytest.raises(ConfigError, match=r"small is the label of another set .*weights differ.*--label"):
        make(store, tmp_path / "new" / "small")
    assert make(store, tmp_path / "new" / "small", label="small-2").encoded == 10
    assert {one.label for one in store.feature_sets()} == {"small", "small-2"}


def test_an_extractor_that_was_replaced_is_not_taken_for_the_old_one(store: Store, graph: Path) -> None:
    make(store, graph)
    (made,) = store.feature_sets()
    write_graph(graph / "model.onnx", scale=2e-2)
    with pytest.raises(IdentityError, match=r"small: .* is another extractor now: its weights differ"):
        extractor_of(made, device="cpu")


def test_node_and_convention_are_part_of_what_a_set_is(store: Store, graph: Path, tmp_path: Path) -> None:
    make(store, graph)
    (tmp_path / "how.toml").write_text(HOW.replace("RGB", "BGR"))
    make(store, graph, label="bgr", convention=str(tmp_path / "how.toml"))
    make(store, graph, label="hidden", node="hidden")
    assert sorted(one.feature_dim for one in store.feature_sets()) == [3, 5, 5]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (FeatureJob(), "features of which extractor"),
        (FeatureJob(label="none"), "no feature set of that label"),
        (FeatureJob(label="tagger"), "is the tagger's own feature"),
        (FeatureJob(label="x", node="y"), "go with --extractor"),
        (FeatureJob(extractor="/no/such"), "no such folder"),
    ],
)
def test_a_job_that_names_no_extractor_is_one_line(store: Store, job: FeatureJob, message: str) -> None:
    from pfgdata.errors import PfgError

    with pytest.raises(PfgError, match=message) as refusal:
        extractor_for(store, replace(job, device="cpu"))
    assert "\n" not in str(refusal.value)


def test_a_model_of_transformers_makes_a_set(store: Store, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "tiny-clip", "clip")
    report = make(store, tmp_path / "models" / "tiny-clip")
    assert report.encoded == 10 and report.label == "tiny-clip"
    (made,) = store.feature_sets()
    assert made.feature_dim == 12 and made.identity.node == "image_embeds"


def test_the_command_says_what_it_will_do_does_it_and_goes_on(store: Store, graph: Path) -> None:
    runner = CliRunner()
    command = ["features", str(store.path), "--extractor", str(graph), "--device", "cpu", "--json"]
    planned = runner.invoke(app, [*command, "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["pending"] == 10 and store.feature_sets() == []
    done = runner.invoke(app, command)
    told = json.loads(done.stdout)
    assert (told["label"], told["encoded"], told["pending"]) == ("small", 10, 0)
    assert "10 = 10 made + 0 present + 0 failed + 0 pending" in done.stderr
    more = runner.invoke(app, ["features", str(store.path), "--label", "small", "--device", "cpu"])
    assert "10 = 0 made + 10 present + 0 failed + 0 pending" in more.stderr


def test_two_writers_of_one_set_do_not_meet(store: Store, graph: Path) -> None:
    make(store, graph, where="path < '0004'")
    (made,) = store.feature_sets()
    with made.writer(), pytest.raises(StoreError, match="is being written by process"):
        make(store, graph)


def test_another_machine_loads_the_same_extractor_or_says_that_it_cannot(store: Store, graph: Path) -> None:
    extractor, label = extractor_for(store, FeatureJob(extractor=str(graph), device="cpu"))
    source = FeaturePass(store=store, extractor=extractor, label=label).source()
    there = pickle.loads(pickle.dumps(source)).load(gpu=False)
    squares = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(there.encode(squares), extractor.features(squares))
    write_graph(graph / "model.onnx", scale=2e-2)
    with pytest.raises(IdentityError, match="its weights differ"):
        source.load(gpu=False)


@pytest.mark.cluster
def test_the_workers_of_a_cluster_make_what_one_process_makes(store: Store, graph: Path) -> None:
    command = [sys.executable, "-m", "pfgdata", "features", str(store.path), "--extractor", str(graph)]
    with ray_here() as cluster:  # of its own: `auto` would join the one of another test
        cluster.start()
        done = subprocess.run(
            [*command, "--device", "cpu", "--cluster", cluster.address, "--workers", "1", "--json"],
            capture_output=True,
            text=True,
            timeout=240,
            env={**cluster.env, "CUDA_VISIBLE_DEVICES": ""},
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["label"], told["encoded"], told["pending"]) == ("small", 10, 0) and told["workers"]
    (made,) = store.feature_sets()
    rows, there = store.snapshot().everything, SetFeatures(made)
    by_workers = there.features(there.placed(rows))
    shutil.rmtree(store.path / "features")
    make(store, graph)
    (made,) = store.feature_sets()
    alone = SetFeatures(made)
    np.testing.assert_array_equal(alone.features(alone.placed(rows)), by_workers)
