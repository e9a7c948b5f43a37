"""The tasks of an ingest between the walk and the model: the first in memory, very many in a file.

A plan takes 220 bytes an image: 22 GB of memory where a hundred million wait. In the file an image takes
some 20 (by estimate), and each is read once, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pfgdata.files import Disk, explained
from pfgdata.ingest.tasks import Plan, Task, tasks_of

__all__ = ["Waiting"]

_HELD = 262_144  # images in memory: 60 MB


class Waiting:
    """Tasks in the order they are added; iterated once all are. `close` it: the file goes then.

    One that dies leaves the file in the store, for the next writer to sweep.
    """

    def __init__(self, disk: Disk, store: Path, *, held: int = _HELD) -> None:
        """Of no task; more than `held` go into a file in the folder `store`, on this machine."""
        self._disk, self._store, self._most = disk, store, held
        self._held: list[pa.RecordBatch] = []
        self._count = self._kept = 0  # all, and those in memory
        self._folder: Path | None = None
        self._file: pa.ipc.RecordBatchStreamWriter | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, batch: pa.RecordBatch) -> None:
        """Take further tasks, as Plan.SCHEMA has them. Raises StoreError where the disk refuses."""
        self._count += len(batch)
        if self._file is None and self._kept + len(batch) <= self._most:
            self._held.append(batch)
            self._kept += len(batch)
            return
        with explained(self._store):
            if self._file is None:
                self._folder = self._disk.temporary(self._store)
                options = pa.ipc.IpcWriteOptions(compression="zstd")
                self._file = pa.ipc.new_stream(self._folder / "tasks.arrow", Plan.SCHEMA, options=options)
            self._file.write_batch(batch)

    def __iter__(self) -> Iterator[Task]:
        yield from tasks_of(self._held)
        if self._file is not None and self._folder is not None:
            with explained(self._store):
                self._file.close()
            with pa.OSFile(str(self._folder / "tasks.arrow")) as file, pa.ipc.open_stream(file) as reader:
                yield from tasks_of(reader)

    def close(self) -> None:
        """Let go of all."""
        self._held = []
        if self._file is not None and self._folder is not None:
            self._file.close()
            self._disk.discard(self._folder)
