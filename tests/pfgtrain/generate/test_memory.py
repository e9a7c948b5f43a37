"""A device that is too small says so in one line, and what to lower."""

from __future__ import annotations

import pytest
import torch

from pfgdata.errors import RunError
from pfgtrain.generate import room_for


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (16, "too small for 16 pictures at once; try batch_size 16 -> 8"),
        (1, "too small for 1 pictures at once; try --device cpu"),
        (0, "too small for the model; try --device cpu"),
    ],
)
def test_a_gpu_that_is_too_small_is_one_line(pictures: int, said: str) -> None:
    with pytest.raises(RunError, match=said), room_for(pictures):
        raise torch.OutOfMemoryError("CUDA out of memory")
