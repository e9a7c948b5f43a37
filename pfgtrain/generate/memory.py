"""What a device that is too small for a model or for pictures says: one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pfgdata.errors import RunError

__all__ = ["room_for"]


@contextmanager
def room_for(pictures: int) -> Iterator[None]:
    """Turn a GPU's want of memory into one line that says what to lower; 0 pictures are the model alone."""
    try:
        yield
    except torch.OutOfMemoryError as problem:
        what = f"{pictures} pictures at once" if pictures else "the model"
        advice = f"batch_size {pictures} -> {pictures // 2}" if pictures > 1 else "--device cpu"
        raise RunError(f"the GPU's memory is too small for {what}; try {advice}") from problem
