"""What the assets' files are written with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Safetensors as diffusers and transformers read them."""
    from safetensors.torch import save

    ready = {key: value.contiguous() for key, value in state.items()}
    path.write_bytes(save(ready, metadata={"format": "pt"}))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`content` as a person reads it."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def fresh(folder: Path) -> Path:
    """`folder`, emptied: an asset holds nothing of an earlier export."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
