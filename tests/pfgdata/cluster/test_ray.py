"""A real head and a second raylet, killed in turn: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pfgdata.store import Store, list_parts, verify
from tests.conftest import make_images
from tests.pfgdata.crash.life import require_equal
from tests.pfgdata.ingest.test_adopt import see
from tests.ray_cluster import RayHere, ray_here

pytestmark = pytest.mark.cluster

COUNT = 420


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHere]:
    """A head and a second node of one core each."""
    with ray_here() as here:
        here.start()
        here.start()
        yield here


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """420 images, two of which are broken."""
    folder = tmp_path_factory.mktemp("corpus") / "images"
    make_images(folder, COUNT - 2, size=(400, 300))
    for name in ("0100x.png", "zz.png"):
        (folder / name).write_bytes(b"this is no image")
    return folder


@pytest.fixture(scope="module")
def usual(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What a normal ingest makes of them."""
    path = tmp_path_factory.mktemp("usual") / "feats"
    words = [sys.executable, "-m", "pfgdata", "ingest", str(images), "--store", str(path)]
    subprocess.run([*words, "--tagger", "demo", "--batch-size", "8"], check=True, capture_output=True)
    return Store.open(path)


class Run:
    """`pfgdata ingest --cluster` in a process of its own."""

    def __init__(self, cluster: RayHere, images: Path, store: Path) -> None:
        self.store = store
        words = ["ingest", str(images), "--store", str(store), "--tagger", "demo", "--batch-size", "8"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pfgdata", *words, "--cluster", cluster.address, "--json"],
            env={**cluster.env},
            cwd=store.parent,  # Ray's workers look there first: not where a checkout says its version
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_some_are_in(self) -> None:
        """Return once the first part is adopted; the others are under way."""
        until = time.monotonic() + 90
        while self.process.poll() is None and time.monotonic() < until:
            if (self.store / "store.json").exists() and list((self.store / "shards").glob("0*")):
                return
            time.sleep(0.02)
        raise AssertionError(self.end())

    def hear(self, words: str) -> str:
        """What came on stderr up to the line with `words`; all of it where none has."""
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if words in line:
                break
        return said

    def end(self) -> tuple[int, dict[str, object], str]:
        """The exit code, what came on stdout as JSON, and what on stderr."""
        out, said = self.process.communicate(timeout=120)
        return self.process.returncode, json.loads(out) if out else {}, said


def require_same(store: Path, usual: Store) -> None:
    """Fail unless the store shows what the usual one does, is whole, and keeps no part."""
    there = Store.open(store)
    require_equal(see(there), see(usual))
    assert verify(store, deep=True) == []
    assert list_parts(there.disk, there.parts) == []


def test_two_nodes_make_what_one_ingest_makes_and_stdout_is_json_alone(
    cluster: RayHere, images: Path, usual: Store, tmp_path: Path
) -> None:
    code, report, said = Run(cluster, images, tmp_path / "feats").end()
    assert code == 0, said
    assert (report["found"], report["tagged"], report["failed"], report["pending"]) == (
        COUNT,
        COUNT - 2,
        2,
        0,
    )
    workers = report["workers"]
    assert isinstance(workers, dict) and 1 <= len(workers) <= 2  # one may be done before the other has loaded
    assert sum(one["images"] for one in workers.values()) == COUNT
    assert all(one["images_per_second"] > 0 for one in workers.values())
    assert "workers  " in said and "Token" not in said and "(raylet)" not in said
    require_same(tmp_path / "feats", usual)


def test_a_killed_worker_loses_nothing(cluster: RayHere, images: Path, usual: Store, tmp_path: Path) -> None:
    run = Run(cluster, images, tmp_path / "feats")
    run.wait_until_some_are_in()
    assert cluster.nodes[-1].kill(named="ray::Host")
    code, report, said = run.end()
    assert (code, report["pending"]) == (0, 0), said
    assert ("it died" in said or "it did not start" in said) and "raylet" not in said  # at work, or loading
    require_same(tmp_path / "feats", usual)


def test_a_killed_node_loses_nothing(cluster: RayHere, images: Path, usual: Store, tmp_path: Path) -> None:
    run = Run(cluster, images, tmp_path / "feats")
    run.wait_until_some_are_in()
    doomed = cluster.nodes[-1]
    assert doomed.kill(named="raylet/raylet")
    code, report, said = run.end()
    doomed.kill()
    cluster.start()
    assert (code, report["pending"]) == (0, 0), said
    require_same(tmp_path / "feats", usual)


def test_what_a_killed_driver_adopted_stays_and_a_rerun_does_the_rest(
    cluster: RayHere, images: Path, usual: Store, tmp_path: Path
) -> None:
    run = Run(cluster, images, tmp_path / "feats")
    run.wait_until_some_are_in()
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.communicate()
    kept = Store.open(tmp_path / "feats").snapshot().num_images
    assert 0 < kept < COUNT - 2
    code, report, said = Run(cluster, images, tmp_path / "feats").end()
    assert (code, report["pending"]) == (0, 0), said
    assert isinstance(report["unchanged"], int) and report["unchanged"] >= kept
    require_same(tmp_path / "feats", usual)


def test_ctrl_c_keeps_what_is_scored_and_the_same_command_goes_on(
    cluster: RayHere, images: Path, usual: Store, tmp_path: Path
) -> None:
    run = Run(cluster, images, tmp_path / "feats")
    run.wait_until_some_are_in()
    run.process.send_signal(signal.SIGINT)
    code, report, said = run.end()
    assert (code, report["interrupted"]) == (130, True), said
    assert isinstance(report["pending"], int) and 0 < report["pending"] < COUNT
    assert "the same command goes on from here" in said
    code, report, said = Run(cluster, images, tmp_path / "feats").end()
    assert (code, report["pending"]) == (0, 0), said
    require_same(tmp_path / "feats", usual)


def test_a_worker_with_another_version_is_refused_by_name(
    cluster: RayHere, images: Path, usual: Store, tmp_path: Path
) -> None:
    other = tmp_path / "site" / "pfg-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pfg\nVersion: 9.9\n")
    node = cluster.start(PYTHONPATH=f"{other.parent}:{cluster.env['PYTHONPATH']}")
    others = cluster.nodes[:-1]
    run = Run(cluster, images, tmp_path / "feats")
    run.wait_until_some_are_in()
    for one in others:  # else they may have done all before this one has loaded
        one.signal(signal.SIGSTOP, named="ray::Host")
    try:
        said = run.hear("refused: ")
    finally:
        for one in others:
            one.signal(signal.SIGCONT, named="ray::Host")
    code, report, rest = run.end()
    node.kill()
    assert "refused: has pfg 9.9, this is " in said
    assert (code, report["pending"]) == (0, 0), said + rest
    require_same(tmp_path / "feats", usual)


def test_latents_by_two_nodes_are_those_of_one_pass(
    cluster: RayHere, images: Path, usual: Store, tmp_path: Path
) -> None:
    found = []
    for name, more in (("one", []), ("two", ["--cluster", cluster.address])):
        store = tmp_path / name
        shutil.copytree(usual.path, store)
        words = ["latents", str(store), "--base", "demo", "--where", "path < '0060'", "--json", *more]
        done = subprocess.run(
            [sys.executable, "-m", "pfgdata", *words],
            env={**cluster.env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["distinct"], report["encoded"], report["pending"]) == (60, 60, 0)
        (latents,) = Store.open(store).latent_sets()
        index = latents.index()
        found.append(
            {
                content.tobytes(): latents.array_map(index.shards[shard])[row]
                for content, shard, row in zip(index.content_ids, index.shard_index, index.rows, strict=True)
            }
        )
    assert sum(one["images"] for one in report["workers"].values()) == 60
    assert found[0].keys() == found[1].keys() and len(found[0]) == 60
    for content, latent in found[0].items():
        np.testing.assert_allclose(latent, found[1][content], atol=2e-2)


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "nothing answers there"), ("localhost", "write auto, or HOST:PORT")],
)
def test_a_cluster_that_is_not_there_is_one_line(
    address: str, said: str, images: Path, tmp_path: Path
) -> None:
    words = ["ingest", str(images), "--store", str(tmp_path / "feats"), "--tagger", "demo"]
    done = subprocess.run(
        [sys.executable, "-m", "pfgdata", *words, "--cluster", address],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
