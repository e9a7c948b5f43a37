"""One optimizer step: what learns, its optimizer, and the gradient of a step's batches. What `fit` drives.

What learns and its optimizer stay float32; frozen parts are held in `mixed_precision`'s dtype. The UNet is in
train mode, without which diffusers ignores gradient checkpointing.

Shapes: B rows of this process, F feature width, K tokens, D context width, T text positions, C latent
channels, h w latent sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pfgdata.errors import ConfigError
from pfgdata.records import Progress
from pfgdata.store import LatentSet
from pfgtrain.adapter import PFGLinear, Uncond, conditional_rows, load_adapter, save_adapter
from pfgtrain.base import Base
from pfgtrain.batches import Batch
from pfgtrain.checkpoint import (
    ADAPTER_FILE,
    UNET_FOLDER,
    CheckpointState,
    Stateful,
    load_training_state,
    save_training_state,
)
from pfgtrain.config import FitConfig
from pfgtrain.objective import (
    Draw,
    add_noise,
    draw,
    latents_of,
    row_losses,
    seed_of,
    snr_weights,
    target,
)
from pfgtrain.prompts import encode_prompts

__all__ = ["Trainer", "make_accelerator", "with_precision"]

_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def with_precision(config: FitConfig) -> FitConfig:
    """`config` with `mixed_precision` decided for this machine. Raises ConfigError for fp16 without a GPU."""
    gpu = torch.cuda.is_available()
    if config.mixed_precision == "auto":
        return replace(config, mixed_precision="bf16" if gpu and torch.cuda.is_bf16_supported() else "no")
    if config.mixed_precision == "fp16" and not gpu:
        raise ConfigError('mixed_precision = "fp16" needs a GPU; on the CPU take "no"')
    return config


def make_accelerator(config: FitConfig) -> Accelerator:
    """The process group, device and autocast of a fit; accumulation is ours, for its weights are exact."""
    AcceleratorState._reset_state()  # else a second fit in one process could not have another precision
    plugin = GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False)
    return Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_plugin=plugin,
        cpu=not torch.accelerator.is_available(),  # else processes on a CPU would not know of each other
    )


class _Trainee(nn.Module):
    """UNet and adapter as one module, so that gradients of both are reduced together."""

    def __init__(
        self, unet: Any, adapter: PFGLinear, *, prompt_1TD: Tensor, empty_1TD: Tensor, uncond: Uncond
    ) -> None:
        super().__init__()
        self.unet = unet
        self.adapter = adapter
        self.uncond: Uncond = uncond
        self.prompt_1TD: Tensor
        self.empty_1TD: Tensor
        self.register_buffer("prompt_1TD", prompt_1TD, persistent=False)
        self.register_buffer("empty_1TD", empty_1TD, persistent=False)

    def forward(self, noisy_BChw: Tensor, timesteps_B: Tensor, features_BF: Tensor, keep_B: Tensor) -> Tensor:
        """The UNet's answer [B, C, h, w]; rows not kept are conditioned as generate's unconditional side."""
        context_BCD = conditional_rows(
            self.prompt_1TD,
            self.adapter(features_BF),
            empty_BTD=self.empty_1TD,
            keep_B=keep_B,
            uncond=self.uncond,
        )
        dtype = self.unet.dtype
        return self.unet(
            noisy_BChw.to(dtype), timesteps_B, encoder_hidden_states=context_BCD.to(dtype)
        ).sample


class Trainer:
    """The models of a run with their optimizer; `step` moves them by one optimizer step."""

    def __init__(
        self,
        base: Base,
        config: FitConfig,
        *,
        accelerator: Accelerator,
        latent_set: LatentSet,
        feature_dim: int,
        total_steps: int,
        weights: Path | None,
        progress: Progress,
    ) -> None:
        self._accelerator, self._config = accelerator, config
        self._prediction_type = base.prediction_type
        self._scaling_factor = latent_set.info.scaling_factor
        self._moments = latent_set.identity.kind == "moments"
        self._alphas_cumprod_N = base.load_noise_scheduler().alphas_cumprod.to(accelerator.device)
        texts = encode_prompts(base, [config.prompt, ""], progress=progress).to(accelerator.device)
        self._trainee = _Trainee(
            _unet(base, config, weights),
            _adapter(base, config, weights, feature_dim).to(accelerator.device),
            prompt_1TD=texts[:1],
            empty_1TD=texts[1:],
            uncond=config.uncond,
        )
        groups = self._groups()
        self.trainable = {g["name"]: sum(p.numel() for p in g["params"]) for g in groups}
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        optimizer = torch.optim.AdamW(
            groups,
            lr=groups[-1]["lr"],  # each group has its own; get_scheduler's polynomial scales from this
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.adam_weight_decay,
            eps=config.adam_epsilon,
            fused=True,
        )
        self._scheduler = _scheduler(optimizer, config, total_steps=total_steps)  # not prepared: accelerate's
        # wrapper would step it once for every process
        self._model, self._optimizer = accelerator.prepare(self._trainee, optimizer)

    @property
    def is_main(self) -> bool:
        """True in the one process that writes."""
        return bool(self._accelerator.is_main_process)

    @property
    def part(self) -> slice:
        """The rows of a global batch that are this process's."""
        rank, size = self._accelerator.process_index, self._config.train_batch_size
        return slice(rank * size, (rank + 1) * size)

    @property
    def learning_rates(self) -> dict[str, float]:
        """The learning rates of the next step, by the config's names."""
        names = {"adapter": "adapter_learning_rate", "unet": "learning_rate"}
        return {names[group["name"]]: group["lr"] for group in self._optimizer.param_groups}

    def step(self, batches: Sequence[Batch]) -> Tensor:
        """One optimizer step over the global `batches`; this process's share of the loss, on the device.

        It is NaN where the gradient is not finite, but with fp16, whose scaler leaves such a step out.
        """
        weight = sum(batch.weight for batch in batches)
        loss = torch.zeros((), device=self._accelerator.device)
        for batch in batches:
            last = batch is batches[-1]
            with nullcontext() if last else self._accelerator.no_sync(self._model):
                share = self._share(batch) / weight
                # gradients are averaged over processes, but each holds its own rows of one sum
                self._accelerator.backward(share * self._accelerator.num_processes)
            loss += share.detach()
        norm = self._clip()
        if self._accelerator.scaler is None:
            loss += norm * 0.0  # without a wait: 0, or NaN for a norm that is infinite or NaN
        self._optimizer.step()
        self._scheduler.step()
        self._optimizer.zero_grad()
        return loss

    def read_losses(self, losses: Sequence[Tensor]) -> list[float]:
        """The losses of steps, summed over processes. Waits for the device."""
        return cast("list[float]", self._accelerator.reduce(torch.stack(list(losses)), "sum").tolist())

    @torch.no_grad()
    def probe(self, batch: Batch, *, quantiles: npt.NDArray[np.float64]) -> float:
        """The sum of the row losses of `batch`, all rows conditioned, at timesteps `quantiles` (0..1) [B].

        Equal weights give an equal answer: nothing but `batch.index` and the seed decides the noise, for it
        is drawn for all rows before they are cut into forward passes of train_batch_size.
        """
        timesteps = torch.from_numpy(quantiles * len(self._alphas_cumprod_N)).long()
        chance = replace(self._draw(batch, rows=len(quantiles), dropout=0.0), timesteps_B=timesteps)
        total, size = 0.0, self._config.train_batch_size
        for part in (slice(first, first + size) for first in range(0, len(quantiles), size)):
            rows = replace(batch, latents=batch.latents[part], features=batch.features[part])
            with self._accelerator.autocast():
                total += float(self._row_losses(self._trainee, rows, chance.rows(part)).sum())
        return total

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether all that has learnt, and the optimizer's moments, are. Waits for the device."""
        moments = [value for state in self._optimizer.state.values() for value in state.values()]
        held = [*self._parameters, *(value for value in moments if isinstance(value, Tensor))]
        device = self._accelerator.device
        return bool(torch.stack([value.isfinite().all().to(device) for value in held]).all())

    def any_process(self, flag: bool) -> bool:
        """Whether `flag` is true in one of the processes. Waits for the others."""
        if self._accelerator.num_processes == 1:
            return flag
        count = torch.tensor(float(flag), device=self._accelerator.device)
        return bool(self._accelerator.reduce(count, "sum") > 0)

    def wait(self) -> None:
        """Wait until every process is here."""
        self._accelerator.wait_for_everyone()

    def write(self, folder: Path) -> None:
        """Write what has learnt, and the states to go on from, into a checkpoint's folder."""
        save_adapter(self._trainee.adapter, folder / ADAPTER_FILE)
        if self._config.train == "unet":
            self._trainee.unet.save_pretrained(folder / UNET_FOLDER)
        save_training_state(folder, self._states())

    def load_states(self, folder: Path) -> CheckpointState:
        """Put the optimizer and its companions back to the checkpoint `folder`; its weights are already."""
        return load_training_state(folder, self._states())

    def _clip(self) -> Tensor:
        """The norm of the gradient before it is clipped, if it is, on the device."""
        if self._config.max_grad_norm:
            norm = self._accelerator.clip_grad_norm_(self._parameters, self._config.max_grad_norm)
            return cast("Tensor", norm)
        return get_total_norm([p.grad for p in self._parameters if p.grad is not None])

    def _share(self, batch: Batch) -> Tensor:
        """The weighted sum of this process's row losses."""
        chance = self._draw(batch, rows=self._rows_in_all, dropout=self._config.condition_dropout)
        losses_B = self._row_losses(self._model, batch, chance.rows(self.part))
        return (losses_B * torch.from_numpy(batch.weights).to(losses_B.device)).sum()

    @property
    def _rows_in_all(self) -> int:
        return self._config.train_batch_size * int(self._accelerator.num_processes)

    def _draw(self, batch: Batch, *, rows: int, dropout: float) -> Draw:
        channels, height, width = batch.latents.shape[1:]
        return draw(
            seed=self._config.seed,
            index=batch.index,
            shape=(rows, channels // 2 if self._moments else channels, height, width),
            num_timesteps=len(self._alphas_cumprod_N),
            dropout=dropout,
            posterior=self._moments,
        )

    def _row_losses(self, model: Any, batch: Batch, chance: Draw) -> Tensor:
        """Each row's loss [B], weighted by its timestep."""
        chance = chance.to(self._accelerator.device)
        features_BF = self._on_device(batch.features)
        latents_BChw = latents_of(
            self._on_device(batch.latents), chance.posterior_BChw, scaling_factor=self._scaling_factor
        )
        noise_BChw, timesteps_B, alphas = chance.noise_BChw, chance.timesteps_B, self._alphas_cumprod_N
        noisy_BChw = add_noise(latents_BChw, noise_BChw, timesteps_B, alphas)
        prediction_BChw = model(noisy_BChw, timesteps_B, features_BF, chance.keep_B)
        wanted_BChw = target(self._prediction_type, latents_BChw, noise_BChw, timesteps_B, alphas)
        weights_B = snr_weights(self._prediction_type, timesteps_B, alphas, gamma=self._config.snr_gamma)
        return row_losses(prediction_BChw, wanted_BChw) * weights_B

    def _on_device(self, array: npt.NDArray[np.float16]) -> Tensor:
        return torch.from_numpy(array).to(self._accelerator.device).float()

    def _groups(self) -> list[dict[str, Any]]:
        """What learns, each part with its learning rate."""
        config, trainee = self._config, self._trainee
        groups = [("adapter", trainee.adapter, config.adapter_learning_rate)]
        if config.train == "unet":
            groups.append(("unet", trainee.unet, config.learning_rate))
        return [{"name": name, "params": list(part.parameters()), "lr": rate} for name, part, rate in groups]

    def _states(self) -> dict[str, Stateful]:
        states: dict[str, Stateful] = {"optimizer": self._optimizer, "lr_scheduler": self._scheduler}
        if self._accelerator.scaler is not None:  # fp16
            states["scaler"] = self._accelerator.scaler
        return states


def _unet(base: Base, config: FitConfig, weights: Path | None) -> Any:
    """The UNet, of the base or of the checkpoint `weights`, in train mode, frozen unless it learns."""
    learns = config.train == "unet"
    unet = base.load_unet(
        weights=weights / UNET_FOLDER if weights and learns else None,
        dtype=torch.float32 if learns else _DTYPES[config.mixed_precision],
    )
    unet.requires_grad_(learns)
    unet.train()
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return unet


def _adapter(base: Base, config: FitConfig, weights: Path | None, feature_dim: int) -> PFGLinear:
    """The adapter, fresh from the seed or of the checkpoint `weights`."""
    if weights:
        return load_adapter(weights / ADAPTER_FILE, cross_attention_dim=base.cross_attention_dim)
    generator = torch.Generator().manual_seed(seed_of("adapter", config.seed))
    return PFGLinear(feature_dim, config.num_tokens, base.cross_attention_dim, generator=generator)


def _scheduler(optimizer: torch.optim.Optimizer, config: FitConfig, *, total_steps: int) -> Any:
    from diffusers.optimization import get_scheduler

    return get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=total_steps,
        num_cycles=config.lr_num_cycles,
        power=config.lr_power,
    )
