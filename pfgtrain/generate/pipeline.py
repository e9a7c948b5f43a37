"""PFGPipeline: a diffusers pipeline that is told features beside words.

Noise is drawn on the CPU in float32 from one seed a picture, so a picture starts alike on every device and in
every batch. A GPU's own generator would tie it to the device.

Shapes: B pictures, F feature width, K tokens, D context width, C latent channels, R = 3 colours,
h x w latents, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor

from pfgdata.errors import ConfigError, RunError
from pfgdata.records import LatentScale, Progress
from pfgdata.vaes import latent_scale
from pfgtrain.adapter import PFGAdapter, Uncond, told_rows, unconditional_rows
from pfgtrain.base import Base, Family
from pfgtrain.condition import Condition
from pfgtrain.generate.options import GenerateOptions
from pfgtrain.objective import stored_of

__all__ = ["PFGPipeline", "Scene", "paint", "pipeline_of"]


class PFGPipeline(DiffusionPipeline):
    """What `pipeline_of` makes of a family's pipeline: called with features, it appends tokens to the prompt.

    Its VAE stays float32: beside a UNet in float16, sample with output_type="latent" and call `decode`.
    """

    family: Family

    @torch.no_grad()
    def __call__(
        self,
        features_BF: Tensor | None = None,
        *,
        prompt: Condition,
        negative: Condition,
        uncond: Uncond = "zeros",
        pfg_scale: float = 1.0,
        **options: Any,
    ) -> Any:
        """Call the family's pipeline on contexts of B rows; `options` are its own.

        Both conditions have B rows. With features, tokens `(W x + b) * pfg_scale` follow the prompt, where a
        feature is not there the pad, and the pad `uncond` follows the negative prompt; with None the tokens
        are left out on both sides. `guidance_rescale` of the options takes a guided answer's deviation back
        to that of the answer with the prompt, for that share (Lin et al. 2023, arXiv 2305.08891): where a
        schedule ends at zero SNR, guidance burns colours and flat grounds otherwise.
        """
        if features_BF is not None and self.adapter is not None:
            features_BF = features_BF.to(self.adapter.device, self.adapter.dtype)
            tokens_BKD, has_BG = self.adapter.tell(features_BF)
            tokens_BKD, keep_BK = self.adapter.scaled(tokens_BKD, pfg_scale), self.adapter.spread(has_BG)
            prompt = told_rows(prompt, tokens_BKD, keep_BK=keep_BK, uncond=uncond)
            negative = unconditional_rows(negative, num_tokens=self.adapter.num_tokens, uncond=uncond)
        return super().__call__(**self.family.pipeline_arguments(prompt, negative), **options)

    @property
    def scale(self) -> LatentScale:
        """What makes the UNet's latents of the VAE's."""
        return latent_scale(self.vae.config)

    @torch.no_grad()
    def decode(self, latents_BChw: Tensor) -> list[Image.Image]:
        """The B pictures of latents as the UNet has them, decoded in the VAE's dtype.

        Raises RunError where a latent or a pixel is not a finite number.
        """
        _require_finite(latents_BChw, of="the UNet")
        stored_BChw = stored_of(latents_BChw.to(self.vae.dtype), scale=self.scale)
        with torch.autocast(self.vae.device.type, enabled=False):  # also where a fit draws
            pixels_BRHW = self.vae.decode(stored_BChw, return_dict=False)[0]
        _require_finite(pixels_BRHW, of="the VAE")
        return self.image_processor.postprocess(pixels_BRHW, output_type="pil")

    @classmethod
    def _get_signature_keys(cls, obj: Any) -> tuple[list[str], list[str]]:
        """What diffusers takes for the parts of `obj`: those of its `__init__`, and the adapter."""
        parts, options = super()._get_signature_keys(obj)
        beside = ["adapter"] if isinstance(obj, cls) and "adapter" in obj.config else []
        return sorted([*parts, *beside]), options


def pipeline_of(base: Base, *, unet: Any, vae: Any, adapter: PFGAdapter | None) -> PFGPipeline:
    """The pipeline of the base's family with an adapter; without text models, for prompts are conditions."""
    kind, parts = base.family.pipeline()
    pipeline: PFGPipeline = type("PFGPipeline", (PFGPipeline, kind), {})(
        unet=unet, vae=vae, scheduler=base.load_sampler(), **parts
    )
    pipeline.register_modules(adapter=adapter)
    pipeline.family = base.family
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What pictures have in common, decided: options may leave each of these to the run."""

    prompt: Condition  # one row
    negative: Condition  # one row
    uncond: Uncond
    size: tuple[int, int]  # width, height in pixels


def paint(
    pipeline: PFGPipeline,
    features_BF: Tensor | None,
    scene: Scene,
    *,
    seeds: Sequence[int],
    options: GenerateOptions,
    progress: Progress,
) -> list[Image.Image]:
    """A picture of `scene` for each of the B seeds; `progress` counts steps of pictures.

    Raises ConfigError for more steps than the schedule has.
    """
    most = pipeline.scheduler.config.num_train_timesteps
    if options.num_inference_steps > most:
        raise ConfigError(
            f"num_inference_steps is {options.num_inference_steps} (--steps), and the base's schedule has"
            f" {most}; use fewer"
        )
    unet, factor = pipeline.unet, pipeline.vae_scale_factor
    width, height = scene.size
    shape = (unet.config.in_channels, height // factor, width // factor)
    latents_BChw = pipeline(
        features_BF,
        prompt=scene.prompt.to(unet.device).expand(len(seeds)),
        negative=scene.negative.to(unet.device).expand(len(seeds)),
        uncond=scene.uncond,
        pfg_scale=options.pfg_scale,
        guidance_scale=options.guidance_scale,
        guidance_rescale=options.guidance_rescale,
        num_inference_steps=options.num_inference_steps,
        latents=_noise(seeds, shape).to(unet.device, unet.dtype),
        width=width,
        height=height,
        callback_on_step_end=_report_steps(progress, count=len(seeds)),
        output_type="latent",
    ).images
    return pipeline.decode(latents_BChw)


def _require_finite(values: Tensor, *, of: str) -> None:
    """Raise RunError if any value is NaN or infinite: a picture of it would be black."""
    if not values.isfinite().all():
        raise RunError(
            f"the output of {of} is not finite ({str(values.dtype).removeprefix('torch.')}): try a lower"
            " --guidance or --pfg-scale, or --device cpu for float32; if it stays so, the weights are damaged"
        )


def _noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Standard normal float32 [B, *shape] on the CPU, a generator of its own for each seed."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _report_steps(progress: Progress, *, count: int) -> Callable[..., dict[str, Any]]:
    """A diffusers callback that counts one step of `count` pictures."""

    def advance(_pipeline: Any, _step: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        progress.advance(count)
        return {}

    return advance
