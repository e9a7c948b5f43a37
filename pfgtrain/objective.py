"""What is learnt: noise on latents, what the UNet should say of it, how much a row counts. Pure functions.

Randomness of a global batch comes from one CPU generator seeded by (seed, index of the batch), drawn for all
its rows before they are split over processes: resume stores no generator, and two processes see what one
with twice the batch sees.

Shapes: B rows, C latent channels, h w latent sides, N diffusion timesteps, G adapters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from blake3 import blake3
from torch import Tensor

from pfgdata.errors import ConfigError
from pfgdata.records import Factor, LatentScale

__all__ = [
    "Draw",
    "Dropout",
    "Objective",
    "Posed",
    "add_noise",
    "draw",
    "latents_of",
    "row_losses",
    "seed_of",
    "snr_weights",
    "stored_of",
    "target",
]

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The random part of a global batch, on the CPU."""

    timesteps_B: Tensor  # int64, 0..N-1
    keep_text_B: Tensor  # bool; False: the row is trained with an empty text
    keep_tokens_BG: Tensor  # bool; False: with the pad in place of the tokens of adapter g
    noise_BChw: Tensor  # float32, standard normal
    posterior_BChw: Tensor | None  # float32, standard normal; for latents stored as moments

    def rows(self, part: slice) -> Draw:
        """The rows of one process."""
        return Draw(
            timesteps_B=self.timesteps_B[part],
            keep_text_B=self.keep_text_B[part],
            keep_tokens_BG=self.keep_tokens_BG[part],
            noise_BChw=self.noise_BChw[part],
            posterior_BChw=None if self.posterior_BChw is None else self.posterior_BChw[part],
        )

    def to(self, device: torch.device) -> Draw:
        """The same draws on `device`."""
        return Draw(
            timesteps_B=self.timesteps_B.to(device),
            keep_text_B=self.keep_text_B.to(device),
            keep_tokens_BG=self.keep_tokens_BG.to(device),
            noise_BChw=self.noise_BChw.to(device),
            posterior_BChw=None if self.posterior_BChw is None else self.posterior_BChw.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Shares of rows, 0..1, that lose their condition: text and tokens, the tokens alone, the text alone.

    `own` are further shares, apart from those: of the tokens of each adapter.
    """

    both: float = 0.0
    tokens: float = 0.0
    text: float = 0.0
    own: tuple[float, ...] = (0.0,)


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that is a function of `parts`; unequal parts give unrelated streams."""
    return int.from_bytes(blake3(repr(parts).encode()).digest(length=8), "little") >> 1


def draw(
    *,
    seed: int,
    index: int,
    shape: tuple[int, int, int, int],
    num_timesteps: int,
    dropout: Dropout,
    posterior: bool = False,
) -> Draw:
    """Everything random of global batch `index`, for latents of `shape` [B, C, h, w].

    `posterior` asks for its draws too.
    """
    generator = torch.Generator().manual_seed(seed_of("batch", seed, index))
    timesteps_B = torch.randint(num_timesteps, shape[:1], generator=generator)
    chance_B = torch.rand(shape[0], generator=generator)  # one for all three: a row is of one kind
    both = dropout.both
    without_tokens_B = chance_B < both + dropout.tokens
    without_text_B = (chance_B < both) | (
        (chance_B >= both + dropout.tokens) & (chance_B < both + dropout.tokens + dropout.text)
    )
    return Draw(
        timesteps_B=timesteps_B,
        keep_text_B=~without_text_B,
        keep_tokens_BG=~(without_tokens_B[:, None] | _own_chance(dropout, seed, index, rows=shape[0])),
        noise_BChw=torch.randn(shape, generator=generator),
        posterior_BChw=torch.randn(shape, generator=generator) if posterior else None,
    )


def _own_chance(dropout: Dropout, seed: int, index: int, *, rows: int) -> Tensor:
    """Which adapters lose their own tokens [B, G]; from a generator of its own, so that all else stays."""
    generator = torch.Generator().manual_seed(seed_of("own", seed, index))
    return torch.rand(rows, len(dropout.own), generator=generator) < torch.tensor(dropout.own)


def latents_of(stored: Tensor, posterior_BChw: Tensor | None, *, scale: LatentScale) -> Tensor:
    """Latents [B, C, h, w] for the UNet of what a latent set stores: shifted, then scaled.

    With `posterior_BChw`, `stored` are not means [B, C, h, w] but moments [B, 2C, h, w] (mean, log variance),
    of which a draw is taken.
    """
    if posterior_BChw is None:
        return (stored - _channels(scale.shift, stored)) * _channels(scale.scaling, stored)
    mean, logvar = stored.chunk(2, dim=1)
    std = torch.exp(0.5 * logvar.clamp(-30.0, 20.0))  # the clamp of diffusers' DiagonalGaussianDistribution
    return latents_of(mean + std * posterior_BChw, None, scale=scale)


def stored_of(latents_BChw: Tensor, *, scale: LatentScale) -> Tensor:
    """What a VAE decodes, of the UNet's latents [B, C, h, w]: the inverse of `latents_of`."""
    return latents_BChw / _channels(scale.scaling, latents_BChw) + _channels(scale.shift, latents_BChw)


def _channels(value: Factor, like: Tensor) -> float | Tensor:
    """One number, or one for each channel [C, 1, 1]."""
    if isinstance(value, tuple):
        return torch.tensor(value, dtype=like.dtype, device=like.device)[:, None, None]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Posed:
    """What the UNet is asked of some rows, what it should answer, and how much that counts."""

    noisy_BChw: Tensor
    timesteps_B: Tensor
    target_BChw: Tensor
    weights_B: Tensor  # float32

    def losses(self, prediction_BChw: Tensor) -> Tensor:
        """Each row's loss, weighted by its timestep, float32 [B]."""
        return row_losses(prediction_BChw, self.target_BChw) * self.weights_B


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a run learns to say of noisy latents, over one noise schedule."""

    prediction_type: str
    alphas_cumprod_N: Tensor  # where the latents will be
    snr_gamma: float | None = None  # cap of Min-SNR; None: every timestep weighs the same

    @property
    def num_timesteps(self) -> int:
        """How many there are to draw from, N."""
        return len(self.alphas_cumprod_N)

    def pose(self, latents_BChw: Tensor, chance: Draw) -> Posed:
        """The question of `latents_BChw` that `chance`, on their device, draws. Raises ConfigError."""
        noise_BChw, timesteps_B, alphas_N = chance.noise_BChw, chance.timesteps_B, self.alphas_cumprod_N
        return Posed(
            noisy_BChw=add_noise(latents_BChw, noise_BChw, timesteps_B, alphas_N),
            timesteps_B=timesteps_B,
            target_BChw=target(self.prediction_type, latents_BChw, noise_BChw, timesteps_B, alphas_N),
            weights_B=snr_weights(self.prediction_type, timesteps_B, alphas_N, gamma=self.snr_gamma),
        )


def add_noise(
    latents_BChw: Tensor, noise_BChw: Tensor, timesteps_B: Tensor, alphas_cumprod_N: Tensor
) -> Tensor:
    """sqrt(a) x + sqrt(1 - a) noise, with a the cumulative alpha of each row's timestep."""
    signal, sigma = _signal_and_sigma(timesteps_B, alphas_cumprod_N)
    return signal * latents_BChw + sigma * noise_BChw


def target(
    prediction_type: str,
    latents_BChw: Tensor,
    noise_BChw: Tensor,
    timesteps_B: Tensor,
    alphas_cumprod_N: Tensor,
) -> Tensor:
    """What the UNet should answer: the noise, or v = sqrt(a) noise - sqrt(1 - a) x (arXiv 2202.00512)."""
    if prediction_type == "epsilon":
        return noise_BChw
    if prediction_type == "v_prediction":
        signal, sigma = _signal_and_sigma(timesteps_B, alphas_cumprod_N)
        return signal * noise_BChw - sigma * latents_BChw
    raise ConfigError(f"prediction_type {prediction_type!r} cannot be trained; use epsilon or v_prediction")


def row_losses(prediction_BChw: Tensor, target_BChw: Tensor) -> Tensor:
    """Mean squared error of each row, float32 [B]."""
    return (prediction_BChw.float() - target_BChw.float()).square().mean(dim=(1, 2, 3))


def snr_weights(
    prediction_type: str, timesteps_B: Tensor, alphas_cumprod_N: Tensor, *, gamma: float | None
) -> Tensor:
    """How much each row's loss counts, float32 [B]: Min-SNR (arXiv 2303.09556), or 1 without `gamma`.

    epsilon: min(snr, gamma) / snr. v_prediction: (min(snr, gamma) + 1) / (snr + 1), which, unlike
    min(snr, gamma) / (snr + 1) of the paper and of diffusers' script, does not fade where there is only
    noise, the steps that lay a picture out.
    """
    if gamma is None:
        return torch.ones_like(timesteps_B, dtype=torch.float32)
    alpha_B = alphas_cumprod_N[timesteps_B].float()
    snr_B = alpha_B / (1.0 - alpha_B)
    if prediction_type == "v_prediction":
        return (snr_B.clamp(max=gamma) + 1.0) / (snr_B + 1.0)
    return (gamma / snr_B).clamp(max=1.0)  # the same as min(snr, gamma) / snr, and 1 at snr = 0


def _signal_and_sigma(timesteps_B: Tensor, alphas_cumprod_N: Tensor) -> tuple[Tensor, Tensor]:
    alpha_B111 = alphas_cumprod_N[timesteps_B].float()[:, None, None, None]
    return alpha_B111.sqrt(), (1.0 - alpha_B111).sqrt()
