"""The demo models: from the rendered corpora to a tagger, a judge, a VAE and a text encoder.

Small training code for what `pfgtrain fit` does not train; the UNet and the demo run are its work. Every
stage is reproducible from its seed, goes on after a kill, and is exported in the form that travels in
pfgdata/assets.
"""

from __future__ import annotations

from pipelines.demo_models.split import SPLIT_FILE, Split, load_split

__all__ = ["SPLIT_FILE", "Split", "load_split"]
