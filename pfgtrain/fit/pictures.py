"""What a checkpoint draws of images held out: a sheet, the image through the VAE above, the picture below.

The features stand in the store, so neither the tagger nor the image files are needed.

Shapes: F feature width, C latent channels, h w latent sides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pfgdata.records import Progress, during
from pfgtrain.base import Base
from pfgtrain.batches import Batch, Batches
from pfgtrain.config import FitConfig
from pfgtrain.fit.trainer import Trainer
from pfgtrain.generate import (
    GenerateOptions,
    PFGPipeline,
    Scene,
    cell_size,
    contact_sheet,
    paint,
    pipeline_of,
    thumbnail,
    write_png,
)
from pfgtrain.objective import latents_of

__all__ = ["draw_held_out", "passes_of_pictures"]

_STEPS = 20  # of the sampler: as good as 25 for a look
_GUIDANCE = 5.0


def passes_of_pictures(config: FitConfig, held_out: int) -> int:
    """How many rows pass through the UNet for one sheet: each step asks with the condition and without."""
    return 2 * _STEPS * min(config.num_validation_images, held_out)


def draw_held_out(
    trainer: Trainer,
    base: Base,
    config: FitConfig,
    held_out: Batches,
    sheet: Path,
    *,
    progress: Progress,
) -> None:
    """Write the PNG `sheet` of up to `num_validation_images` images; none if that is 0.

    The weights are those that generate would use. Each image has its own noise, the same at every step.
    """
    count = min(config.num_validation_images, len(held_out.rows))
    if not count:
        return
    options = GenerateOptions(guidance_scale=_GUIDANCE, num_inference_steps=_STEPS)
    rows = np.linspace(0, len(held_out.rows) - 1, count).round().astype(np.int64)
    model = trainer.model
    pipeline = pipeline_of(base, unet=model.unet, vae=base.load_vae(), adapter=model.adapter)
    pairs: list[tuple[Image.Image, Image.Image]] = []
    shown = during(progress, "draw", total=count * _STEPS, unit="steps")
    with shown, trainer.averaged(), trainer.autocast(), torch.no_grad():
        for seed, row in enumerate(rows):
            batch = held_out.probe(row[None], index=-1)
            pairs.append(_pair(trainer, pipeline, batch, options, seed=seed, progress=progress))
    width, height = (max(image.size[side] for image, _ in pairs) for side in (0, 1))
    cell = cell_size(width, height, rows=2, columns=count)
    cells = [[thumbnail(image, cell=cell) for image in row] for row in zip(*pairs, strict=True)]
    write_png(sheet, contact_sheet(cells))


def _pair(
    trainer: Trainer,
    pipeline: PFGPipeline,
    batch: Batch,
    options: GenerateOptions,
    *,
    seed: int,
    progress: Progress,
) -> tuple[Image.Image, Image.Image]:
    """The one image of `batch` through the VAE, and what is drawn of its feature and text."""
    model, texts = trainer.model, trainer.texts
    channels = pipeline.unet.config.in_channels
    mean_1Chw = torch.from_numpy(batch.latents[:, :channels]).to(pipeline.unet.device).float()
    height, width = (side * pipeline.vae_scale_factor for side in batch.latents.shape[2:])
    (drawn,) = paint(
        pipeline,
        torch.from_numpy(batch.features).float() if model.adapter else None,
        Scene(prompt=texts.of(batch.texts), negative=texts.empty, uncond=model.uncond, size=(width, height)),
        seeds=[seed],
        options=options,
        progress=progress,
    )
    (seen,) = pipeline.decode(latents_of(mean_1Chw, None, scale=pipeline.scale))
    return seen, drawn
