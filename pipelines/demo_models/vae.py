"""The demo VAE: diffusers' AutoencoderKL at factor 8, 128 px pictures to latents 16x16xC.

It is trained as a plain autoencoder with a little noise on the latent, and its latents are normalised per
channel only at export, where mean and scale are folded into the two quant convolutions: so scaling_factor
is 1 and true.
Shapes: B pictures, C latent channels (4 in the shipped one), S side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pfgdata.hub import resolve
from pipelines.demo_models import augment, data
from pipelines.demo_models.adversary import Adversary
from pipelines.demo_models.loop import LoopRecipe, epoch_indices
from pipelines.demo_models.nets import normalise
from pipelines.demo_models.perceptual import SeenMaps, seen_distance
from pipelines.demo_models.split import Split
from pipelines.demo_models.widen import widened

SIZE = 128  # px of the portraits
HELD_OUT = 200  # pictures measured during training, one view of each unseen character
UNET_NOISE = 0.1  # deviations of a channel; measured beside the clean latents, which no UNet hits


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeRecipe:
    """Widths of the four levels (three halvings: factor 8), the noise on the latent, and the loop."""

    widths: tuple[int, ...]
    latent_channels: int = 4  # as Stable Diffusion's
    start: str = ""  # a base whose VAE it goes on from, which may have fewer latent channels
    bfloat16: bool = False  # in training: twice as fast on a CPU with AMX, many times slower without
    spread_learns: bool = False  # see `noise_like`
    noise: float = 0.02  # of a latent channel's standard deviation
    most_noise: float = 0.25  # a picture's noise is anything up to this, in place of `noise`, ...
    most_noise_from: int = 0  # ... from this step on: see `noise_of`
    chroma: float = 2.0  # weight of `chroma_distance` in the loss ...
    chroma_from: int = 0  # ... from this step on
    colour: float = 0.5  # weight of `unexplained_colour` in the loss ...
    colour_from: int = 0  # ... from this step on
    frozen_encoder: bool = False  # the latents stay what a UNet has learnt: only the decoder learns
    perceptual: float = 0.0  # weight of `seen_distance` in the loss
    adversarial: float = 0.0  # share of an `Adversary`, for a decoder that has learnt
    loop: LoopRecipe

    def config(self) -> dict[str, Any]:
        """Arguments of diffusers' AutoencoderKL, which are also the exported config.json."""
        levels = len(self.widths)
        return {
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": tuple(self.widths),
            "layers_per_block": 1,
            "latent_channels": self.latent_channels,
            "norm_num_groups": math.gcd(8, *self.widths),
            "mid_block_add_attention": False,  # costs more here than it gives: 16x16 places only
            "sample_size": SIZE,
            "scaling_factor": 1.0,
        }


class Codec(nn.Module):
    """An AutoencoderKL used as an autoencoder: the mean of its moments, noise, and back."""

    def __init__(self, recipe: VaeRecipe) -> None:
        super().__init__()
        from diffusers import AutoencoderKL

        torch.manual_seed(recipe.loop.seed)
        self.channels = recipe.latent_channels
        self.in_bfloat16 = recipe.bfloat16
        self.vae = AutoencoderKL(**recipe.config())
        if recipe.start:
            folder = resolve(recipe.start, what="base").folder / "vae"
            narrow = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
            self.vae.load_state_dict(widened(narrow.state_dict(), self.vae.state_dict()))
        if recipe.frozen_encoder:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)

    def encode(self, x: Tensor) -> Tensor:
        """Latents [B, C, S/8, S/8], not normalised, of pictures in -1..1 [B, 3, S, S]."""
        with self._precision(x):
            return self.vae.quant_conv(self.vae.encoder(x))[:, : self.channels].float()

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents; about -1..1, not clamped."""
        with self._precision(latents):
            return self.vae.decoder(self.vae.post_quant_conv(latents)).float()

    def _precision(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.in_bfloat16 and self.training)


class VaeTask:
    """Reconstruction of the training characters' portraits, measured on characters never seen."""

    def __init__(
        self, rows: Sequence[data.Row], pictures: data.Pictures, *, recipe: VaeRecipe, device: torch.device
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.pictures = pictures
        self.learn = np.array([n for n, row in enumerate(rows) if row.role == "train"])
        held = [n for n, row in enumerate(rows) if row.role == "validation"]
        self.held = np.array(held)[:: max(1, len(held) // HELD_OUT)]
        self.model: Codec = Codec(recipe).to(device)
        self.maps = SeenMaps().to(device) if recipe.perceptual else None
        self.beside = _adversary(recipe, device)

    def loss(self, step: int) -> Tensor:
        """See `distance`; noise of a global step is random by (seed, step) alone."""
        loop = self.recipe.loop
        weights = np.ones(len(self.learn), np.int64)
        chosen = self.learn[epoch_indices(step, batch_size=loop.batch_size, weights=weights, seed=loop.seed)]
        dice = augment.generator(loop.seed, step, self.device)
        truth = self.truth(chosen)
        latents = self.model.encode(truth)
        noise = noise_like(latents if self.recipe.spread_learns else latents.detach(), dice)
        drawn = self.model.decode(latents + noise * self.noise_of(step, len(chosen), dice))
        found = distance(drawn, truth)
        if step >= self.recipe.chroma_from:
            found = found + self.recipe.chroma * chroma_distance(drawn, truth)
        if step >= self.recipe.colour_from and not self.recipe.frozen_encoder:
            found = found + self.recipe.colour * unexplained_colour(latents, truth)
        if self.maps is not None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
                found = found + self.recipe.perceptual * seen_distance(self.maps, drawn, truth)
        if self.beside is not None:
            last = self.model.vae.decoder.conv_out.weight
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
                found = found + self.beside.term(drawn, truth, found=found, last=last)
        return found

    def noise_of(self, step: int, count: int, dice: torch.Generator) -> Tensor:
        """Deviation [B, 1, 1, 1] of the noise of each picture's latent, in deviations of its channel.

        A UNet never hits a latent exactly. Trained with 0.02 alone, the decoder made 26.9 dB of clean
        latents, 23.4 at 0.1 and 19.4 at 0.2: a UNet's pictures were mosaics of wrong 8x8 cells (tried).
        """
        if step < self.recipe.most_noise_from:
            return torch.full((count, 1, 1, 1), self.recipe.noise, device=self.device)
        return self.recipe.most_noise * torch.rand((count, 1, 1, 1), generator=dice, device=self.device)

    def truth(self, which: np.ndarray) -> Tensor:
        """Pictures [n, 3, S, S] in -1..1 by their numbers."""
        return normalise(torch.from_numpy(self.pictures[which]).to(self.device))

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Decibels (mean over pictures; peak 1 of 0..1) and the error of each 8x8 mean colour, 0..255.

        `psnr_noisy` is with UNET_NOISE on the latents.
        """
        assert isinstance(model, Codec)
        dice = augment.generator(self.recipe.loop.seed, 0, self.device)
        decibels, noisy, colours = [], [], []
        for part in np.array_split(self.held, max(1, len(self.held) // 16)):
            truth = self.truth(part)
            latents = model.encode(truth)
            drawn = model.decode(latents).clamp(-1, 1)
            decibels.append(psnr(drawn, truth))
            worse = model.decode(latents + UNET_NOISE * noise_like(latents, dice)).clamp(-1, 1)
            noisy.append(psnr(worse, truth))
            colours.append(F.avg_pool2d(drawn - truth, 8).abs().mean((1, 2, 3)) * 127.5)
        return {
            "psnr": float(torch.cat(decibels).mean()),
            "psnr_noisy": float(torch.cat(noisy).mean()),
            "colour_error": float(torch.cat(colours).mean()),
        }


def _adversary(recipe: VaeRecipe, device: torch.device) -> Adversary | None:
    if not recipe.adversarial:
        return None
    torch.manual_seed(recipe.loop.seed)
    made = Adversary(share=recipe.adversarial)
    made.net.to(device)
    return made


def noise_like(latents_BCHW: Tensor, dice: torch.Generator) -> Tensor:
    """Normal noise, of the deviation that the latents have in each channel.

    If the loss does not know that a larger latent has larger noise, channels grow for nothing: tenfold in 600
    steps, and new channels that had begun small were left behind (tried).
    """
    noise = torch.randn(latents_BCHW.shape, generator=dice, device=latents_BCHW.device)
    return latents_BCHW.std((0, 2, 3), keepdim=True) * noise


def psnr(drawn: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture [B], both in -1..1."""
    return 10 * torch.log10(4 / (drawn - truth).pow(2).mean((1, 2, 3)).clamp(min=1e-8))


def distance(drawn: Tensor, truth: Tensor) -> Tensor:
    """L1 + 2 MSE + L1 of gradients + 2 MSE of 8x8 means; without the last all hue was lost (tried)."""
    off = drawn - truth
    edges = (off[..., 1:] - off[..., :-1]).abs().mean() + (off[..., 1:, :] - off[..., :-1, :]).abs().mean()
    return off.abs().mean() + 2 * off.pow(2).mean() + edges + 2 * F.avg_pool2d(off, 8).pow(2).mean()


def chroma_distance(drawn: Tensor, truth: Tensor) -> Tensor:
    """L1 of the 4x4 means of red against green and of blue against both.

    Brightness outweighs hue in every other term: without this one, purple, green and pink were still drawn as
    grey, blue and orange at 20 dB, 5,000 pictures into training (tried).
    """
    _, red_green, blue_yellow = opponents(F.avg_pool2d(drawn - truth, 4)).unbind(1)
    return red_green.abs().mean() + blue_yellow.abs().mean()


def opponents(pictures_B3SS: Tensor) -> Tensor:
    """Brightness, red against green, blue against both: the same shape."""
    red, green, blue = pictures_B3SS.unbind(1)
    return torch.stack([(red + green + blue) / 3, red - green, blue - (red + green) / 2], 1)


def unexplained_colour(latents_BCHW: Tensor, truth: Tensor) -> Tensor:
    """The share of the 8x8 mean colours' variance that no linear map of the latents gives; summed, 0..3.

    An encoder that drops a hue gives its decoder nothing to learn the hue from, so a loss on the drawing
    alone did not bring it back in 800 pictures; this one asks the encoder directly. It has no weights: the
    batch's best linear map is solved for.
    """
    x = latents_BCHW.transpose(0, 1).flatten(1)
    y = opponents(F.avg_pool2d(truth, 8)).transpose(0, 1).flatten(1)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    y = y - y.mean(1, keepdim=True)
    ridge = 1e-3 * x.shape[1] * torch.eye(len(x), device=x.device)
    fitted = (y @ x.T) @ torch.linalg.solve(x @ x.T + ridge, x)
    return ((y - fitted).pow(2).mean(1) / y.pow(2).mean(1).clamp(min=1e-4)).sum()


def load_task(root: Path, out: Path, *, recipe: VaeRecipe, split: Split, device: torch.device) -> VaeTask:
    """The task on the portraits below `root`, cached in `out/cache`."""
    rows = data.portrait_rows(root, split)

    def prepare(content: bytes) -> data.Pictures:
        return data.plain_square(content, size=SIZE)

    pictures = data.load_pictures(rows, out / "cache" / "portraits-128.npy", prepare=prepare)
    return VaeTask(rows, pictures, recipe=recipe, device=device)
