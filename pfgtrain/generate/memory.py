"""What a machine that is too small for a model or for pictures says: one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from pfgdata.errors import RunError

__all__ = ["room_for", "short_memory"]

_NO_MEMORY = (  # in the words of CUDA, torch on Linux, on Windows, of oneDNN
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a primitive",
)


@contextmanager
def room_for(pictures: int) -> Iterator[None]:
    """Turn want of memory into one line that says what to lower; 0 pictures are the model alone."""
    try:
        yield
    except (RuntimeError, MemoryError) as problem:  # torch.OutOfMemoryError is a RuntimeError
        whose = short_memory(problem)
        if whose is None:
            raise
        what = {0: "the model", 1: "a picture"}.get(pictures, f"{pictures} pictures at once")
        raise RunError(f"{whose} memory is too small for {what}; try {_advice(whose, pictures)}") from problem


def short_memory(problem: RuntimeError | MemoryError) -> Literal["the GPU's", "main"] | None:
    """Whose memory `problem` says is too small; None where it says something else."""
    if isinstance(problem, MemoryError):
        return "main"
    if not any(words in str(problem).lower() for words in _NO_MEMORY):
        return None
    return "the GPU's" if isinstance(problem, torch.OutOfMemoryError) else "main"


def _advice(whose: str, pictures: int) -> str:
    if pictures > 1:
        return f"batch_size {pictures} -> {pictures // 2}"
    if whose != "main":
        return "--device cpu"
    return "a smaller size, or closing other programs" if pictures else "closing other programs"
