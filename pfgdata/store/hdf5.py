"""An array as the one contiguous, uncompressed dataset of an HDF5 file.

HDF5 keeps a file that it could not close, as on a full disk, and crashes with it when the process ends. So
what the system refuses is kept from HDF5 until it has closed its file, and raised then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["write_array"]

_HEADER = 2048  # bytes before the array; HDF5 takes as many for its header in a file that it opens itself
_SMALL = 1024  # bytes; each part of that header is smaller, and so are only arrays of a row or two


def write_array(path: Path, name: str, array: npt.NDArray[np.generic]) -> int:
    """Write `array` to a new HDF5 file as its dataset `name`; the byte offset at which it lies.

    Raises OSError where the system refuses; what stands in the file then means nothing.
    """
    import h5py  # 0.04 s, that a query does without

    with path.open("xb", buffering=0) as file:
        sink = _Sink(file.fileno())
        with h5py.File(
            path,
            "w",
            driver="fileobj",
            fileobj=sink,
            alignment_threshold=_SMALL,
            alignment_interval=_HEADER,
        ) as handle:
            dataset = handle.create_dataset(name, data=array, track_times=False)
            offset: int = dataset.id.get_offset()
        if sink.problem is not None:
            raise sink.problem
    return offset


class _Sink:
    """What HDF5 takes for a file: one that never fails. After the first `problem` nothing more is written."""

    def __init__(self, descriptor: int) -> None:
        self.problem: BaseException | None = None
        self._descriptor = descriptor
        self._at = 0
        self._size = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: memoryview) -> int:
        done = 0
        while done < len(data) and self.problem is None:
            with self._kept():
                done += os.pwrite(self._descriptor, data[done:], self._at + done)  # at most 2 GiB at once
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def truncate(self, size: int) -> int:
        if self.problem is None:
            with self._kept():
                os.ftruncate(self._descriptor, size)
        self._size = size
        return size

    def flush(self) -> None:
        """Nothing waits to be written."""

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as problem:  # also Ctrl-C: HDF5 must get to its end
            self.problem = problem
