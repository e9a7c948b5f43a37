"""A rewritten graph on one or more devices: batches of any size in, the arrays of its outputs out.

Shapes: B images, S side of the square.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pfgdata.errors import GraphError, ModelError
from pfgdata.inference.batches import BatchLimit, Images, Result, run_in_parts
from pfgdata.inference.devices import Device, is_out_of_memory, one_line, open_session, session_errors
from pfgdata.inference.lanes import Lane, lanes_of
from pfgdata.inference.surgery import ImageInput

__all__ = ["Runner", "unusable"]


class Runner:
    """The sessions of one graph; `predict` may be called by several threads, with profit by `parallel`."""

    def __init__(
        self, sessions: Sequence[tuple[Device, Any]], *, image: ImageInput, outputs: Sequence[str]
    ) -> None:
        self.devices = tuple(str(device) for device, _ in sessions)
        self.provider: str = sessions[0][1].get_providers()[0]
        self._image = image
        self._shapes = {value.name: value.shape for value in sessions[0][1].get_outputs()}
        self._limit = BatchLimit(image.batch_size, fixed=image.batch_size is not None)
        ways = [lanes_of(session, device, image=image.name, outputs=outputs) for device, session in sessions]
        self.parallel = sum(map(len, ways))
        self._lane_of_each = [way[0] for way in ways]
        self._lanes: queue.LifoQueue[Lane] = queue.LifoQueue()  # a lone caller keeps to one lane's buffer
        # Taken from the end: two callers meet on two GPUs, not on one.
        for lane in reversed([lane for one_of_each in zip(*ways, strict=True) for lane in one_of_each]):
            self._lanes.put(lane)

    @classmethod
    def open(
        cls,
        model: bytes,
        homes: Sequence[Device],
        *,
        image: ImageInput,
        outputs: Sequence[str],
        threads: int | None,
        half: bool,
    ) -> Runner:
        """A session of the serialised `model` on each of `homes`.

        `threads` and `half` as `open_session` takes them. Raises what `session_errors` lists, ModelError.
        """
        sessions = [
            (device, open_session(model, device=device, threads=threads, half=half)) for device in homes
        ]
        return cls(sessions, image=image, outputs=outputs)

    @property
    def image_size(self) -> int:
        """S, the side of the square it looks at, in pixels."""
        assert self._image.size is not None  # `take_bytes` says it
        return self._image.size

    @property
    def batch_size(self) -> int | None:
        """The only number of images the graph takes at once; None if it takes any. `predict` pads to it."""
        return self._image.batch_size

    def axes_of(self, output: str) -> int:
        """How many axes of an output hold more than one number of an image, by the file; open ones count."""
        return sum(axis != 1 for axis in self._shapes[output][1:])

    def predict(self, images: Images, /) -> Result:
        """The outputs, [B, n] each, in the graph's own dtype, of at least one image, uint8 RGB [B, S, S, 3].

        Where the device has no memory for B images at once, they and all later ones go in smaller batches.
        Raises ModelError where it has none for one image, or fails.
        """
        size = self.image_size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 [B, {size}, {size}, 3]")
        try:
            return self._run(images, self._run_once)
        except session_errors() as problem:
            raise ModelError(
                f"{', '.join(self.devices)} failed on a batch ({one_line(problem)}); see pfgdata doctor"
            ) from problem

    def predict_on_each(self, images: Images) -> Iterator[Result]:
        """The outputs of `images` on each device in turn. Raises what `session_errors` lists."""
        for lane in self._lane_of_each:
            yield self._run(images, lane.run)

    def _run(self, images: Images, run: Callable[[Images], Result]) -> Result:
        images = np.ascontiguousarray(images)
        parts = run_in_parts(run, images, limit=self._limit, out_of_memory=is_out_of_memory)
        return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _run_once(self, images: Images) -> Result:
        """A batch through the lane that is free, or the next one that will be."""
        lane = self._lanes.get()
        try:
            return lane.run(images)
        finally:
            self._lanes.put(lane)


def unusable(path: Path, problem: Exception) -> GraphError:
    """What to raise where onnxruntime refuses the model at `path`."""
    return GraphError(f"{path}: onnxruntime cannot use this model ({one_line(problem)})")
