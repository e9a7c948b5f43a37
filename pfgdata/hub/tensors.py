"""Files of tensors: the one writer of .safetensors.

The library's own `save_file` gives a file mode 0600 whatever the umask says (it renames a temporary file into
place), and writes metadata in an order that varies from call to call.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pfgdata.files import TEMPORARY, Disk

if TYPE_CHECKING:
    import torch

__all__ = ["write_tensors"]


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], *, header: Mapping[str, str] | None = None
) -> None:
    """Write `tensors`, with metadata `header`, to the .safetensors file `path`, durably, whole or not at all.

    Equal tensors and header give equal bytes, and the umask decides who may read them. Raises OSError or
    SafetensorError where the disk is full.
    """
    from safetensors.torch import save_file

    ready = {name: tensor.contiguous() for name, tensor in tensors.items()}
    disk, fresh = Disk(), path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        fresh.touch()
        mode = fresh.stat().st_mode  # what the umask leaves
        save_file(ready, fresh, metadata=dict(header) if header else None)
        _settle_metadata(fresh)
        fresh.chmod(mode)
        disk.sync(fresh)
        disk.rename(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def _settle_metadata(path: Path) -> None:
    """Sort the metadata of a .safetensors file in place."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" not in header:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        data = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(data) <= length, "the same keys and values, in another order"
        file.seek(8)
        file.write(data.ljust(length))
