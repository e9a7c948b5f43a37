"""The process's own streams: one that the shell closed, or whose reader has gone, ends no work."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

__all__ = ["open_streams"]


def open_streams() -> None:
    """From now on sys.stdout and sys.stderr are there, and words on stderr that nobody reads are lost.

    A result that nobody reads is another thing: BrokenPipeError, at which a command may end.
    """
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    elif sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = io.TextIOWrapper(
            cast("BinaryIO", _Words(sys.stderr.fileno(), "w", closefd=False)),
            encoding=sys.stderr.encoding,
            errors=sys.stderr.errors,
            write_through=True,
        )
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that its encoding lacks ends no command
        exact = sys.stdout.encoding.lower() == "utf-8"  # it has every letter: left are the bytes of a path
        sys.stdout.reconfigure(errors="surrogateescape" if exact else "backslashreplace")


def _nowhere() -> TextIO:
    """Open as long as the process, on the number that the shell closed: no other file shall have it."""
    return Path(os.devnull).open("w", encoding="utf-8")


class _Words(io.FileIO):
    """A pipe for words: what is written after its reader has gone counts as written."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes
