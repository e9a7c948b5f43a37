"""`python -m pipelines.demo_corpus NAME ... --out DIR`: draw corpora and say whether each is the original.

`gallery` needs no --out: it is drawn to where `pfgtrain evaluate --gallery large` looks for it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pfgdata.errors import PfgError
from pfgtrain.evaluate import large_gallery
from pipelines.demo_corpus import digest, draw, load_corpora, write_guides

GALLERY = "gallery"


def main() -> int:
    """Parse, draw, print a line a corpus; 0 done, 1 a user can fix it, 130 interrupted."""
    corpora = load_corpora()
    parser = argparse.ArgumentParser(prog="python -m pipelines.demo_corpus", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(corpora), metavar="NAME", help=", ".join(corpora))
    parser.add_argument("--out", type=Path, metavar="DIR", help="what --corpus is elsewhere")
    options = parser.parse_args()
    if options.out is None and options.names != [GALLERY]:
        parser.error("name --out DIR; only gallery has a place of its own")
    out = options.out or large_gallery().parent
    try:
        for name in options.names:
            corpus = corpora[name]
            folder = draw(name, corpus, out=out)
            if name == GALLERY:
                write_guides(folder)
            same = digest(folder) == corpus.blake3
            verdict = "byte for byte the original" if same else "not byte for byte the original"
            print(f"{folder}: {corpus.pictures:,} pictures, {verdict}")
    except PfgError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
