"""Builds the demo base that travels inside pfgdata from fixed seeds, until a trained one takes its place.

    python -m pipelines.untrained_models --bpe bpe_simple_vocab_16e6.txt.gz --out pfgdata/assets

Nothing is trained. Only scales are measured, on the PNGs of the demo corpus, so that latents have the
spread of real ones. Every build gives the same bytes: weights are uniform draws of PCG64, the measuring
runs in float64, and what is written is rounded to float16. `--bpe` is CLIP's list of merges, which
open_clip_torch ships.
"""

from __future__ import annotations

from pipelines.untrained_models.base import build_base

__all__ = ["build_base"]
