"""Two processes on this machine see what one with twice the batch sees, and stop together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, checkpoints, read_metrics
from tests.pfgtrain.fit.small_fit import make_data, weights_of
from tests.pfgtrain.tiny_base import build_tiny_base
from tests.pfgtrain.tiny_sdxl import build_tiny_sdxl

CONFIG = """
max_train_steps = 6
num_tokens = 2
condition_dropout = 0.3
gradient_accumulation_steps = 2
logging_steps = 4
mixed_precision = "no"
lr_scheduler = "cosine"
learning_rate = 1e-4
adapter_learning_rate = 1e-3
lora_learning_rate = 1e-3
use_ema = true
ema_decay = 0.5
"""
MODES = {
    "unet": "validation_split = 0.3\n",
    "lora with captions": 'train = "lora"\nr = 2\ncaption = "tags"\nshuffle_caption = true\n',
    "adapter": 'train = "adapter"\nadapter_kind = "mlp"\nstandardize_features = true\n',
}
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@dataclass(frozen=True)
class Place:
    """A base and a store to train on."""

    folder: Path
    store: Path

    def fit(self, name: str, text: str, *, launcher: list[str]) -> subprocess.CompletedProcess[str]:
        config = self.folder / f"{name}.toml"
        config.write_text(text)
        words = ["--shards", str(self.store), "--config", str(config), "--out", str(self.folder / name)]
        return subprocess.run(
            [sys.executable, *launcher, "-m", "pfgtrain", "fit", *words],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path, build_tiny_base(tmp_path / "tiny"))


def make_place(folder: Path, base: Path) -> Place:
    data = make_data(folder / "feats", Base.load(str(base)))
    return Place(folder, data.path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_two_processes_log_the_losses_of_one_with_twice_the_batch(mode: str, place: Place) -> None:
    _same_losses(MODES[mode], place)


@pytest.mark.slow
def test_two_processes_train_sdxl_as_one_does(tmp_path: Path) -> None:
    place = make_place(tmp_path, build_tiny_sdxl(tmp_path / "tiny"))
    _same_losses('caption = "tags"\nempty_prompt = "zeros"\n', place)


def _same_losses(mode: str, place: Place) -> None:
    for name, batch_size, how in [("one", 8, list[str]()), ("two", 4, TWO)]:
        done = place.fit(name, f"{CONFIG}{mode}train_batch_size = {batch_size}\n", launcher=how)
        assert done.returncode == 0, done.stderr
    one, both = (read_metrics(place.folder / name) for name in ("one", "two"))
    assert [line["step"] for line in both] == [1, 2, 3, 4, 5, 6]
    for key in one[0].keys() - {"images_per_second", "seconds"}:  # losses, norms, learning rates
        assert [line[key] for line in both] == pytest.approx([line[key] for line in one], rel=1e-3), key
    assert RunRecord.read(place.folder / "two").processes == 2
    ours, theirs = (weights_of(place.folder / name) for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():  # AdamW may turn a gradient of rounding errors into a step
        assert float((ours[name] - weight).abs().max()) < 0.2 * float(weight.abs().max()) + 1e-3, name


@pytest.mark.slow
def test_two_processes_resume_to_the_bit(place: Place) -> None:
    text = f"{CONFIG}train_batch_size = 4\nvalidation_split = 0.0\n".replace("cosine", "constant")
    assert place.fit("whole", text, launcher=TWO).returncode == 0
    for steps in (3, 6):
        part = text.replace("max_train_steps = 6", f"max_train_steps = {steps}")
        more = [] if steps == 3 else ["--resume"]
        config = place.folder / "cut.toml"
        config.write_text(part)
        words = ["--shards", str(place.store), "--config", str(config), "--out", str(place.folder / "cut")]
        done = subprocess.run(
            [sys.executable, *TWO, "-m", "pfgtrain", "fit", *words, *more],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    ours, theirs = (weights_of(place.folder / name) for name in ("cut", "whole"))
    assert all((ours[name] == weight).all() for name, weight in theirs.items())


ELSEWHERE = """
import os, sys
from pfgdata.screen import run_app
from pfgtrain.cli import app

rank, store, mine, *words = sys.argv[1:]
if os.environ["RANK"] == rank:
    store = mine
run_app(app, args=[*words, "--shards", store], name="pfgtrain")
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_when_one_process_fails_all_stop_with_its_message(rank: str, place: Place) -> None:
    """One process sees a copy of the store, as on a machine of its own, that has lost its latents."""
    script, config, broken = (place.folder / name for name in ("elsewhere.py", "x.toml", "broken"))
    script.write_text(ELSEWHERE)
    config.write_text(f"{CONFIG}train_batch_size = 4\nvalidation_split = 0.0\n")
    shutil.copytree(place.store, broken)
    for file in broken.rglob("latents.h5"):
        file.unlink()
    words = ["fit", "--config", str(config), "--out", str(place.folder / "x")]
    done = subprocess.run(
        [sys.executable, *TWO, str(script), rank, str(place.store), str(broken), *words],
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "latents.h5" in done.stderr
    assert "error: " in done.stderr


@pytest.mark.slow
def test_a_damaged_shard_ends_both_processes(place: Place) -> None:
    path = max(place.store.glob("latents/*/shards/*/latents.h5"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = place.fit("two", f"{CONFIG}train_batch_size = 4\n", launcher=TWO)
    assert done.returncode != 0
    assert done.stderr.count(f"{path.name}: its bytes are not those that were written") == 1, done.stderr
    assert checkpoints(place.folder / "two") == []
