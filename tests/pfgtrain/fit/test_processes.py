"""Two processes on this machine see what one with twice the batch sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pfgdata.vaes import Vae
from pfgtrain.checkpoint import RunRecord, read_metrics
from tests.pfgtrain.small_store import build_latents, build_store
from tests.pfgtrain.tiny_base import build_tiny_base

NUMBERS = list(range(30))
CONFIG = """
max_train_steps = 6
num_tokens = 2
condition_dropout = 0.3
gradient_accumulation_steps = 2
logging_steps = 4
mixed_precision = "no"
train_batch_size = """


@pytest.mark.slow
def test_two_processes_log_the_losses_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    base = build_tiny_base(tmp_path / "tiny")
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=9)
    digest = Vae.load(str(base)).digest
    build_latents(store, NUMBERS, vae_digest=digest, shard_rows=9, base_name=str(base))
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, batch_size, launcher in [("one", 8, list[str]()), ("two", 4, two)]:
        (tmp_path / f"{name}.toml").write_text(f"{CONFIG}{batch_size}\n")
        fit = [
            "-m",
            "pfgtrain",
            "fit",
            "--shards",
            str(store.path),
            "--config",
            str(tmp_path / f"{name}.toml"),
        ]
        subprocess.run(
            [sys.executable, *launcher, *fit, "--out", str(tmp_path / name)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=300,
        )
    one, both = ([line["loss"] for line in read_metrics(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 6
    assert both == pytest.approx(one, rel=1e-4)
    assert RunRecord.read(tmp_path / "two").processes == 2
