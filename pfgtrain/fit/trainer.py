"""One optimizer step: its gradient over global batches, and what is left of it. What `fit` drives.

Shapes: B rows of this process, F feature width, K tokens, D context width, T text positions, C latent
channels, h w latent sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_

from pfgdata.errors import ConfigError
from pfgdata.records import NoProgress, Progress
from pfgtrain.batches import Batch
from pfgtrain.checkpoint import (
    EMA_FOLDER,
    Stateful,
    load_training_state,
    save_training_state,
)
from pfgtrain.config import FitConfig, numbers_of
from pfgtrain.fit.data import Inputs
from pfgtrain.fit.ema import MovingAverage
from pfgtrain.fit.guards import require_finite
from pfgtrain.fit.start import Standing, take_init
from pfgtrain.fit.texts import TextSource
from pfgtrain.fit.training_model import TrainingModel, build_training_model
from pfgtrain.objective import (
    Draw,
    Dropout,
    Objective,
    draw,
    latents_of,
)
from pfgtrain.optim import gradient_norm, make_lr_scheduler, make_stepper

__all__ = ["Outcome", "Trainer", "make_accelerator", "with_precision"]


def with_precision(config: FitConfig) -> FitConfig:
    """`config` with `mixed_precision` decided for this machine. Raises ConfigError for fp16 without a GPU."""
    gpu = torch.cuda.is_available()
    if config.mixed_precision == "auto":
        bf16 = config.full_bf16 or (gpu and torch.cuda.is_bf16_supported())
        return replace(config, mixed_precision="bf16" if bf16 else "no")
    if config.mixed_precision == "fp16" and not gpu:
        raise ConfigError('mixed_precision = "fp16" needs a GPU; on the CPU take "no"')
    return config


def make_accelerator(config: FitConfig) -> Accelerator:
    """The process group, device and autocast of a fit; accumulation is ours, for its weights are exact."""
    AcceleratorState._reset_state()  # else a second fit in one process could not have another precision
    plugin = GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False)
    return Accelerator(
        # what is bf16 throughout needs no autocast, which would make its norms float32
        mixed_precision="no" if config.full_bf16 else config.mixed_precision,
        gradient_accumulation_plugin=plugin,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],  # ours never change
        cpu=not torch.accelerator.is_available(),  # else processes on a CPU would not know of each other
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a step, on the device: nobody has waited for it yet."""

    loss: Tensor  # [], this process's share
    norm: Tensor  # [], of all processes' gradient before it was clipped; not finite: the step was skipped
    row_losses: Tensor  # [accumulation x B] of this process's rows
    rows: npt.NDArray[np.int64]  # the numbers of those rows


class Trainer:
    """The models of a run with their optimizer; `step` moves them by one optimizer step."""

    def __init__(
        self,
        inputs: Inputs,
        config: FitConfig,
        *,
        accelerator: Accelerator,
        total_steps: int,
        standing: Standing | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Load what learns: from the checkpoint of `standing`, or from `config.init`."""
        progress = progress or NoProgress()
        base, info = inputs.base, inputs.latent_set.info
        self._accelerator = accelerator
        self._config = config
        self._scale = info.scale
        self._moments = inputs.latent_set.identity.kind == "moments"
        self._objective = Objective(
            prediction_type=base.prediction_type,
            alphas_cumprod_N=base.load_noise_scheduler().alphas_cumprod.to(accelerator.device),
            snr_gamma=config.snr_gamma,
        )
        self._dropout = Dropout(
            both=config.condition_dropout,
            tokens=config.pfg_dropout,
            text=config.caption_dropout_rate,
            own=numbers_of(config.feature_dropout, inputs.features.names, key="feature_dropout", default=0.0),
        )
        self.texts = TextSource(base, config, captions=inputs.captions, progress=progress)
        progress.start("load", total=2, unit="parts", brief=True)  # the models; what stands beside them
        self._model, self._parts = build_training_model(inputs, config, empty=self.texts.empty)
        progress.advance()
        require_finite([("its text encoder's output", self.texts.empty.context)], of=f"base {base.name}")
        require_finite(self._model.unet.named_parameters(), of=f"base {base.name}")
        if standing is not None:
            for part in self._parts:
                part.read(standing.weights)
        elif config.init:
            take_init(config, self._model.adapter, self._parts, inputs=inputs, progress=progress)
            require_finite(self._model.named_parameters(), of=f"init {config.init}")
        self._parameters = [p for part in self._parts for p in part.parameters.values()]
        self._ema = self._moving_average(standing) if config.use_ema else None
        self._steps_done = standing.state.step if standing else 0
        self._stepper = make_stepper(self._parts, config)
        if config.fused_backward_pass:
            self._stepper.step_in_backward()
        optimizer = self._stepper.optimizer
        # the scheduler is not prepared: accelerate's wrapper would step it once for every process
        self._scheduler = make_lr_scheduler(optimizer, config, total_steps=total_steps)
        self._wrapped, self._optimizer = accelerator.prepare(self._model, optimizer)
        progress.advance()
        progress.finish()

    def _moving_average(self, standing: Standing | None) -> MovingAverage:
        """That of the weights as they are, or the one of the checkpoint of `standing`."""
        average = MovingAverage(self._parts, self._config, steps_done=standing.state.step if standing else 0)
        if standing is not None:
            for part in average.parts:
                part.read(standing.weights / EMA_FOLDER)
        return average

    @property
    def model(self) -> TrainingModel:
        """The models, not wrapped for several processes."""
        return self._model

    @property
    def trainable(self) -> dict[str, int]:
        """The parts that learn and how many numbers of each."""
        return {part.name: part.size for part in self._parts}

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
        return {self._config.peak_rate(g["name"])[0]: g["lr"] for g in self._optimizer.param_groups}

    def step(self, batches: Sequence[Batch]) -> Outcome:
        """One optimizer step over global `batches`; without a finite gradient, weights and moments stay."""
        weight = sum(batch.weight for batch in batches)
        loss = torch.zeros((), device=self._accelerator.device)
        rows = list[Tensor]()
        self._stepper.begin(step=self._steps_done)
        for batch in batches:
            last = batch is batches[-1]
            with nullcontext() if last else self._accelerator.no_sync(self._wrapped):
                chance = self._draw(batch, rows=self._rows_in_all, dropout=self._dropout)
                losses_B = self._row_losses(self._wrapped, batch, chance.rows(self.part))
                weights_B = torch.from_numpy(batch.weights).to(losses_B.device)
                share = (losses_B * weights_B).sum() / weight
                # gradients are averaged over processes, but each holds its own rows of one sum
                self._accelerator.backward(share * self._accelerator.num_processes)
            loss += share.detach()
            rows.append(losses_B.detach())
        norm = self._move()
        self._steps_done += 1
        self._scheduler.step()
        self._stepper.zero_grad()
        if self._ema is not None:
            self._ema.step()
        numbers = np.concatenate([batch.rows for batch in batches])
        return Outcome(loss=loss, norm=norm, row_losses=torch.cat(rows), rows=numbers)

    def read_losses(self, outcomes: Sequence[Outcome]) -> tuple[list[float], list[float]]:
        """The losses of steps, summed over processes, and their gradients' norms. Waits for the device."""
        losses = self._accelerator.reduce(torch.stack([one.loss for one in outcomes]), "sum")
        norms = torch.stack([one.norm for one in outcomes])
        return cast("list[float]", losses.tolist()), cast("list[float]", norms.tolist())

    def rows_not_finite(self, outcome: Outcome) -> list[int]:
        """The numbers of the rows of a step, over all processes, whose loss is not finite. Waits."""
        wrong = ~outcome.row_losses.isfinite()
        rows = torch.from_numpy(outcome.rows).to(wrong.device)
        mine = torch.where(wrong, rows, torch.full_like(rows, -1))
        found = self._accelerator.gather(mine).tolist()
        return sorted({row for row in found if row >= 0})

    @torch.no_grad()
    def probe(
        self, batch: Batch, *, quantiles: npt.NDArray[np.float64], progress: Progress | None = None
    ) -> list[float]:
        """The row losses of `batch`, all rows conditioned, at timesteps `quantiles` (0..1) [B].

        Equal weights give an equal answer: nothing but `batch.index` and the seed decides the noise, for it
        is drawn for all rows before they are cut into forward passes of train_batch_size.
        """
        timesteps = torch.from_numpy(quantiles * self._objective.num_timesteps).long()
        chance = replace(self._draw(batch, rows=len(quantiles), dropout=Dropout()), timesteps_B=timesteps)
        losses, size = list[float](), self._config.train_batch_size
        for part in (slice(first, first + size) for first in range(0, len(quantiles), size)):
            with self._accelerator.autocast():
                found = self._row_losses(self._model, batch.part(part), chance.rows(part)).tolist()
            losses += found
            (progress or NoProgress()).advance(len(found))
        return losses

    def averaged(self) -> Any:
        """A context in which the moving average, if there is one, stands where the weights do."""
        return self._ema.in_place() if self._ema is not None else nullcontext()

    def autocast(self) -> Any:
        """The context of a forward pass outside `step`."""
        return self._accelerator.autocast()

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
        """Write what has learnt, its average, and the states to go on from, into a checkpoint's folder."""
        for part in self._parts:
            part.write(folder)
        if self._ema is not None:
            (folder / EMA_FOLDER).mkdir()
            for part in self._ema.parts:
                part.write(folder / EMA_FOLDER)
        save_training_state(folder, self._states())

    def load_states(self, folder: Path) -> None:
        """Put the optimizer and its companions back to the checkpoint `folder`; its weights are already."""
        load_training_state(folder, self._states())

    def _move(self) -> Tensor:
        """Move the weights; the norm of the gradient before it is clipped, if it is, on the device."""
        if self._config.fused_backward_pass:  # done already
            return self._stepper.taken_norm()
        self._accelerator.unscale_gradients()
        norm = gradient_norm(self._parameters)
        if self._config.max_grad_norm:
            clip_grads_with_norm_(self._parameters, self._config.max_grad_norm, norm)
        if self._accelerator.scaler is None:
            self._stepper.step(norm)
        else:  # fp16: its scaler does the same
            self._optimizer.step()
        return norm

    @property
    def _rows_in_all(self) -> int:
        return self._config.train_batch_size * int(self._accelerator.num_processes)

    def _draw(self, batch: Batch, *, rows: int, dropout: Dropout) -> Draw:
        channels, height, width = batch.latents.shape[1:]
        return draw(
            seed=self._config.seed,
            index=batch.index,
            shape=(rows, channels // 2 if self._moments else channels, height, width),
            num_timesteps=self._objective.num_timesteps,
            dropout=dropout,
            posterior=self._moments,
        )

    def _row_losses(self, model: Any, batch: Batch, chance: Draw) -> Tensor:
        """Each row's loss [B], weighted by its timestep."""
        chance = chance.to(self._accelerator.device)
        latents_BChw = latents_of(self._on_device(batch.latents), chance.posterior_BChw, scale=self._scale)
        posed = self._objective.pose(latents_BChw, chance)
        prediction_BChw = model(
            posed.noisy_BChw,
            posed.timesteps_B,
            self.texts.of(batch.texts),
            self._on_device(batch.features),
            self._on_device(batch.sizes) if batch.sizes is not None else None,
            chance,
        )
        return posed.losses(prediction_BChw)

    def _on_device(self, array: npt.NDArray[np.float16] | npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self._accelerator.device).float()

    def _states(self) -> dict[str, Stateful]:
        states: dict[str, Stateful] = {"optimizer": self._optimizer, "lr_scheduler": self._scheduler}
        if self._accelerator.scaler is not None:  # fp16
            states["scaler"] = self._accelerator.scaler
        return states
