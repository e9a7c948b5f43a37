"""Selection to feature set: what to make, what would be made, and what was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pfgdata.derive import (
    Derivation,
    DerivePlan,
    DeriveReport,
    Encoder,
    plan_missing,
    require_work,
)
from pfgdata.extractors import Extractor
from pfgdata.features.job import FeatureOptions
from pfgdata.features.setup import extractor_by
from pfgdata.inference import Precision
from pfgdata.records import NoProgress, Progress, Selection
from pfgdata.store import FeatureIdentity, FeatureInfo, FeatureSet, Snapshot, Store, installed_versions

__all__ = ["FeaturePass", "FeatureReport"]

_PACKAGES = ("pfg", "onnxruntime", "torch", "transformers", "numpy", "pillow", "opencv-python-headless")


@dataclass(slots=True, kw_only=True)
class FeatureReport(DeriveReport):
    """What a making of features did."""

    label: str  # of the set

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        words = DeriveReport.as_dict(self)
        return {
            "features_id" if name == "id" else name: value
            for name, value in words.items()
            if name != "groups"
        }


@dataclass(frozen=True, slots=True)
class _Encoder:
    """An extractor as the pass has encoders: one group, for all squares are of one size."""

    extractor: Extractor

    @property
    def writer(self) -> Mapping[str, Any]:
        """Where it runs, and by which versions."""
        return {**self.extractor.writer, "versions": installed_versions(_PACKAGES)}

    def groups(self, widths: npt.ArrayLike, heights: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """One group."""
        return np.zeros(len(np.asarray(widths)), np.int64)

    def name(self, group: int) -> str:
        """The square."""
        return f"{self.extractor.image_size}x{self.extractor.image_size}"

    def facts(self, group: int) -> Mapping[str, Any]:
        """Nothing beyond what the set says."""
        return {}

    def prepare(
        self, pixels: npt.NDArray[np.uint8], group: int
    ) -> tuple[npt.NDArray[np.uint8], Mapping[str, Any]]:
        """Its square."""
        return self.extractor.square(pixels), {}

    def encode(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Vectors [B, F]."""
        return self.extractor.features(batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractorSource:
    """What another machine loads the encoder of a feature set by: an EncoderSource."""

    info: FeatureInfo
    identity: FeatureIdentity
    precision: Precision

    def load(self, *, gpu: bool) -> Encoder:
        """Raises what `load_extractor` does, IdentityError for another extractor than the set's."""
        device = "cuda" if gpu else "cpu"
        return _Encoder(extractor_by(self.info, self.identity, device=device, precision=self.precision))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePass:
    """Images of a store through `extractor` into its set, called `label`, and what of them is missing there.

    A selection is made from the snapshot that it comes with, or StoreError is raised.
    """

    store: Store
    extractor: Extractor
    label: str
    options: FeatureOptions = field(default_factory=FeatureOptions)
    progress: Progress = field(default_factory=NoProgress)

    @property
    def bytes_each(self) -> int:
        """What a vector takes on disk."""
        return 2 * self.extractor.feature_dim

    def plan(self, snapshot: Snapshot, selection: Selection) -> DerivePlan:
        """What of `selection` the set lacks; nothing is written."""
        groups = _Encoder(self.extractor).groups
        return plan_missing(snapshot, selection, groups=groups, derived=self._found())

    def run(
        self, snapshot: Snapshot, selection: Selection, *, stop: Callable[[], bool] = lambda: False
    ) -> FeatureReport:
        """Make what of `selection` the set lacks; it is made if it is not there.

        `stop` is asked after each batch; what is made by then is committed. Raises StoreLockedError when
        another process writes to the same set.
        """
        require_work(self.store, selection)
        return self.report(self.derivation().run(snapshot, selection, stop=stop))

    def source(self) -> ExtractorSource:
        """What another machine loads the extractor by."""
        identity = FeatureIdentity.of(self.extractor.identity)
        return ExtractorSource(info=self._info, identity=identity, precision=self.extractor.precision)

    def derivation(self) -> Derivation:
        """The pass into the set, which is made if it is not there."""
        identity = FeatureIdentity.of(self.extractor.identity)
        return Derivation(
            derived=self.store.feature_set(identity, self._info),
            encoder=_Encoder(self.extractor),
            roots=self.store.roots(),
            options=self.options,
            progress=self.progress,
        )

    def report(self, report: DeriveReport) -> FeatureReport:
        """`report` as one of features."""
        return FeatureReport(**asdict(report), label=self.label)

    @property
    def _info(self) -> FeatureInfo:
        extractor = self.extractor
        return FeatureInfo(label=self.label, extractor=extractor.name, revision=extractor.revision)

    def _found(self) -> FeatureSet | None:
        identity = FeatureIdentity.of(self.extractor.identity)
        return next((one for one in self.store.feature_sets() if one.identity == identity), None)
