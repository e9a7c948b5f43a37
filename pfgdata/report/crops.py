"""What the buckets of a resolution would cut away and enlarge, told from sizes alone: no picture is read.

It is the arithmetic of `images.crop_to_bucket` over arrays: resized to cover the bucket, the centre kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pfgdata.images import BucketPolicy, bucket_sizes, nearest_buckets
from pfgdata.report.figures import Counted, Histogram, PolicyFigures

__all__ = ["policy_figures"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK = 32_768  # sizes at a time: their arrays stay in a core's cache
_SHOWN = 12  # buckets
_MUCH = 0.1
_CROP_EDGES = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0]


def policy_figures(widths: Ints, heights: Ints, counts: Ints, policy: BucketPolicy) -> PolicyFigures:
    """The figures of images of those sizes, of each `counts` many; there must be one at least."""
    buckets = np.array(bucket_sizes(policy), np.int64)
    crop, scale, nearest = np.empty(len(widths)), np.empty(len(widths)), np.empty(len(widths), np.int64)
    for first in range(0, len(widths), _BLOCK):
        part = slice(first, first + _BLOCK)
        nearest[part] = nearest_buckets(widths[part], heights[part], bucket_sizes(policy))
        crop[part], scale[part] = _cover(widths[part], heights[part], buckets[nearest[part]])
    total = counts.sum()
    per_bucket = np.bincount(nearest, counts, len(buckets)).astype(np.int64)
    enlarged = scale > 1
    binned, _ = np.histogram(crop, _CROP_EDGES, weights=counts)
    order = np.argsort(-per_bucket, kind="stable")[:_SHOWN]
    return PolicyFigures(
        resolution=policy.resolution,
        step=policy.step,
        buckets=len(buckets),
        used=int((per_bucket > 0).sum()),
        cropped=float((crop * counts).sum() / total),
        cropped_much=float(counts[crop > _MUCH].sum() / total),
        upscaled=float(counts[enlarged].sum() / total),
        upscale=_median(scale[enlarged], counts[enlarged]),
        crop=Histogram(edges=_CROP_EDGES, counts=binned.astype(np.int64).tolist()),
        largest=[
            Counted(name="{}x{}".format(*buckets[one].tolist()), count=int(per_bucket[one]))
            for one in order
            if per_bucket[one]
        ],
    )


def _cover(widths: Ints, heights: Ints, buckets: Ints) -> tuple[Floats, Floats]:
    """Of each image the part of its area that is cut away, and by what it is resized."""
    scale = np.maximum(buckets[:, 0] / widths, buckets[:, 1] / heights)
    resized = np.maximum(buckets[:, 0], np.rint(widths * scale)) * np.maximum(
        buckets[:, 1], np.rint(heights * scale)
    )
    return 1 - buckets[:, 0] * buckets[:, 1] / resized, scale


def _median(values: Floats, counts: Ints) -> float | None:
    """The median of `values`, of each `counts` many."""
    if not len(values):
        return None
    order = np.argsort(values)
    behind = np.cumsum(counts[order])
    return float(values[order[np.searchsorted(behind, behind[-1] / 2)]])
