"""Copies of sealed files, by the BLAKE3 that their folder's shard.json promises, compared as they come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pfgdata.files.cache import FileCache
from pfgdata.files.places import ObjectPlace
from pfgdata.files.sealed import sealed_value

__all__ = ["SealedCopies"]


class SealedCopies:
    """What shard.json files of a place have promised, by the key of their folder; copies in `cache`."""

    def __init__(self, place: ObjectPlace, cache: FileCache) -> None:
        self._place, self._cache = place, cache
        self._promised: dict[str, Mapping[str, str]] = {}  # name -> BLAKE3

    def learn(self, folder: str, data: bytes) -> Mapping[str, str]:
        """Take note of what the shard.json `data` of `folder` promises: nothing where it is damaged."""
        try:
            files = {name: seal["blake3"] for name, seal in sealed_value(data)["files"].items()}
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            files = {}  # who reads it says so
        self._promised[folder] = files
        return files

    def forget(self, folder: str) -> None:
        """`folder` is gone."""
        self._promised.pop(folder, None)

    def promised(self, key: str) -> str | None:
        """The BLAKE3 of the object `key`, where a shard.json that was read says it."""
        folder, _, name = key.rpartition("/")
        return self._promised.get(folder, {}).get(name)

    def is_here(self, key: str) -> bool:
        """Whether there is a copy."""
        digest = self.promised(key)
        return digest is not None and self._cache.has(digest)

    def copy(self, key: str, digest: str) -> Path:
        """A copy of the object `key`, whose BLAKE3 is to be `digest`.

        Raises FileNotFoundError where it is missing, ValueError where its bytes are others.
        """

        def bring(fresh: Path) -> None:
            if self._place.fetch(key, fresh) != digest:
                raise ValueError("its bytes are not those that were written")

        return self._cache.get(digest, bring)
