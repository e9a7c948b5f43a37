"""Which processes train, as the flags of the command say it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Group"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Where the processes come from, how many, and how often all of them may be started again."""

    address: str | None = None
    """The head of a Ray cluster, or auto for the one of this machine; default: one is begun here."""
    workers: int | None = None
    """Processes in all; default: one a GPU, else 1."""
    cores: int = 1
    """CPU cores of each process."""
    retries: int = 3
    """How often all are started again, from the newest checkpoint, after one died."""
