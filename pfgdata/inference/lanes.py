"""Lanes: the ways into a session. One batch at a time goes through each, so each may keep its buffers.

A GPU has two lanes over one session (one copy of the weights): while one computes, the batch of the other is
on its way through the bus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from pfgdata.inference.batches import Images, Result
from pfgdata.inference.devices import Device

__all__ = ["BoundLane", "Lane", "lanes_of"]

_LANES_OF_A_GPU = 2


class Lane(Protocol):
    """A way into a session."""

    def run(self, images: Images) -> Result:
        """The outputs, in the graph's own dtype, of contiguous uint8 images."""


def lanes_of(session: Any, device: Device, *, image: str, outputs: Sequence[str]) -> list[Lane]:
    """The lanes of a session at `device`: one of a CPU, which has nothing to overlap; two of a GPU."""
    if device.kind == "cpu":
        return [_HostLane(session, image, outputs)]
    return [BoundLane(session, device, image=image, outputs=outputs) for _ in range(_LANES_OF_A_GPU)]


class _HostLane:
    def __init__(self, session: Any, image: str, outputs: Sequence[str]) -> None:
        self._session = session
        self._image = image
        self._outputs = list(outputs)

    def run(self, images: Images) -> Result:
        return tuple(map(_flat, self._session.run(self._outputs, {self._image: images})))


class BoundLane:
    """Keeps the images' buffer at its place as long as batches have one size."""

    def __init__(self, session: Any, device: Device, *, image: str, outputs: Sequence[str]) -> None:
        self._session = session
        self._image = image
        self._outputs = list(outputs)
        self._where = ("cpu" if device.kind == "cpu" else "cuda", device.index)
        self._binding = session.io_binding()
        self._buffer: Any = None
        self._shape: tuple[int, ...] | None = None

    def run(self, images: Images) -> Result:
        """The outputs; every call has its own arrays."""
        if self._shape != images.shape:
            self._make_buffer(images.shape)
        self._buffer.update_inplace(images)
        self._binding.synchronize_inputs()
        self._binding.clear_binding_outputs()  # or the next batch would be written over this one's results
        for name in self._outputs:
            self._binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(self._binding)
        return tuple(map(_flat, self._binding.copy_outputs_to_cpu()))

    def _make_buffer(self, shape: tuple[int, ...]) -> None:
        import onnxruntime as ort

        self._shape = self._buffer = None  # the old one is freed before there is a new one
        self._binding.clear_binding_inputs()
        self._buffer = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, *self._where)
        self._binding.bind_ortvalue_input(self._image, self._buffer)
        self._shape = shape


def _flat(values: Any) -> Any:
    """[B, n] of an output that may have more axes of size 1."""
    return np.reshape(values, (len(values), -1))
