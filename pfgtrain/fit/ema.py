"""A moving average of all that learns, float32; it follows what is trained and is never trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from diffusers.training_utils import EMAModel

from pfgtrain.config import FitConfig
from pfgtrain.optim import Part

__all__ = ["MovingAverage"]


class MovingAverage:
    """The average of the parameters of `parts`; begins as they are, beside them or in main memory.

    It is moved tensor by tensor where it is kept: neither a second copy nor a way back to a GPU is needed.
    """

    def __init__(self, parts: Sequence[Part], config: FitConfig, *, steps_done: int) -> None:
        self._learns = [value for part in parts for value in part.parameters.values()]
        self._averages = [
            value.detach().to("cpu" if config.offload_ema else value.device, torch.float32, copy=True)
            for value in self._learns
        ]
        left = iter(self._averages)
        self.parts = [
            replace(part, parameters={key: next(left) for key in part.parameters}) for part in parts
        ]
        self._steps = steps_done
        self._decay_at = EMAModel(  # of diffusers: its law alone
            [],
            decay=config.ema_decay,
            use_ema_warmup=config.use_ema_warmup,
            inv_gamma=config.ema_inv_gamma,
            power=config.ema_power,
        ).get_decay

    @torch.no_grad()
    def step(self) -> None:
        """Take the parameters in, after each optimizer step."""
        self._steps += 1
        share = 1 - self._decay_at(self._steps)
        for average, value in zip(self._averages, self._learns, strict=True):
            average.sub_(average - value.to(average.device, torch.float32), alpha=share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average stands where the parameters do, in their dtype."""
        trained = [value.data for value in self._learns]
        for value, average in zip(self._learns, self._averages, strict=True):
            value.data = average.to(value.device, value.dtype)  # the same tensor, unless it is kept otherwise
        try:
            yield
        finally:
            for value, data in zip(self._learns, trained, strict=True):
                value.data = data
