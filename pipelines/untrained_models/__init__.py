"""Builds the two models that travel inside pfgdata from fixed seeds: a WD14-shaped tagger, an SD-shaped base.

    python -m pipelines.untrained_models --bpe bpe_simple_vocab_16e6.txt.gz --out pfgdata/assets

Nothing is trained. Only scales are measured, on the PNGs of the demo corpus, so that scores and latents have
the spread of real ones. Every build gives the same bytes: weights are uniform draws of PCG64, the measuring
runs in float64, and what is written is rounded to float16. `--bpe` is CLIP's list of merges, which
open_clip_torch ships.
"""

from __future__ import annotations

from pipelines.untrained_models.base import build_base
from pipelines.untrained_models.tagger import build_tagger

__all__ = ["build_base", "build_tagger"]
