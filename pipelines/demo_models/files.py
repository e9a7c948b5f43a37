"""What the assets' files are written with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pfgdata.hub import write_tensors


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Safetensors as diffusers and transformers read them."""
    write_tensors(path, state, header={"format": "pt"})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`content` as a person reads it."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def fresh(folder: Path) -> Path:
    """`folder`, emptied: an asset holds nothing of an earlier export."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
