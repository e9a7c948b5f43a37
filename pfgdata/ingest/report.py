"""What an ingest did, in numbers that add up: found = tagged + copied + unchanged + failed + pending.

Files that are no images by name are `ignored` and counted apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pfgdata.ingest.timing import StageTime, busy_shares

__all__ = ["FailedImage", "IngestReport"]


@dataclass(frozen=True, slots=True)
class FailedImage:
    """One image that could not be used: `kind` is content (its bytes) or access (reading them)."""

    file: str
    kind: str
    reason: str


@dataclass(slots=True, kw_only=True)
class IngestReport:
    """Counts of images; filled while the ingest runs, final when it returns."""

    found: int = 0
    ignored: int = 0  # files that are no images by name, or hidden
    links: int = 0  # to folders, or out of the corpus: not followed
    tagged: int = 0
    copied: int = 0  # content known under another path or stat: no inference
    unchanged: int = 0
    failed: int = 0  # now, and those known from before that were not tried again
    gone: int = 0  # rows whose file is no longer there; not part of the sum
    unreadable: list[str] = field(default_factory=list)  # folders that could not be listed
    shards: int = 0  # as they stand after merging
    seconds: float = 0.0
    interrupted: bool = False
    abandoned: int = 0  # threads left behind in a decoder that did not return
    stages: Mapping[str, StageTime] = field(default_factory=dict)  # read, decode, preprocess, model, write
    bottleneck: str = ""  # which of them held up the others, in a sentence
    estimated_seconds: float | None = None  # of a dry run: what its pending images would take
    failures: list[FailedImage] = field(default_factory=list)  # of this run

    def add(self, counts: IngestReport) -> None:
        """Add what became of further images."""
        self.tagged += counts.tagged
        self.copied += counts.copied
        self.unchanged += counts.unchanged
        self.failed += counts.failed
        self.failures += counts.failures

    @property
    def pending(self) -> int:
        """Images found and not dealt with, because the run was interrupted or is a dry one."""
        return self.found - self.tagged - self.copied - self.unchanged - self.failed

    @property
    def shares(self) -> dict[str, float]:
        """The part of its threads' time that each stage worked, 0..1; empty where nothing was done."""
        return busy_shares(self.stages)

    @property
    def images_per_second(self) -> float:
        """Images read in this run (tagged, copied, newly failed) over its seconds."""
        done = self.tagged + self.copied + len(self.failures)
        return done / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: the fields, `pending` and `images_per_second`."""
        return {
            **asdict(self),
            "pending": self.pending,
            "images_per_second": round(self.images_per_second, 2),
        }
