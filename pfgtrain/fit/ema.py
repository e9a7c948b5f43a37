"""A moving average of all that learns, by diffusers; it follows what is trained and is never trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from pfgtrain.config import FitConfig

__all__ = ["MovingAverage"]


class MovingAverage:
    """The average of `parameters`, float32; begins as they are."""

    def __init__(self, parameters: Sequence[nn.Parameter], config: FitConfig, *, steps_done: int) -> None:
        self._parameters = list(parameters)
        self._offload = config.offload_ema
        self._average = EMAModel(
            self._parameters,
            decay=config.ema_decay,
            use_ema_warmup=config.use_ema_warmup,
            inv_gamma=config.ema_inv_gamma,
            power=config.ema_power,
            foreach=True,
        )
        self._average.optimization_step = steps_done
        self._rest()

    def step(self) -> None:
        """Take the parameters in, after each optimizer step."""
        if self._offload:
            self._average.to(self._parameters[0].device)
        self._average.step(self._parameters)
        self._rest()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average stands where the parameters do; what is written to them there is written to it."""
        trained = [parameter.data for parameter in self._parameters]
        for parameter, average in zip(self._parameters, self._average.shadow_params, strict=True):
            parameter.data = average.to(parameter.device)  # the same tensor, unless it is offloaded
        try:
            yield
        finally:
            self._average.shadow_params = [parameter.data for parameter in self._parameters]
            for parameter, data in zip(self._parameters, trained, strict=True):
                parameter.data = data
            self._rest()

    def _rest(self) -> None:
        if self._offload:
            self._average.to(torch.device("cpu"))
