"""How the corpora of the demo and its models are drawn: DiceBear styles, composed by scripts for Node.js.

`draw.mjs` beside this file draws; Python only runs it, makes the scenes small, and proves the result.
"""

from __future__ import annotations

from pipelines.demo_corpus.corpora import CORPORA_FILE, Corpus, load_corpora
from pipelines.demo_corpus.drawing import digest, draw, shrink, write_guides

__all__ = ["CORPORA_FILE", "Corpus", "digest", "draw", "load_corpora", "shrink", "write_guides"]
