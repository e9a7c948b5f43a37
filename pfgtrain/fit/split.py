"""Which images are held out: by character, so that none the model has seen tells how well it follows.

Membership follows from the name alone, so it stays as a store grows and is the same for every run and seed.
Only images without a name, and those of a character with over a tenth of all, are split by their bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from pfgdata.records import Selection
from pfgdata.store import Snapshot

__all__ = ["held_out"]

_LARGE = 0.1  # of the images: a character with more is split by image, or half a store could be held out


def held_out(
    snapshot: Snapshot, images: Selection, *, share: float, character_threshold: float
) -> npt.NDArray[np.bool_]:
    """Which of `images` [N] are held out, about `share` of the characters; never all of them.

    An image whose best character scores below `character_threshold` has none.
    """
    mine = np.frombuffer(np.ascontiguousarray(images.content_ids[:, :8]), ">u8") / 2.0**64
    if not share or not len(images):
        return np.zeros(len(images), np.bool_)
    table = snapshot.images(["character", "character_score"]).take(pa.array(snapshot.positions(images)))
    score = table["character_score"].to_numpy().astype(np.float16)
    encoded = pc.cast(table["character"], pa.string()).combine_chunks().dictionary_encode()
    code = encoded.indices.to_numpy(zero_copy_only=False)
    named = np.flatnonzero(np.isfinite(code.astype(np.float64)) & (score >= np.float16(character_threshold)))
    codes = code[named].astype(np.int64)
    counts = np.bincount(codes, minlength=len(encoded.dictionary))
    chance = np.array([_chance(name) for name in encoded.dictionary.to_pylist()], np.float64)
    small = counts[codes] <= max(_LARGE, share) * len(images)
    mine[named[small]] = chance[codes[small]]
    held = mine < share
    return held & ~held.all()


def _chance(name: str) -> float:
    """A number in 0..1 that is a function of `name`."""
    return int.from_bytes(blake3(name.encode()).digest(length=8), "big") / 2.0**64
