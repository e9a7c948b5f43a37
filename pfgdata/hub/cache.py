"""Where pfg keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from pfgdata.paths import user_path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """PFG_CACHE, else pfg/ in the user's cache."""
    if folder := os.environ.get("PFG_CACHE"):
        return user_path(folder).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache") / "pfg"
