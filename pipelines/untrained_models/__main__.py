"""`python -m pipelines.untrained_models`: write demo_tagger/ and demo_base/ into a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines.untrained_models import build_base, build_tagger


def main() -> None:
    """Build both models and say how large they are."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.untrained_models", description=__doc__)
    parser.add_argument(
        "--bpe", type=Path, required=True, metavar="FILE", help="bpe_simple_vocab_16e6.txt.gz"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="pfgdata/assets")
    arguments = parser.parse_args()
    build_tagger(arguments.out / "demo_tagger")
    build_base(arguments.out / "demo_base", arguments.bpe)
    for name in ("demo_tagger", "demo_base"):
        files = [path for path in (arguments.out / name).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"{arguments.out / name}: {len(files)} files, {size / 1e6:.2f} MB, untrained", file=sys.stderr)


if __name__ == "__main__":
    main()
