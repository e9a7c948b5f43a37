"""What a likeness is asked of: an image of the store by its path or content_id, or any file, tagged first.

A file's bytes decide: one that the store has already, under whatever name, brings its stored feature.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.corpus import ReadImage, read_image
from pfgdata.errors import QueryError
from pfgdata.extractors import Extractor
from pfgdata.images import square
from pfgdata.paths import user_path
from pfgdata.records import CONTENT_ID_BYTES, Selection, shown
from pfgdata.similarity.rows import tags_over
from pfgdata.store import SetFeatures, Snapshot, Store, require_same_tagger
from pfgdata.taggers import Tagger

__all__ = ["Eye", "Subject", "find_stored", "mean_direction", "read_subjects"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Eye:
    """Whose features are compared where it is not the tagger's: a set's, and who makes one of a new file."""

    features: SetFeatures
    extractor: Callable[[], Extractor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One image that is asked about: its feature [F], and the numbers of its tags over the thresholds."""

    name: str
    content_id: bytes
    feature: npt.NDArray[np.floating]
    tags: frozenset[int]
    stored: bool  # False: it was looked at for this; by an Eye it has no tags then


def read_subjects(
    store: Store,
    snapshot: Snapshot,
    names: Sequence[str],
    *,
    least: npt.NDArray[np.float32],
    tagger: Callable[[], Tagger],
    eye: Eye | None = None,
) -> list[Subject]:
    """The subjects called `names`; `tagger` is asked for once, where one of them is not in the store.

    With `eye` features are its own, and its extractor is asked for. `least` [V] is the score from which each
    tag counts. Raises QueryError for a name that is neither file nor stored image, ImageError for a file that
    is no usable image, IdentityError for another tagger.
    """
    model: Tagger | None = None
    extractor: Extractor | None = None
    subjects: list[Subject] = []
    for name in names:
        image = read_image(user_path(name), roots={}) if user_path(name).is_file() else None
        row = find_stored(snapshot, name) if image is None else _by_content(snapshot, image.content_id)
        if row is not None:
            (tags,) = tags_over(snapshot, row, least)
            content = row.content_ids[0].tobytes()
            feature = (snapshot.features(row) if eye is None else _of_set(eye.features, row, name))[0]
            subjects.append(
                Subject(name=name, content_id=content, feature=feature, tags=frozenset(tags), stored=True)
            )
        elif image is not None and eye is not None:
            extractor = extractor or eye.extractor()
            found = extractor.features(extractor.square(image.pixels)[None])[0]
            subjects.append(
                Subject(name=name, content_id=image.content_id, feature=found, tags=frozenset(), stored=False)
            )
        elif image is not None:
            model = model or tagger()
            require_same_tagger(model.identity, store.identity.tagger, where=str(store.path / "store.json"))
            subjects.append(_tagged(name, image, model, least))
        else:
            raise QueryError(
                f"{name}: no such file here, and no image of {store.path} has that path or content_id"
            )
    return subjects


def find_stored(snapshot: Snapshot, text: str) -> Selection | None:
    """The row of the image called `text`: its content_id, or its path (ARCHIVE!MEMBER) with or without root.

    None where there is none; of several rows of one content the first. Raises QueryError where the path is of
    different images.
    """
    try:
        return _by_content(snapshot, uuid.UUID(text).bytes)
    except ValueError:
        pass
    text = shown(os.fsencode(text))  # as the store has a name that is no text
    table = snapshot.images(["content_id", "root", "path", "member"])
    # joined and compared whole: any ! of the text may as well be one of a name
    names = pc.binary_join_element_wise(table["path"], table["member"], "!", null_handling="skip")
    below = pc.binary_join_element_wise(pc.cast(table["root"], pa.string()), names, "/")
    found = table.filter(pc.or_(pc.equal(names, text), pc.equal(below, text)))
    if not found.num_rows:
        return None
    rows = snapshot.selection(found["shard"], found["row"], found["content_id"])
    if len(rows.distinct()) > 1:
        where = sorted(set(pc.cast(found["root"], pa.string()).to_pylist()))
        if len(where) == 1:
            raise QueryError(f"{text}: names different images below {where[0]}; take the content_id of one")
        raise QueryError(
            f"{text}: lies under {' and '.join(where)}; put the root before it, or take its content_id"
        )
    return rows.take(np.array([0]))


def _of_set(features: SetFeatures, row: Selection, name: str) -> npt.NDArray[np.float16]:
    """The vector of a stored image. Raises StoreError where it has none."""
    _, places = features.found(row)
    if not len(places):
        raise QueryError(f"{name}: its vector of {features.set.label} could not be made; take another image")
    return features.features(places)


def mean_direction(groups: Sequence[Sequence[npt.NDArray[np.floating]]]) -> npt.NDArray[np.float64]:
    """The mean direction of each group of features [F], [groups, F]: no long one outweighs the others."""
    wide = [np.stack(group).astype(np.float64) for group in groups]
    return np.stack([(one / np.linalg.norm(one, axis=1, keepdims=True)).mean(axis=0) for one in wide])


def _by_content(snapshot: Snapshot, content: bytes) -> Selection | None:
    rows = snapshot.everything
    wanted = np.frombuffer(content, np.uint8, CONTENT_ID_BYTES)
    found = np.flatnonzero((rows.content_ids == wanted).all(axis=1))
    return rows.take(found[:1]) if len(found) else None


def _tagged(name: str, image: ReadImage, tagger: Tagger, least: npt.NDArray[np.float32]) -> Subject:
    tile = square(image.pixels, preprocess=tagger.identity.preprocess, size=tagger.image_size)
    scores, features = tagger.predict(tile[None])
    tags = frozenset(np.flatnonzero(scores[0] >= least).tolist())
    return Subject(name=name, content_id=image.content_id, feature=features[0], tags=tags, stored=False)
