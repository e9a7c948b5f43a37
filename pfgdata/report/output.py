"""Where a page goes: a file that is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from pfgdata.errors import ConfigError
from pfgdata.files import Disk

__all__ = ["require_place", "write_page"]


def require_place(path: Path) -> None:
    """Raise ConfigError where no file can be put at `path`, before hours are spent on what goes into it."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: {path.parent} is no folder; make it first")
    if not os.access(path.parent, os.W_OK) and not _is_special(path):
        raise ConfigError(f"{path}: {path.parent} cannot be written; name another place")


def write_page(path: Path, page: str) -> None:
    """Put `page` at `path` in place of what was there; a pipe or a device gets it as it is.

    Raises ConfigError where the disk refuses; then the old file is as it was.
    """
    data = page.encode(errors="replace")
    try:
        if _is_special(path):
            path.write_bytes(data)
        else:
            Disk().replace_file(path, data)
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be written ({problem.strerror}); name another place") from problem


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
