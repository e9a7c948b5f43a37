"""Selection to latent set: what to make, what would be made, and what was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
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
from pfgdata.latents.encoder import VaeEncoder, VaeSource, latent_identity
from pfgdata.latents.job import LatentOptions
from pfgdata.records import NoProgress, Progress, Selection
from pfgdata.store import LatentInfo, LatentSet, Snapshot, Store
from pfgdata.vaes import Vae

__all__ = ["LatentPass", "LatentReport", "probe_image"]


@dataclass(slots=True, kw_only=True)
class LatentReport(DeriveReport):
    """What an encoding of latents did; its groups are buckets, "WxH"."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        names = {"id": "latents_id", "groups": "buckets"}
        return {names.get(name, name): value for name, value in DeriveReport.as_dict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentPass:
    """Images of a store through `vae` into the set of (`vae`, `policy`), and what of them is missing there.

    A selection is made from the snapshot that it comes with, or StoreError is raised.
    """

    store: Store
    vae: Vae
    policy: BucketPolicy
    options: LatentOptions = field(default_factory=LatentOptions)
    progress: Progress = field(default_factory=NoProgress)

    def buckets(self) -> Sequence[tuple[int, int]]:
        """(width, height) in pixels of each bucket: those of the set, or those that a new one would have."""
        found = self._found()
        return found.info.buckets if found else bucket_sizes(self.policy)

    def plan(self, snapshot: Snapshot, selection: Selection) -> DerivePlan:
        """What of `selection` the set lacks, by bucket; nothing is written."""
        buckets = self.buckets()

        def groups(widths: npt.ArrayLike, heights: npt.ArrayLike) -> npt.NDArray[np.int64]:
            return nearest_buckets(widths, heights, buckets)

        return plan_missing(snapshot, selection, groups=groups, derived=self._found())

    def run(
        self, snapshot: Snapshot, selection: Selection, *, stop: Callable[[], bool] = lambda: False
    ) -> LatentReport:
        """Encode what of `selection` the set lacks; it is made if it is not there.

        `stop` is asked after each batch; what is encoded by then is committed. Raises StoreLockedError when
        another process writes to the same set.
        """
        require_work(self.store, selection)
        return self.report(self.derivation().run(snapshot, selection, stop=stop))

    def source(self, config: Path | None = None) -> VaeSource:
        """What another machine loads the VAE by; `config` is of a base that is a single file."""
        vae, found = self.vae, self._found()
        return VaeSource(
            base=vae.name,
            revision=vae.revision,
            config=config,
            policy=self.policy,
            buckets=found.info.buckets if found else bucket_sizes(self.policy),
            identity=latent_identity(vae, self.policy),
        )

    def derivation(self) -> Derivation:
        """The pass into the set, which is made if it is not there."""
        vae = self.vae
        info = LatentInfo(
            buckets=bucket_sizes(self.policy),
            base_name=vae.name,
            base_revision=vae.revision,
            scaling_factor=vae.scale.scaling,
            shift_factor=vae.scale.shift,
            latent_channels=vae.latent_channels,
            probe=_nested(vae.encode(probe_image(vae.factor)[None])[0][0]),
        )
        latent_set = self.store.latent_set(latent_identity(vae, self.policy), info)
        return Derivation(
            derived=latent_set,
            encoder=VaeEncoder(vae, latent_set.info.buckets),
            roots=self.store.roots(),
            options=self.options,
            progress=self.progress,
        )

    def report(self, report: DeriveReport) -> LatentReport:
        """`report` as one of latents."""
        return LatentReport(**asdict(report))

    def _found(self) -> LatentSet | None:
        identity = latent_identity(self.vae, self.policy)
        return next((one for one in self.store.latent_sets() if one.identity == identity), None)


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
