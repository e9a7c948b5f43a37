"""Where a model computes, and in which dtype it generates."""

from __future__ import annotations

import re

import torch

from pfgdata.errors import ConfigError

__all__ = ["onnx_device", "placement"]

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


def placement(device: str | None = None) -> tuple[torch.device, torch.dtype]:
    """Where and in which dtype to generate: a GPU in float16 where there is one, else the CPU in float32.

    Raises ConfigError for a device that is none (cpu, cuda, cuda:N) or is not here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    name = device or ("cuda" if count else "cpu")
    if name not in here:
        kind = "not on this machine, or torch is a CPU build" if _DEVICE.fullmatch(name) else "no device"
        raise ConfigError(f"device {name!r}: {kind}; here there is {', '.join(here)}")
    chosen = torch.device(name)
    return chosen, torch.float16 if chosen.type == "cuda" else torch.float32


def onnx_device(device: str | None) -> str:
    """Where the tagger beside `placement(device)` runs; auto where none is named. Raises ConfigError."""
    if device is None:
        return "auto"
    chosen = placement(device)[0]
    return (
        "cpu" if chosen.type == "cpu" else f"cuda:{chosen.index or 0}"
    )  # cuda alone is every GPU to a tagger
