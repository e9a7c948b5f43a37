"""Selection to latent set: what to make, what would be made, and what was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.derive import (
    Derivation,
    DerivePlan,
    DeriveReport,
    plan_missing,
    require_work,
)
from pfgdata.images import BucketPolicy, bucket_sizes, nearest_buckets
from pfgdata.latents.encoder import VaeEncoder, latent_identity
from pfgdata.latents.job import LatentOptions
from pfgdata.records import NoProgress, Progress, Selection
from pfgdata.store import LatentInfo, LatentSet, Snapshot, Store
from pfgdata.vaes import Vae

__all__ = ["LatentReport", "encode_latents", "plan_latents", "probe_image"]


@dataclass(slots=True, kw_only=True)
class LatentReport(DeriveReport):
    """What an encoding of latents did; its groups are buckets, "WxH"."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        names = {"id": "latents_id", "groups": "buckets"}
        return {names.get(name, name): value for name, value in DeriveReport.as_dict(self).items()}


def encode_latents(
    store: Store,
    vae: Vae,
    snapshot: Snapshot,
    selection: Selection,
    *,
    policy: BucketPolicy,
    options: LatentOptions | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> LatentReport:
    """Encode the images of `selection`, made from `snapshot`, that the set of (`vae`, `policy`) lacks.

    `stop` is asked after each batch; what is encoded by then is committed. Raises StoreError when the
    selection is of another snapshot, StoreLockedError when another process writes to the same set.
    """
    require_work(store, selection)
    info = LatentInfo(
        buckets=bucket_sizes(policy),
        base_name=vae.name,
        base_revision=vae.revision,
        scaling_factor=vae.scale.scaling,
        shift_factor=vae.scale.shift,
        latent_channels=vae.latent_channels,
        probe=_nested(vae.encode(probe_image(vae.factor)[None])[0][0]),
    )
    latent_set = store.latent_set(latent_identity(vae, policy), info)
    derivation = Derivation(
        derived=latent_set,
        encoder=VaeEncoder(vae, latent_set.info.buckets),
        roots=store.roots(),
        options=options or LatentOptions(),
        progress=progress or NoProgress(),
    )
    return LatentReport(**asdict(derivation.run(snapshot, selection, stop=stop)))


def plan_latents(
    snapshot: Snapshot,
    selection: Selection,
    *,
    buckets: Sequence[tuple[int, int]],
    latent_set: LatentSet | None,
) -> DerivePlan:
    """What of `selection`, made from `snapshot`, is missing from `latent_set` (None: a new one), by bucket.

    Raises StoreError when the selection is of another snapshot.
    """

    def groups(widths: npt.ArrayLike, heights: npt.ArrayLike) -> npt.NDArray[np.int64]:
        return nearest_buckets(widths, heights, buckets)

    return plan_missing(snapshot, selection, groups=groups, derived=latent_set)


def probe_image(factor: int) -> npt.NDArray[np.uint8]:
    """The fixed image whose latent tells two VAEs apart by effect, uint8 [8 * factor, 8 * factor, 3].

    Colour ramps with a checkerboard over them: both low and high frequencies count.
    """
    side = 8 * factor
    y, x = np.mgrid[0:side, 0:side]
    ramps = np.stack([x * 255 // side, y * 255 // side, (x + y) * 255 // (2 * side)], axis=-1)
    return np.where(((x // 4 + y // 4) % 2 == 0)[..., None], ramps, 255 - ramps).astype(np.uint8)


def _nested(array: npt.NDArray[np.float32]) -> tuple[Any, ...]:
    return tuple(array.astype(np.float32).tolist())
