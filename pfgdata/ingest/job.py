"""What an ingest is asked, in words and numbers: the flags of the command and the keys of a recipe.

It imports nothing heavy, for the command reads its options from here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pfgdata.errors import ConfigError
from pfgdata.images import IMAGE_SECONDS

if TYPE_CHECKING:
    from pfgdata.corpus import WalkOptions
    from pfgdata.images import Limits

__all__ = ["IngestJob", "IngestOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """How to ingest. But for the limits, `decode` and `pixels`, none of it changes what is stored.

    Raises ConfigError for a number that is not above 0.
    """

    max_megapixels: float = 200.0
    """Judged from the header."""
    max_megabytes: float = 2048.0
    """Of the file."""
    min_side: int = 16
    """Pixels."""
    max_aspect: float = 20.0
    """Longer to shorter side."""
    image_seconds: float = IMAGE_SECONDS
    """A decoder that takes longer is given up."""
    decode: Literal["exact", "fast"] = "exact"
    """exact, or fast: large JPEGs at no less than the tagger's size."""
    batch_size: int | None = None
    """Images a model call; default: what a short probe finds fastest."""
    threads: int | None = None
    """Threads that read and decode images; default: one for each core."""
    retry_failed: bool = False
    """Read unusable images again."""
    rehash: bool = False
    """Read also images whose size and time are unchanged."""
    wait: bool = False
    """Wait while another process writes to the store."""
    shard_rows: int = 8192
    """A shard closes at so many rows."""
    shard_seconds: float = 300.0
    """A shard closes at this age, so that a crash costs minutes."""
    pixels: Callable[[bytes], Any] | None = None
    """Makes an image's bytes a `Square`, and must pickle; default: decode, and the tagger's preprocessing."""

    def __post_init__(self) -> None:
        for name in ("max_megapixels", "max_megabytes", "min_side", "image_seconds", "shard_rows"):
            self._require(name, above=0)
        self._require("max_aspect", above=0.999)
        for name in ("batch_size", "threads"):
            if getattr(self, name) is not None:
                self._require(name, above=0)

    @property
    def limits(self) -> Limits:
        """An image out of them fails."""
        from pfgdata.images import Limits

        pixels = _millions(self.max_megapixels)
        return Limits(max_pixels=pixels, min_side=self.min_side, max_aspect=self.max_aspect)

    @property
    def max_bytes(self) -> int:
        """Of one file or member."""
        return _millions(self.max_megabytes)

    def _require(self, name: str, *, above: float) -> None:
        if not getattr(self, name) > above:
            raise ConfigError(f"{name} = {getattr(self, name)!r} is too small")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestJob(IngestOptions):
    """All that an ingest is asked beside its images and its store."""

    include: list[str] = field(default_factory=list)
    """Only paths that match, as in .gitignore."""
    exclude: list[str] = field(default_factory=list)
    """No paths that match, as in .gitignore."""
    archives: bool = False
    """Look into the archives that a folder holds."""
    follow_links: bool = False
    """Follow links to folders and out of the corpus."""
    sidecars: bool = False
    """Keep captions beside the images as the column captions."""
    tagger: str | None = None
    """Catalog name, hub id, folder, or demo; default: the store's own, else wd-v1-4-vit-tagger-v2."""
    convention: str | None = None
    """File (.toml, .json) that says how the tagger takes pictures and gives tags, or a catalog name whose way
    it is; default: the store's own, else as the catalog or the files beside the model say."""
    preprocess: str | None = None
    """How a picture becomes the tagger's square: kohya, webui, pfg-train or smilingwolf; default: the store's
    own, else the convention's, kohya for WD14 taggers."""
    device: str = "auto"
    """auto, cpu, cuda (every GPU), cuda:1, cuda:0,2 or tensorrt."""
    precision: Literal["float32", "float16"] = "float32"
    """float32, or float16 of the graph: faster on a GPU, nearly the same."""

    @property
    def walk(self) -> WalkOptions:
        """Which files of the images' folders. Raises ConfigError for a pattern that cannot be one."""
        from pfgdata.corpus import WalkOptions

        return WalkOptions(
            include=tuple(self.include),
            exclude=tuple(self.exclude),
            follow_links=self.follow_links,
            archives=self.archives,
        )


def _millions(count: float) -> int:
    """`count` millions, be it without end."""
    return int(min(count * 1e6, sys.maxsize))
