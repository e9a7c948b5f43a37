"""`python -m pipelines.demo_corpus NAME ... --out DIR`: draw corpora and say whether each is the original.

`gallery` needs no --out: it is drawn to where `pfgtrain evaluate --gallery large` looks for it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pfgtrain.evaluate import large_gallery
from pipelines.demo_corpus import digest, draw, load_corpora, write_guides
from pipelines.ending import ended

__all__ = ["main"]

GALLERY = "gallery"


def main() -> int:
    """Parse, draw, print a line a corpus; the exit code."""
    corpora = load_corpora()
    parser = argparse.ArgumentParser(prog="python -m pipelines.demo_corpus", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(corpora), metavar="NAME", help=", ".join(corpora))
    parser.add_argument("--out", type=Path, metavar="DIR", help="what --corpus is elsewhere")
    options = parser.parse_args()
    if options.out is None and options.names != [GALLERY]:
        parser.error("name --out DIR; only gallery has a place of its own")
    return ended(lambda: _draw(options.names, options.out or large_gallery().parent))


def _draw(names: list[str], out: Path) -> None:
    corpora = load_corpora()
    for name in names:
        folder = draw(name, corpora[name], out=out)
        if name == GALLERY:
            write_guides(folder)
        same = digest(folder) == corpora[name].blake3
        verdict = "byte for byte the original" if same else "not byte for byte the original"
        print(f"{folder}: {corpora[name].pictures:,} pictures, {verdict}")
