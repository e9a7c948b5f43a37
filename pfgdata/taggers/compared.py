"""Which fused graphs were compared with their files on this machine: it takes seconds, and is done once.

A file each in pfg's cache, named by the graph's bytes and by what runs it; always deletable.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from pfgdata.errors import StoreError
from pfgdata.files import Disk, cache_folder
from pfgdata.inference import Device, Machine

__all__ = ["Comparison"]


class Comparison:
    """What came of comparing a fused graph, for the device that it runs on."""

    def __init__(self, model: bytes, device: Device, machine: Machine) -> None:
        digest = blake3(model, max_threads=blake3.AUTO)
        gpu = next((gpu.name for gpu in machine.gpus if gpu.index == device.index), "")
        digest.update(f"{sorted(machine.packages.items())} {device.kind} {gpu}".encode())
        self._file = Path(cache_folder()) / "fused" / digest.hexdigest(length=16)

    def known(self) -> bool | None:
        """Whether the scores were the same; None if nobody looked."""
        try:
            return {b"same": True, b"other": False}.get(self._file.read_bytes())
        except OSError:
            return None

    def note(self, *, same: bool) -> None:
        """Keep the answer, where the cache can be written."""
        with suppress(OSError, StoreError):
            disk = Disk()
            disk.make_folder(self._file.parent)
            disk.replace_file(self._file, b"same" if same else b"other")
