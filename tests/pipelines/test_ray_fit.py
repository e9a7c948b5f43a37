"""A fit by two processes of a Ray cluster: one of them is killed, and the run is as if nothing had been."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pfgdata.errors import ConfigError
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, checkpoints, read_metrics
from pipelines.ray_fit.driver import processes
from pipelines.ray_fit.group import Group
from tests.pfgtrain.fit.small_fit import make_data, weights_of
from tests.pfgtrain.tiny_base import build_tiny_base

CONFIG = """
max_train_steps = 40
num_tokens = 2
condition_dropout = 0.3
logging_steps = 2
checkpointing_steps = 4
mixed_precision = "no"
lr_scheduler = "constant"
learning_rate = 1e-4
adapter_learning_rate = 1e-3
validation_split = 0.0
"""
ENVIRONMENT = {
    **os.environ,
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}
needs_ray_train = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("ray", "pandas"))), reason="ray[train] is not installed"
)


def below(process: int) -> list[tuple[int, str]]:
    """The processes that descend from `process`, and how they are called."""
    parents, names = dict[int, int](), dict[int, str]()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text()
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
    found, new = set[int](), {process}
    while new:
        found |= new
        new = {one for one, parent in parents.items() if parent in new} - found
    return [(one, names.get(one, "")) for one in sorted(found - {process})]


def wait_for(what: str, is_so: object, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < end, f"not after {seconds:.0f} s: {what}"
        time.sleep(0.05)


@pytest.mark.cluster
@needs_ray_train
def test_a_worker_is_killed_and_the_losses_are_those_of_one_process_with_twice_the_batch(
    tmp_path: Path,
) -> None:
    store = make_data(tmp_path / "feats", Base.load(str(build_tiny_base(tmp_path / "tiny")))).path
    for name, batch_size in (("one", 8), ("two", 4)):
        (tmp_path / f"{name}.toml").write_text(f"{CONFIG}train_batch_size = {batch_size}\n")
    words = ["--config", str(tmp_path / "two.toml"), "--store", str(store), "--out", str(tmp_path / "two")]
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.ray_fit", *words, "--workers", "2"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as driver:
        try:
            wait_for("a run", lambda: (tmp_path / "two" / "run.json").exists(), seconds=300)
            workers = [one for one, name in below(driver.pid) if "ray::RayTrainWorker" in name]
            assert len(workers) == 2
            wait_for("a checkpoint", lambda: list(tmp_path.glob("two/checkpoints/step-*")), seconds=100)
            os.kill(workers[1], signal.SIGKILL)
            _, said = driver.communicate(timeout=300)
        finally:
            driver.kill()
    assert driver.returncode == 0, said
    assert "goes on at step" in said, said
    plain = [sys.executable, "-m", "pfgtrain", "fit", "--config", str(tmp_path / "one.toml")]
    subprocess.run(
        [*plain, "--store", str(store), "--out", str(tmp_path / "one")],
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    one, both = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in both] == list(range(1, 41))
    for key in ("loss", "grad_norm"):
        assert [line[key] for line in both] == pytest.approx([line[key] for line in one], rel=1e-3), key
    assert RunRecord.read(tmp_path / "two").processes == 2
    ours, theirs = (weights_of(tmp_path / name) for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    assert len(checkpoints(tmp_path / "two")) == 10


def test_a_run_is_begun_once_and_gone_on_with_only_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "fit.toml").write_text(CONFIG)
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "run.json").write_text("{}")
    for folder, more, said in (
        ("none", ["--resume"], "holds no run to go on with"),
        ("held", [], "holds a run; go on with --resume"),
    ):
        words = ["--config", str(tmp_path / "fit.toml"), "--out", str(tmp_path / folder), *more]
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.ray_fit", *words],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (1, True, 1), done.stderr


@pytest.mark.parametrize(
    ("asked", "gpus", "cores", "said"),
    [
        (Group(workers=3), 2, 16, "3 processes: the cluster has 2 GPUs and 16 cores; ask fewer"),
        (Group(workers=2, cores=16), 2, 16, "2 processes of 16 cores: the cluster has 2 GPUs and 16 cores"),
        (Group(cores=9), 2, 16, "2 processes of 9 cores: the cluster has 2 GPUs"),
        (Group(workers=3), 0, 2, "3 processes: the cluster has 0 GPUs and 2 cores"),
    ],
)
def test_a_group_that_the_cluster_has_no_room_for_is_refused(
    asked: Group, gpus: int, cores: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        processes(asked, gpus=gpus, cores=cores)


def test_a_group_is_a_process_a_gpu_unless_it_says_how_many() -> None:
    for asked, gpus, cores, many in (
        (Group(), 2, 16, 2),
        (Group(), 0, 16, 1),
        (Group(workers=1, cores=16), 2, 16, 1),
        (Group(workers=2, cores=8), 2, 16, 2),
        (Group(workers=2), 0, 2, 2),
    ):
        assert processes(asked, gpus=gpus, cores=cores) == many
