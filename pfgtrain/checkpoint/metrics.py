"""metrics.jsonl: one line an optimizer step, cut where a crash tore it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pfgdata.files import Disk

__all__ = ["append_metrics", "read_metrics", "trim_metrics"]

_METRICS_FILE = "metrics.jsonl"


def append_metrics(run_dir: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines to metrics.jsonl, one an optimizer step; its `step` counts from 1."""
    with (run_dir / _METRICS_FILE).open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, up to the first that a crash cut short or filled with zeros."""
    path = run_dir / _METRICS_FILE
    lines: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        try:
            value = json.loads(line)
        except ValueError:  # JSONDecodeError, and bytes that are no text
            break
        if not isinstance(value, dict) or "step" not in value:
            break
        lines.append(value)
    return lines


def trim_metrics(run_dir: Path, *, step: int, disk: Disk | None = None) -> None:
    """Drop the lines after `step`: a resumed run trains those steps again."""
    kept = [line for line in read_metrics(run_dir) if line["step"] <= step]
    data = "".join(f"{json.dumps(line)}\n" for line in kept)
    (disk or Disk()).replace_file(run_dir / _METRICS_FILE, data.encode())
