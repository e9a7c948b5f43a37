"""A batch in the parts that fit: a graph's fixed batch, or what memory still holds.

Parts are always of one size, the last one padded with black images: GPU libraries choose their algorithms
anew for every new shape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pfgdata.errors import ModelError

__all__ = ["BatchLimit", "Result", "run_in_parts"]

Images = npt.NDArray[np.uint8]
Result = tuple[npt.NDArray[np.floating], ...]  # [B, n] of each output


class BatchLimit:
    """How many images a model call may take; halved for good when memory runs out. Threads share it.

    `size` is None as long as nothing is known. A `fixed` one is the graph's own and cannot shrink.
    """

    def __init__(self, size: int | None = None, *, fixed: bool = False) -> None:
        self.size = size
        self._fixed = fixed
        self._lock = threading.Lock()

    def step(self, count: int) -> int:
        """The size of the parts of `count` images."""
        if self._fixed and self.size:
            return self.size
        return min(count, self.size) if self.size else count

    def shrink(self, tried: int, problem: Exception) -> None:
        """`tried` images were too many. Raises ModelError where fewer are not possible."""
        if self._fixed or tried == 1:
            many = "one image" if tried == 1 else f"the {tried} images its graph takes at once"
            raise ModelError(
                f"the model's device has no memory for {many}; stop what else runs there or use --device cpu"
            ) from problem
        with self._lock:
            self.size = min(self.size or tried, tried // 2)


def run_in_parts(
    run: Callable[[Images], Result],
    images: Images,
    *,
    limit: BatchLimit,
    out_of_memory: Callable[[Exception], bool],
) -> list[Result]:
    """What `run` gives for `images` (at least one), in order; smaller parts where it runs out of memory.

    Raises what `run` raises for another reason, ModelError where not one image fits.
    """
    parts: list[Result] = []
    start = 0
    while start < len(images):
        step = limit.step(len(images))
        part = images[start : start + step]
        count = len(part)
        if count < step:
            part = np.concatenate([part, np.zeros((step - count, *part.shape[1:]), np.uint8)])
        try:
            outputs = run(part)
        except Exception as problem:
            if not out_of_memory(problem):
                raise
            limit.shrink(step, problem)
            continue
        parts.append(tuple(output[:count] for output in outputs))
        start += count
    return parts
