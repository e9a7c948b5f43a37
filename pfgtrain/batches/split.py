"""Which images are held out: by character, so that none the model has seen tells how well it follows.

Membership follows from the name alone, so it stays as a store grows and is the same for every run and seed.
Only images without a name, and those of a character with over a tenth of all, are split by their bytes.

Shapes: N images, M of them with a character, C characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from pfgdata.records import Selection
from pfgdata.store import Snapshot

__all__ = ["held_out", "trained_part"]

_LARGE = 0.1  # of the images: a character with more is split by image, or half a store could be held out


def held_out(
    snapshot: Snapshot, images: Selection, *, share: float, character_threshold: float
) -> npt.NDArray[np.bool_]:
    """Which of `images` [N] are held out, about `share` of the characters; never all of them.

    An image whose best character scores below `character_threshold` has none.
    """
    if not share or not len(images):
        return np.zeros(len(images), np.bool_)
    lots = _Lots.of(snapshot, images, character_threshold=character_threshold)
    held_N = lots.drawn(max(_LARGE, share) * len(images)) < share
    return held_N & ~held_N.all()


def trained_part(
    snapshot: Snapshot, images: Selection, *, count: int, digest: str, character_threshold: float
) -> Selection | None:
    """What a fit trained on that held out `count` of `images`, known by its `digest`; None: it was of others.

    The share that it was told is not needed: whatever it is, those of the smallest lots are held out.
    """
    if not 0 < count < len(images):
        return images if images.digest == digest else None
    lots = _Lots.of(snapshot, images, character_threshold=character_threshold)
    for most in lots.bounds():
        lot_N = lots.drawn(most)
        held_N = lot_N <= np.partition(lot_N, count - 1)[count - 1]
        if held_N.sum() == count:
            trained = images.take(np.flatnonzero(~held_N))
            if trained.digest == digest:
                return trained
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lots:
    """Numbers in 0..1 that images draw: each its own, and one for all of a character."""

    own_N: npt.NDArray[np.float64]
    named_M: npt.NDArray[np.int64]  # those with a character, into N
    code_M: npt.NDArray[np.int64]  # which, into C
    count_C: npt.NDArray[np.int64]  # how many images it has
    chance_C: npt.NDArray[np.float64]

    @classmethod
    def of(cls, snapshot: Snapshot, images: Selection, *, character_threshold: float) -> Self:
        """Those of `images`."""
        table = snapshot.images(["character", "character_score"]).take(pa.array(snapshot.positions(images)))
        score = table["character_score"].to_numpy().astype(np.float16)
        encoded = pc.cast(table["character"], pa.string()).combine_chunks().dictionary_encode()
        code = encoded.indices.to_numpy(zero_copy_only=False)
        sure = np.isfinite(code.astype(np.float64)) & (score >= np.float16(character_threshold))
        named_M = np.flatnonzero(sure)
        code_M = code[named_M].astype(np.int64)
        return cls(
            own_N=np.frombuffer(np.ascontiguousarray(images.content_ids[:, :8]), ">u8") / 2.0**64,
            named_M=named_M,
            code_M=code_M,
            count_C=np.bincount(code_M, minlength=len(encoded.dictionary)),
            chance_C=np.array([_chance(name) for name in encoded.dictionary.to_pylist()], np.float64),
        )

    def drawn(self, most: float) -> npt.NDArray[np.float64]:
        """The lot of each image [N]: its character's, its own where it has none or one of over `most`."""
        lot_N = self.own_N.copy()
        small_M = self.count_C[self.code_M] <= most
        lot_N[self.named_M[small_M]] = self.chance_C[self.code_M[small_M]]
        return lot_N

    def bounds(self) -> Iterator[float]:
        """Every `most` that draws other lots for some share, least first: at most ten."""
        least = _LARGE * len(self.own_N)
        yield least
        yield from np.unique(self.count_C[self.count_C > least]).tolist()


def _chance(name: str) -> float:
    """A number in 0..1 that is a function of `name`."""
    return int.from_bytes(blake3(name.encode()).digest(length=8), "big") / 2.0**64
