"""The values that rooms hand to each other: keys, found images, identities, selections, progress.

Nothing here does I/O. A path is bytes, as the file system has it; text is only for show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from blake3 import blake3

__all__ = [
    "CONTENT_ID_BYTES",
    "ExtractorIdentity",
    "Factor",
    "Found",
    "ImageKey",
    "LatentScale",
    "NoProgress",
    "Progress",
    "Selection",
    "StoredImage",
    "TaggerIdentity",
    "content_id",
    "did_you_mean",
    "during",
    "during_one",
    "factor",
    "ids_as_keys",
    "nearest",
    "shown",
]

CONTENT_ID_BYTES = 16  # BLAKE3-128: a UUID column in Parquet


def content_id(data: bytes) -> bytes:
    """BLAKE3-128 of an image's bytes, 16 bytes."""
    return blake3(data).digest(length=CONTENT_ID_BYTES)


def shown(name: bytes) -> str:
    r"""A file name as text: UTF-8, and `\xNN` where it is not."""
    return name.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKey:
    """What names an image in a store: its corpus root, the path below it, the member of an archive.

    `root` is the realpath at first ingest; `path` and `member` use `/` and are the bytes on disk, unfolded.
    """

    root: str
    path: bytes
    member: bytes | None = None

    @property
    def order(self) -> tuple[bytes, bytes, bytes]:
        """The sort key of the stable order: root, whole relative path, member (none comes first)."""
        return (self.root.encode(), self.path, self.member or b"")

    @property
    def name(self) -> str:
        """What it is called below its root, as text."""
        inside = f"!{shown(self.member)}" if self.member is not None else ""
        return f"{shown(self.path)}{inside}"

    def __str__(self) -> str:
        return f"{self.root}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An image by name, as the walk of a corpus finds it; unread."""

    key: ImageKey
    size: int  # bytes
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image of a store, unread: its bytes are in any of the files `keys` or in none, its content decides.

    `size` is in bytes; `width` and `height` are in pixels, as it was at its ingest.
    """

    content_id: bytes
    keys: tuple[ImageKey, ...]  # at least one; the latest row's first
    size: int
    width: int
    height: int

    def __str__(self) -> str:
        return str(self.keys[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerIdentity:
    """What must be equal for two features to mean the same.

    `name` and `revision` are for people; `weights_sha256`, `feature_node` and the pixel path decide.
    """

    name: str
    revision: str | None
    weights_sha256: str
    feature_node: str
    preprocess: str  # how a picture becomes its input: the text of a pfgdata.conventions.Convention
    decode: str  # version of the one decode before it

    @property
    def decisive(self) -> tuple[str, str, str, str]:
        """The fields two features must share to be comparable."""
        return (self.weights_sha256, self.feature_node, self.preprocess, self.decode)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> TaggerIdentity:
        """The identity on record, as `as_dict` gave it. Raises KeyError for a field that is not there."""
        return cls(**{one.name: record[_ON_RECORD.get(one.name, one.name)] for one in fields(cls)})

    def as_dict(self) -> dict[str, Any]:
        """As store.json, run.json and every other record have it: there `preprocess` is called `recipe`."""
        return {_ON_RECORD.get(name, name): value for name, value in asdict(self).items()}


_ON_RECORD = {"preprocess": "recipe"}  # what format 1 calls it


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractorIdentity:
    """What must be equal for the vectors of two extractors to mean the same."""

    weights_sha256: str  # of the file; of several the sha256 of the list of theirs
    architecture: str  # "onnx", or the class and the digest of the config that make a model of the weights
    node: str  # which tensor of it: a name in the graph; image_embeds, pooler_output
    preprocess: str  # how a picture becomes its input: the text of a pfgdata.conventions.Convention
    decode: str  # version of the one decode before it
    feature_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A set of rows of one snapshot, in row order.

    `content_ids` is uint8 [N, 16]; row i stands at `rows[i]` of shard `shards[shard_index[i]]`.
    """

    content_ids: npt.NDArray[np.uint8]
    shards: tuple[str, ...]
    shard_index: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]
    expression: str | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    named: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each @NAME in it meant

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digest(self) -> str:
        """BLAKE3 over the sorted distinct content_ids, hex: equal for equal sets of images."""
        return blake3(np.unique(ids_as_keys(self.content_ids)).tobytes()).hexdigest()

    def distinct(self) -> Selection:
        """The same images once each: of several rows with one content_id the first stays."""
        _, first = np.unique(ids_as_keys(self.content_ids), return_index=True)
        return self.take(np.sort(first))

    def take(self, index: npt.NDArray[np.int64]) -> Selection:
        """The rows at `index` (int64 [M]), in that order."""
        return Selection(
            content_ids=self.content_ids[index],
            shards=self.shards,
            shard_index=self.shard_index[index],
            rows=self.rows[index],
            expression=self.expression,
            thresholds=self.thresholds,
            named=self.named,
        )


Factor = float | tuple[float, ...]  # one number for all channels, or one for each


def factor(value: float | Sequence[float]) -> Factor:
    """`value` as a factor, whatever JSON made of it."""
    return tuple(float(each) for each in value) if isinstance(value, Sequence) else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentScale:
    """What makes a UNet's latents of a VAE's, as stored: (latent - shift) * scaling."""

    scaling: Factor
    shift: Factor = 0.0

    def __str__(self) -> str:
        shift = f", shift_factor {_shown(self.shift)}" if self.shift != 0.0 else ""
        return f"scaling_factor {_shown(self.scaling)}{shift}"


def _shown(value: Factor) -> str:
    return f"({', '.join(f'{each:g}' for each in value)})" if isinstance(value, tuple) else f"{value:g}"


def ids_as_keys(content_ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.void]:
    """View content_ids, uint8 [N, 16], as [N] items that sort and compare as whole ids."""
    return np.ascontiguousarray(content_ids).view(f"V{CONTENT_ID_BYTES}").ravel()


class Progress(Protocol):
    """How a library function says how far it is; `pfgdata.screen` draws it."""

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        """A task begins; `total` is None when the amount is not known yet.

        A `brief` one is shown while it runs and, unless it took seconds, leaves nothing behind.
        """

    def advance(self, count: int = 1, **figures: float) -> None:
        """`count` more units are done; `figures` are shown beside the rate (loss=0.12)."""

    def say(self, message: str) -> None:
        """One line a person should read now."""

    def finish(self) -> None:
        """The task begun last has ended."""


class NoProgress:
    """A Progress that shows nothing."""

    def start(self, task: str, *, total: int | None, unit: str = "images", brief: bool = False) -> None:
        """Show nothing."""

    def advance(self, count: int = 1, **figures: float) -> None:
        """Show nothing."""

    def say(self, message: str) -> None:
        """Show nothing."""

    def finish(self) -> None:
        """Show nothing."""


@contextmanager
def during(
    progress: Progress, task: str, *, total: int | None, unit: str = "images", brief: bool = True
) -> Iterator[None]:
    """A task of `progress` for as long as the block runs, ended too where the block raises."""
    progress.start(task, total=total, unit=unit, brief=brief)
    try:
        yield
    finally:
        progress.finish()


@contextmanager
def during_one(progress: Progress, task: str, *, unit: str) -> Iterator[None]:
    """As `during`, for a task of one unit, which is done when the block is."""
    with during(progress, task, total=1, unit=unit):
        yield
        progress.advance()


def did_you_mean(near: Sequence[str], otherwise: str) -> str:
    """The hint of an error text: the `near` names may have been meant; `otherwise` where there are none."""
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def nearest(name: str, known: Sequence[str], *, count: int = 3) -> list[str]:
    """Up to `count` of `known` that look like `name`, best first; for error texts."""
    import difflib

    return difflib.get_close_matches(name, known, n=count, cutoff=0.6)
