"""What a machine that is too small for a model or for pictures says: one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from pfgdata.errors import RunError
from pfgdata.inference import is_no_memory

__all__ = ["room_for", "short_memory"]

_GPU = ("cuda", "cublas", "cudnn")  # one of them is in what a GPU's libraries say


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
    if not is_no_memory(problem):
        return None
    said = str(problem).lower()
    on_gpu = isinstance(problem, torch.OutOfMemoryError) or any(words in said for words in _GPU)
    return "the GPU's" if on_gpu else "main"


def _advice(whose: str, pictures: int) -> str:
    if pictures > 1:
        return f"batch_size {pictures} -> {pictures // 2}"
    if whose != "main":
        return "--device cpu"
    return "a smaller size, or closing other programs" if pictures else "closing other programs"
