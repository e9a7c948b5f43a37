"""What both builders share: seeded values, the pictures scales are measured on, the files beside the weights.

Seeded values are uniform, not normal: a uniform draw needs no libm, so it has the same bits on every machine.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DEMO = Path(__file__).parents[1] / "demo"
CARD = """# Untrained: {what}

The weights are random numbers, built from fixed seeds. Nothing here has been trained: only scales were
measured, so that scores and latents have the spread of real ones. It is for demos and tests of everything
around a model; what it says about a picture means nothing.

Rebuild, to the same bytes, from the root of the repository:

    pip download --no-deps open_clip_torch
    unzip -j open_clip_torch-*.whl open_clip/bpe_simple_vocab_16e6.txt.gz
    python -m pipelines.untrained_models --bpe bpe_simple_vocab_16e6.txt.gz --out pfgdata/assets
"""


def uniform(name: str, shape: tuple[int, ...], *, std: float) -> Array:
    """Uniform float64 values of deviation `std` that depend on `name` and `shape` only."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return (rng.random(shape) - 0.5) * (std * 12**0.5)


def half(values: Array) -> Array:
    """The nearest float16 values, as float64: what the written file will compute with."""
    return values.astype(np.float16).astype(np.float64)


def demo_pixels(size: int, *, every: int = 1) -> Array:
    """Every nth PNG of the demo corpus, uint8 RGB [B, size, size, 3]; lossless, so equal everywhere."""
    from PIL import Image

    pixels = []
    for path in sorted((DEMO / "images").rglob("*.png"))[::every]:
        image = Image.open(path).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        pixels.append(np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)))
    return np.stack(pixels)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as a person reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_card(folder: Path, what: str) -> None:
    """Write the model card, and the marker file by which pfgdata knows that nothing here was trained."""
    (folder / "README.md").write_text(CARD.format(what=what))
    (folder / "UNTRAINED").write_text("Random weights from fixed seeds; see README.md.\n")
