"""From what a viewer saw to its figures: cosines, F1 of attributes, retrieval, diversity, row by row.

Shapes: M pictures of a pool, K guides, N guides and further characters to search among, G gallery entries,
T tags, F feature width, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pfgtrain.evaluate.attributes import FACE, GROUPS, HAIR_COLOUR, PARTS, group_of, part_of
from pfgtrain.evaluate.distribution import PictureSet, kernel_distance
from pfgtrain.evaluate.guides import Guide
from pfgtrain.evaluate.measures import (
    Floats,
    Ints,
    cosines,
    pair_distance,
    quotient,
    ranks,
    ratio,
    resamples,
)
from pfgtrain.evaluate.options import EvaluateOptions
from pfgtrain.evaluate.report import IN_STYLE, Diversity, Figure, Retrieval, RowReport, ViewerReport
from pfgtrain.evaluate.rows import Row, Seen, rows_of
from pfgtrain.evaluate.viewers import Pool, Viewer
from pfgtrain.generate import without_folders

__all__ = ["Gallery", "measure"]

_SETS = ("pfg", "copier", "ceiling")  # rows with pictures of their own for each guide


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Images to find a guide among; `parts` are the entries of each search: all, or those of a style."""

    pool: Pool
    parts: Sequence[Ints]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Truth:
    """What guides have: the tags [K, T] of those that count, and of which group each is."""

    present_KT: npt.NDArray[np.bool_]
    groups: dict[str, Ints]  # group -> tags, of those that a guide has
    face: dict[str, Ints]  # the same of groups and parts that a face is told by


def measure(
    viewer: Viewer,
    seen: Seen,
    guides: Sequence[Guide],
    *,
    gallery: Sequence[Guide] = (),
    options: EvaluateOptions,
) -> ViewerReport:
    """All figures of one viewer; the characters of `gallery` are only searched among."""
    count, everyone = len(guides), [*guides, *gallery]
    present_NT = _present(viewer, seen, everyone)
    truth = _truth(viewer, present_NT[:count])
    styles_N = _labels([guide.style for guide in everyone])
    hair_NT = present_NT[:, [group_of(tag) == HAIR_COLOUR for tag in viewer.tags]]
    rows = rows_of(
        seen,
        count,
        styles_N=styles_N,
        hair_N=_labels([row.tobytes() for row in hair_NT]),
        seed=options.seed,
    )
    raw = seen.raw.take(np.arange(count))
    mean_F = raw.embeddings.features_MF.mean(axis=0, dtype=np.float64)
    cosine_K = {name: _cosine(row, raw, mean_F) for name, row in rows.items()}
    galleries = _galleries(seen, styles_N, count)
    drawn_RK = resamples(count, count=options.resamples, seed=options.seed)
    low_K, high_K = cosine_K["shuffled"], cosine_K["ceiling"]
    return ViewerReport(
        name=without_folders(viewer.tagger.identity.name),
        weights_sha256=viewer.tagger.identity.weights_sha256,
        recipe=viewer.tagger.identity.preprocess,
        tags={name: len(columns) for name, columns in truth.groups.items()},
        chance={name: _chance(one, count) for name, one in galleries.items()},
        rows={
            name: RowReport(
                cosine=_mean(cosine_K[name], drawn_RK),
                scaled=ratio(cosine_K[name] - low_K, high_K - low_K, drawn_RK),
                attributes=_attributes(row, truth, drawn_RK),
                retrieval={kind: _retrieval(row, one, count, drawn_RK) for kind, one in galleries.items()},
                cosines=[float(value) if np.isfinite(value) else None for value in cosine_K[name]],
                face=_face(row, rows["ceiling"], truth, drawn_RK),
                kid=_kid(row.pool, seen, drawn_RK) if name in _SETS else None,
            )
            for name, row in rows.items()
        },
        diversity=Diversity(
            results=_distance(seen.results, count, mean_F, drawn_RK),
            views=_distance(seen.views, count, mean_F, drawn_RK),
        ),
        kid_real=_kid(seen.raw, seen, drawn_RK),
    )


def _present(viewer: Viewer, seen: Seen, everyone: Sequence[Guide]) -> npt.NDArray[np.bool_]:
    """Each character's true tags [N, T], of one without them what the viewer sees in it."""
    present_NT = seen.raw.embeddings.present_MT.copy()
    for n, guide in enumerate(everyone):
        if guide.tags is not None:
            present_NT[n] = [tag in guide.tags for tag in viewer.tags]
    return present_NT


def _truth(viewer: Viewer, present_KT: npt.NDArray[np.bool_]) -> _Truth:
    """The guides' tags. One that no guide has does not count: who wrote the true tags may not know it."""

    def of_guides(belongs: Callable[[str], str | None]) -> dict[str, Ints]:
        named = [belongs(tag) if present_KT[:, t].any() else None for t, tag in enumerate(viewer.tags)]
        return {
            name: np.array([t for t, found in enumerate(named) if found == name], np.int64)
            for name in dict.fromkeys([*GROUPS, *PARTS])
            if name in named
        }

    groups = of_guides(group_of)
    both = {**groups, **of_guides(part_of)}
    return _Truth(
        present_KT=present_KT, groups=groups, face={name: both[name] for name in FACE if name in both}
    )


def _labels(values: Sequence[object]) -> Ints:
    """A number for each value, equal for equal ones; -1 for None."""
    known = {value: number for number, value in enumerate(dict.fromkeys(v for v in values if v is not None))}
    return np.array([-1 if value is None else known[value] for value in values], np.int64)


def _cosine(row: Row, raw: Pool, mean_F: Floats) -> Floats:
    """Each guide's mean cosine to the pictures that stand for it [K]; nan where there is none."""
    all_MK = cosines(row.pool.embeddings.features_MF, raw.embeddings.features_MF, mean_F=mean_F)
    return _averaged(row, all_MK)


def _averaged(row: Row, values_MK: Floats) -> Floats:
    return np.array(
        [values_MK[mine, k].mean() if len(mine) else np.nan for k, mine in enumerate(row.members)]
    )


def _attributes(row: Row, truth: _Truth, drawn_RK: Ints) -> dict[str, Figure | None]:
    """F1 over (guide, tag) pairs by group; of several pictures of a guide each counts its share."""
    return {name: ratio(*_counts(row, truth, columns), drawn_RK) for name, columns in truth.groups.items()}


def _face(row: Row, ceiling: Row, truth: _Truth, drawn_RK: Ints) -> dict[str, Figure | None]:
    """What is told of a face, over what the viewer still sees of it in the guides through the VAE."""
    return {
        name: quotient(_counts(row, truth, columns), _counts(ceiling, truth, columns), drawn_RK)
        for name, columns in truth.face.items()
    }


def _counts(row: Row, truth: _Truth, columns: Ints) -> tuple[Floats, Floats]:
    """Twice the hits, and tags seen plus true tags, of each guide [K]: F1 is the one sum over the other."""
    true_KT = truth.present_KT[:, columns].astype(np.float64)
    seen_MT = row.pool.embeddings.present_MT[:, columns].astype(np.float64)
    hits_K = _averaged(row, seen_MT @ true_KT.T)
    return 2 * hits_K, _averaged(row, seen_MT.sum(axis=1)[:, None] + true_KT.sum(axis=1)[None])


def _kid(pool: Pool, seen: Seen, drawn_RK: Ints) -> Figure | None:
    """To the other views as they are, so that what a VAE takes away counts too."""
    if seen.plain is None:
        return None
    sets = [
        PictureSet(features_MF=one.embeddings.features_MF, owners_M=one.owners_M)
        for one in (pool, seen.plain)
    ]
    return kernel_distance(*sets, resamples_RK=drawn_RK)


def _galleries(seen: Seen, styles_N: Ints, count: int) -> dict[str, Gallery]:
    """Those in which at least one search has two entries, and a guide among them."""
    galleries = {}
    for name, pool in (("guide", seen.ceiling), ("view", seen.others)):
        style_G = styles_N[pool.owners_M]
        parts = {
            name: [np.arange(len(pool.owners_M))],
            name + IN_STYLE: [np.flatnonzero(style_G == one) for one in np.unique(style_G[style_G >= 0])],
        }
        for kind, searches in parts.items():
            asked = [part for part in searches if np.any(pool.owners_M[part] < count)]
            if large := [part for part in asked if len(part) > 1]:
                galleries[kind] = Gallery(pool=pool, parts=large)
    return galleries


def _chance(gallery: Gallery, count: int) -> tuple[float, float]:
    """Top-1 and top-5 of blind guessing, over the guides that are looked for."""
    owners_M = gallery.pool.owners_M
    sizes = np.array([len(part) for part in gallery.parts for own in part if owners_M[own] < count])
    return float(np.mean(1 / sizes)), float(np.mean(np.minimum(5, sizes) / sizes))


def _retrieval(row: Row, gallery: Gallery, count: int, drawn_RK: Ints) -> Retrieval:
    top_K = {1: np.full(count, np.nan), 5: np.full(count, np.nan)}
    found: list[list[int] | None] = [None] * count
    for part in gallery.parts:
        owners = gallery.pool.owners_M[part]
        if row.groups_N is not None:
            known = row.groups_N[owners]
            for k in owners[(known >= 0) & (owners < count)]:
                size = int(np.sum(known == row.groups_N[k]))
                for first, values_K in top_K.items():
                    values_K[k] = min(first, size) / size
            continue
        assert row.lookups is not None
        features_GF = gallery.pool.embeddings.features_MF[part]
        near_MG = cosines(
            row.pool.embeddings.features_MF, features_GF, mean_F=features_GF.mean(axis=0, dtype=np.float64)
        )
        for own, k in enumerate(owners):
            if k < count and len(mine := row.lookups[k]):
                rank = ranks(near_MG[mine], own=own)
                found[k] = rank.tolist()
                for first, values_K in top_K.items():
                    values_K[k] = np.mean(rank <= first)
    return Retrieval(top1=_mean(top_K[1], drawn_RK), top5=_mean(top_K[5], drawn_RK), ranks=found)


def _distance(pool: Pool, count: int, mean_F: Floats, drawn_RK: Ints) -> Figure | None:
    features = pool.embeddings.features_MF
    return _mean(
        np.array([pair_distance(features[pool.of(k)], mean_F=mean_F) for k in range(count)]), drawn_RK
    )


def _mean(values_K: Floats, drawn_RK: Ints) -> Figure | None:
    return ratio(values_K, np.where(np.isfinite(values_K), 1.0, np.nan), drawn_RK)
