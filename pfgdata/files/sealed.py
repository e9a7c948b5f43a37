"""JSON that says whether it is whole: canonical, ending with the BLAKE3 of itself without that last field.

So one flipped byte anywhere in it is seen by whoever reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from pfgdata.errors import CorruptShardError, StoreError
from pfgdata.files.disk import Disk

__all__ = ["canonical_json", "read_json", "sealed_value"]


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The one way `value` is written: sorted keys, one space, and its own BLAKE3 as last field."""
    assert value and "digest" not in value
    body = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False)
    return f"{body[:-2]}{_tail(body)}".encode()


def read_json(
    path: Path, *, error: type[StoreError] = CorruptShardError, advice: str, disk: Disk | None = None
) -> dict[str, Any]:
    """Read a file written by `canonical_json`, here or on `disk`, checked against its digest.

    Raises `error`, ending with `advice`, when the file is not byte for byte what was written.
    """
    try:
        return sealed_value((disk or Disk()).read(path))
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: damaged ({problem}); {advice}") from problem


def sealed_value(data: bytes) -> dict[str, Any]:
    """What `canonical_json` made `data` of. Raises ValueError or RecursionError where it did not."""
    text = data.decode()
    body = text[: -len(_tail(""))] + "\n}"
    value = json.loads(body)
    if not text.endswith(_tail(body)) or not isinstance(value, dict):
        raise ValueError("its digest does not fit")
    return value


def _tail(body: str) -> str:
    return f',\n "digest": "{blake3(body.encode()).hexdigest()}"\n}}\n'
