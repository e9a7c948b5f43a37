"""Where memory ends, batches get smaller for good, and the results stay what they were."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pfgdata.errors import ModelError
from pfgdata.inference.batches import BatchLimit, Images, Result, run_in_parts
from pfgdata.inference.devices import is_out_of_memory


class SmallDevice:
    """Has memory for so many images; scores are means, features are sums."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.tried: list[int] = []

    def run(self, images: Images) -> Result:
        self.tried.append(len(images))
        if len(images) > self.memory:
            raise RuntimeError(
                "bfc_arena.cc: Failed to allocate memory for requested buffer of size 616562688"
            )
        flat = images.reshape(len(images), -1).astype(np.float32)
        return flat.mean(1, keepdims=True), flat.sum(1, keepdims=True)


def run(device: SmallDevice, images: Images, limit: BatchLimit) -> Result:
    parts = run_in_parts(device.run, images, limit=limit, out_of_memory=is_out_of_memory)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(1).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)


def test_out_of_memory_halves_the_batch_for_good(images: Images) -> None:
    device, limit = SmallDevice(memory=13), BatchLimit()
    found, expected = run(device, images, limit), run(SmallDevice(memory=50), images, BatchLimit())
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    assert device.tried == [50, 25, 12, 12, 12, 12, 12]
    device.tried.clear()
    run(device, images[:20], limit)
    assert device.tried == [12, 12]


def test_memory_for_not_even_one_image_is_a_users_error(images: Images) -> None:
    with pytest.raises(ModelError, match="no memory for one image; stop what else runs there"):
        run(SmallDevice(memory=0), images, BatchLimit())


def test_a_graph_of_one_batch_size_cannot_get_smaller(images: Images) -> None:
    with pytest.raises(ModelError, match="no memory for the 16 images its graph takes at once"):
        run(SmallDevice(memory=8), images, BatchLimit(16, fixed=True))


def test_another_error_is_not_taken_for_a_lack_of_memory(images: Images) -> None:
    def broken(part: Images) -> Result:
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        run_in_parts(broken, images, limit=BatchLimit(), out_of_memory=is_out_of_memory)


def test_two_threads_that_run_out_of_memory_together_halve_once(images: Images) -> None:
    limit = BatchLimit(64)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: limit.shrink(64, MemoryError()), range(2)))
    assert limit.size == 32


@pytest.mark.parametrize(
    "message",
    [
        "Failed to allocate memory for requested buffer of size 1234",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUDNN failure 4000: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
        "CUDNN failure 4004: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "Available memory of 128 is smaller than requested bytes of 256",
        "std::bad_alloc",
        "could not create a primitive",
        "nonzero is not supported for tensors with more than INT_MAX elements",
    ],
)
def test_every_layer_says_in_its_own_words_that_fewer_could_work(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))


def test_torch_s_lack_of_main_memory_is_one_too() -> None:
    import torch

    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 62, dtype=torch.uint8)
    assert is_out_of_memory(found.value)
