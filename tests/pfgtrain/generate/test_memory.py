"""A device that is too small says so in one line, and what to lower."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pfgdata.errors import RunError
from pfgtrain.generate import room_for

BEYOND = 2**50  # bytes: no machine lends so many, for an address has 47 bits


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (16, "too small for 16 pictures at once; try batch_size 16 -> 8"),
        (1, "too small for a picture; try --device cpu"),
        (0, "too small for the model; try --device cpu"),
    ],
)
def test_a_gpu_that_is_too_small_is_one_line(pictures: int, said: str) -> None:
    with pytest.raises(RunError, match=said), room_for(pictures):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("problem", "whose"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "the GPU's"),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "the GPU's"),
        ("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory", "main"),
        ("could not create a primitive", "main"),
    ],
)
def test_each_library_says_whose_memory_is_too_small(problem: str, whose: str) -> None:
    with pytest.raises(RunError, match=f"^{whose} memory is too small"), room_for(2):
        raise RuntimeError(problem)


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (16, "^main memory is too small for 16 pictures at once; try batch_size 16 -> 8$"),
        (1, "^main memory is too small for a picture; try a smaller size, or closing other programs$"),
        (0, "^main memory is too small for the model; try closing other programs$"),
    ],
)
def test_a_machine_that_is_too_small_is_one_line(pictures: int, said: str) -> None:
    with pytest.raises(RunError, match=said), room_for(pictures):
        torch.empty(BEYOND, dtype=torch.uint8)
    with pytest.raises(RunError, match=said), room_for(pictures):
        np.empty(BEYOND, np.uint8)


def test_what_is_no_want_of_memory_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="negative dimension"), room_for(1):
        torch.empty(-1)
