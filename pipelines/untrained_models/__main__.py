"""`python -m pipelines.untrained_models`: write demo_base/ into a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines.untrained_models import build_base


def main() -> None:
    """Build the base and say how large it is."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.untrained_models", description=__doc__)
    parser.add_argument(
        "--bpe", type=Path, required=True, metavar="FILE", help="bpe_simple_vocab_16e6.txt.gz"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="pfgdata/assets")
    arguments = parser.parse_args()
    build_base(arguments.out / "demo_base", arguments.bpe)
    files = [path for path in (arguments.out / "demo_base").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(
        f"{arguments.out / 'demo_base'}: {len(files)} files, {size / 1e6:.2f} MB, untrained", file=sys.stderr
    )


if __name__ == "__main__":
    main()
