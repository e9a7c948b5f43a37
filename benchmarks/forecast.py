"""How near does the time that `pfgtrain fit --dry-run --timed-steps N` tells come to the fit itself?

For each kind of fit the dry run and the run follow each other, as commands on the demo's images, with passive
threads, as `make demo` has them. Compared is the loop: all steps, the losses and pictures beside them. The
run has the writing of checkpoints in it, which the forecast leaves out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KINDS: dict[str, list[str]] = {
    "whole UNet, batch 32": ["--batch-size", "32", "--steps", "200"],
    "LoRA, batch 16": ["--train", "lora", "--batch-size", "16", "--steps", "200"],
    "adapter, batch 16, validated": [
        *("--train", "adapter", "--batch-size", "16", "--steps", "200", "--validation-split", "0.2"),
    ],
}


def called(arguments: list[str], folder: Path) -> Any:
    """The last JSON line that a command prints, None where it prints none."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None


def main() -> None:
    """Print a table: forecast, run, and their ratio, for each kind of fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timed-steps", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        images = ROOT / "pipelines" / "demo" / "images"
        called(["pfgdata", "ingest", str(images), "--tagger", "demo"], folder)
        called(["pfgdata", "latents", "--base", "demo"], folder)
        print("| fit | forecast, s | run, s | forecast / run |\n|---|---|---|---|")
        for name, words in KINDS.items():
            told, took = [], []
            for number in range(options.rounds):
                fit = ["pfgtrain", "fit", "--base", "demo", *words, "--json"]
                dry = [*fit, "--out", "dry", "--dry-run", "--timed-steps", str(options.timed_steps)]
                timing = called(dry, folder)["timing"]
                told.append(timing["training"] + timing["looking"])
                took.append(called([*fit, "--out", f"{name.split()[0]}-{number}"], folder)["seconds"])
            ratios = [one / other for one, other in zip(told, took, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(
                f"| {name} | {statistics.median(told):.1f} | {statistics.median(took):.1f} | {spread} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
