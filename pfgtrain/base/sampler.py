"""The sampler that every base is given: A1111's DPM++ 2M over its schedule type Simple.

A base's scheduler config says two kinds of things: what noise its UNet was trained on, and how somebody liked
to sample it. Only the first is taken; how the steps are spread, solved and ended is the same for every base.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler

__all__ = ["DPM2M", "simple_timesteps"]


class DPM2M(DPMSolverMultistepScheduler):
    """DPM++ 2M over `simple_timesteps`: the spacings of diffusers have no such one.

    Its `trailing` is the nearest, but gives a step too many, at timestep -1, for 61 steps and others.
    """

    @classmethod
    def of(cls, noise: Mapping[str, Any], *, prediction_type: str) -> DPM2M:
        """The sampler for a UNet trained on that noise schedule, which predicts so."""
        return cls(
            **noise,
            prediction_type=prediction_type,
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            final_sigmas_type="zero",
            timestep_spacing="trailing",
            steps_offset=1,  # StableDiffusionPipeline asks for it; `simple_timesteps` have none
        )

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        mu: float | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """Go `num_inference_steps` steps from the last timestep down."""
        if timesteps is None and num_inference_steps is not None:
            timesteps = simple_timesteps(num_inference_steps, of=self.config.num_train_timesteps)
        super().set_timesteps(device=device, mu=mu, timesteps=timesteps)


def simple_timesteps(steps: int, *, of: int) -> list[int]:
    """`steps` of the timesteps `of` - 1 down to 0, evenly spread from the first: ComfyUI's `simple`."""
    return [of - 1 - int(step * (of / steps)) for step in range(steps)]
