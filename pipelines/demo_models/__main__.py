"""`python -m pipelines.demo_models STAGE --corpus DIR --out DIR`: train a stage, or `export NAME` its asset.

One stage a core is best: `OMP_NUM_THREADS=1 nice -n 19 python -m pipelines.demo_models vae ...`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pfgdata.interrupts import end_on_interrupt

# glibc gives freed picture-sized blocks back to the system after each layer; keeping them made a training
# step 1.4x faster (measured: 21 to 30 pictures/s a core). It reads these only when a process starts.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000"}
STAGES = ("tagger", "judge", "vae", "text")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m pipelines.demo_models", description=__doc__)
    made.add_argument("stage", choices=[*STAGES, "start", "export"], help="what to train; start; or export")
    made.add_argument("name", nargs="?", choices=[*STAGES, "base", "run"], help="what to export")
    made.add_argument("--corpus", type=Path, required=True, help="holds portraits/, chars/ and their .jsonl")
    made.add_argument("--out", type=Path, required=True, help="checkpoints, logs, caches, exports")
    made.add_argument("--recipe", type=Path, help="another recipe than pipelines/demo_models/recipe.toml")
    made.add_argument("--bpe", type=Path, help="bpe_simple_vocab_16e6.txt.gz; the text stage needs it")
    made.add_argument("--steps", type=int, help="another number of steps than the recipe's")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    return made


def main() -> int:
    """Parse, make one library call; 0 done, 1 a user can fix it, 130 interrupted."""
    end_on_interrupt()
    options = parser().parse_args()
    if not MALLOC.keys() <= os.environ.keys():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **MALLOC})
    from pipelines.demo_models import stages
    from pipelines.ending import ended

    work = {"export": stages.export, "start": stages.start}.get(options.stage, stages.train)
    return ended(lambda: work(options))


if __name__ == "__main__":
    sys.exit(main())
