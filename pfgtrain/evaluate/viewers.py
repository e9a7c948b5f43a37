"""Who looks at pictures: a tagger by its own squares, and what it saw of a set of them.

Shapes: M pictures, F feature width, T tags of a viewer that belong to a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pfgdata.images import square
from pfgdata.taggers import Tagger
from pfgtrain.evaluate.attributes import group_of
from pfgtrain.evaluate.measures import Ints

__all__ = ["JUDGE", "TAGGER", "Embeddings", "Pixels", "Pool", "Viewer", "joined", "look"]

TAGGER, JUDGE = "tagger", "judge"  # the roles: the run's own, and one that had no part in it

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """The run's tagger, or the judge."""

    role: str
    tagger: Tagger
    threshold: float

    @cached_property
    def tag_ids(self) -> Ints:
        """Score columns of the general tags that belong to a group, [T]."""
        vocabulary = self.tagger.vocabulary
        return np.array([i for i in vocabulary.general_ids if group_of(vocabulary.names[i])], np.int64)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The names of those tags, T of them."""
        return tuple(self.tagger.vocabulary.names[index] for index in self.tag_ids)

    def see(self, images: Sequence[Pixels]) -> Embeddings:
        """What it sees in one batch of images."""
        side, preprocess = self.tagger.image_size, self.tagger.identity.preprocess
        squares = np.stack([square(image, preprocess=preprocess, size=side) for image in images])
        scores, features = self.tagger.predict(squares)
        return Embeddings(
            features_MF=features.astype(np.float32), present_MT=scores[:, self.tag_ids] >= self.threshold
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """What one viewer saw in M pictures: features float32 [M, F], and which of its tags are there [M, T]."""

    features_MF: npt.NDArray[np.float32]
    present_MT: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Pictures as one viewer saw them, and which guide each was made for [M]; -1: for none."""

    embeddings: Embeddings
    owners_M: Ints

    def of(self, guide: int) -> Ints:
        """The pictures that were made for a guide."""
        return np.flatnonzero(self.owners_M == guide)

    def take(self, index: Ints) -> Pool:
        """The pictures at `index`, in that order."""
        embeddings = Embeddings(
            features_MF=self.embeddings.features_MF[index], present_MT=self.embeddings.present_MT[index]
        )
        return Pool(embeddings=embeddings, owners_M=self.owners_M[index])


def look(
    viewers: Sequence[Viewer], images: Iterable[Pixels], *, owners: Sequence[int], batch_size: int
) -> dict[str, Pool]:
    """What each viewer sees in the images, by its role; no more than a batch of them is held.

    `owners` are read last, so they may be added as the images come. Without images there is no pool: {}.
    """
    seen: dict[str, list[Embeddings]] = {viewer.role: [] for viewer in viewers}
    for batch in _batches(images, batch_size):
        for viewer in viewers:
            seen[viewer.role].append(viewer.see(batch))
    return {
        role: Pool(
            embeddings=Embeddings(
                features_MF=np.concatenate([part.features_MF for part in parts]),
                present_MT=np.concatenate([part.present_MT for part in parts]),
            ),
            owners_M=np.array(owners, np.int64),
        )
        for role, parts in seen.items()
        if parts
    }


def joined(pools: Sequence[Pool]) -> Pool:
    """Pools of one viewer, one after the other."""
    first = pools[0]
    embeddings = type(first.embeddings)(
        features_MF=np.concatenate([pool.embeddings.features_MF for pool in pools]),
        present_MT=np.concatenate([pool.embeddings.present_MT for pool in pools]),
    )
    return Pool(embeddings=embeddings, owners_M=np.concatenate([pool.owners_M for pool in pools]))


def _batches(images: Iterable[Pixels], size: int) -> Iterator[list[Pixels]]:
    batch: list[Pixels] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
