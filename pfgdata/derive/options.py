"""How a pass to a derived set is made; light, for commands read their options from here."""

from __future__ import annotations

from dataclasses import dataclass

from pfgdata.images import IMAGE_SECONDS

__all__ = ["DeriveOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveOptions:
    """How to encode; none of it changes what is stored, but for rounding."""

    batch_size: int = 8
    """Images a call of the encoder."""
    threads: int | None = None
    """Threads that read and decode images; default: one for each core."""
    shard_bytes: int = 256_000_000
    """A shard closes at so many bytes of arrays."""
    shard_seconds: float = 300.0
    """A shard closes at this age."""
    image_seconds: float = IMAGE_SECONDS
    """A decoder that takes longer is given up."""
