"""What a pass needs of an encoder, and all that differs between a VAE and another one.

Shapes: B images a batch, N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Encoder", "EncoderSource"]


class Encoder(Protocol):
    """Makes one array of an image. Images of one group are encoded together and share a shard."""

    @property
    def writer(self) -> Mapping[str, Any]:
        """What goes on record as the writer of its shards: device, versions."""

    def groups(self, widths: npt.ArrayLike, heights: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The group of each image [N] by its sides in pixels; prepared images of one have one shape."""

    def name(self, group: int) -> str:
        """What the report calls the group."""

    def facts(self, group: int) -> Mapping[str, Any]:
        """What shard.json says of a shard of the group."""

    def prepare(
        self, pixels: npt.NDArray[np.uint8], group: int
    ) -> tuple[npt.NDArray[Any], Mapping[str, Any]]:
        """What `encode` takes of one image, uint8 [H, W, 3 or 4], and its row but for the content_id.

        Called in threads. Raises ContentError for what it cannot use.
        """

    def encode(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
        """The arrays of a batch of prepared images, [B, ...] to [B, ...]; blank where one failed."""


class EncoderSource(Protocol):
    """What another machine loads an encoder by. It pickles, and is small."""

    def load(self, *, gpu: bool) -> Encoder:
        """The encoder, on the machine's GPU or not.

        Raises PfgError where it cannot be had, IdentityError where it is not the one that the set is of.
        """
