"""Whether what is at hand fits together: latents and base, a run and the fit that goes on with it.

A run goes on only with what it was begun with; this is where another tagger, VAE or selection is found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pfgdata.errors import ConfigError, IdentityError, RunError
from pfgdata.latents import probe_image
from pfgdata.paths import is_text
from pfgdata.records import NoProgress, Progress
from pfgdata.store import require_same_tagger
from pfgdata.vaes import Vae, base_geometry
from pfgtrain.base import Base
from pfgtrain.checkpoint import CheckpointState, RunRecord, is_run
from pfgtrain.config import CONFIG_FILE, FitConfig, load_config
from pfgtrain.fit.data import FitData

__all__ = [
    "require_one_process",
    "require_own_prediction",
    "require_run",
    "require_same_vae",
    "require_whole_model",
    "require_whole_steps",
]

_SPLITTERS = {  # what accelerate launch sets -> what splits the model over processes
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
_SET = ("1", "true", "t", "yes", "y", "on")  # as accelerate reads them
_SAME = 0.005  # of the probe's deviation; bfloat16 weights move it by 0.003, 1 % of noise on each by 0.012


def require_same_vae(data: FitData, base: Base, *, progress: Progress | None = None) -> str:
    """The digest of the base's VAE, which the latents are of.

    Raises IdentityError unless they are, at its scale, and of sides that its UNet can halve. A VAE whose
    weights differ but which makes the same of the set's probe image (a float16 copy) will do, and `progress`
    is told.
    """
    latent_set, folder = data.latent_set, base.folder
    info, vae = latent_set.info, Vae.load(str(folder), device="cpu", progress=progress)
    redo = f"make latents: pfgdata latents {data.path} --base {base.name}"
    wanted, made = np.asarray(info.probe, np.float32), vae.encode(probe_image(vae.factor)[None])[0][0]
    same_shape = wanted.shape == made.shape
    off = float(np.abs(wanted - made).mean() / max(float(made.std()), 1e-6)) if same_shape else np.inf
    if vae.digest != latent_set.identity.vae_digest:
        if off > _SAME:
            raise IdentityError(
                f"latent set {latent_set.id} was made by the VAE of {info.base_name}, base {base.name} has"
                f" another; use --base {info.base_name}, or {redo}"
            )
        (progress or NoProgress()).say(
            f"the VAE of {base.name} has other weights than the one the latents are of, and the same effect"
            f" (off by {off:.2g} of the deviation)"
        )
    elif wanted.size and off > _SAME:
        raise IdentityError(
            f"latent set {latent_set.id}: its probe image comes out otherwise here (off by {off:.2g} of the"
            f" deviation), though the VAE is the same; {redo}"
        )
    if vae.scale != info.scale:  # fit scales by the set's, generate by this
        raise IdentityError(
            f"latent set {latent_set.id} is of {info.base_name}, which has {info.scale}, base {base.name}"
            f" has {vae.scale}; use --base {info.base_name}, or set it right in"
            f" {folder / 'vae' / 'config.json'}"
        )
    step = base_geometry(folder).step
    if latent_set.identity.step % step:
        raise IdentityError(
            f"latent set {latent_set.id} has sides in steps of {latent_set.identity.step} pixels,"
            f" base {base.name} needs {step}; {redo}"
        )
    return vae.digest


def require_own_prediction(base: Base) -> None:
    """Raise ConfigError where epsilon would be learnt by a UNet that is known to predict v."""
    if base.prediction_type == "epsilon" and base.says_v:
        told = base.folder / "scheduler" / "scheduler_config.json"
        raise ConfigError(
            f"base {base.name} predicts v, as {told} says by prediction_type or rescale_betas_zero_snr, and"
            " would unlearn it as epsilon; set prediction_type = 'v_prediction' (--prediction-type)"
        )


def require_one_process(config: FitConfig, processes: int) -> None:
    """Raise ConfigError where each of `processes` would step by its own gradient, in the backward pass."""
    if config.fused_backward_pass and processes > 1:
        raise ConfigError(
            f"fused_backward_pass = true works in one process, here are {processes}; leave it out, or train"
            " in one"
        )


def require_whole_model(environment: Mapping[str, str]) -> None:
    """Raise ConfigError where `environment` asks to split the model over processes, as FSDP and DeepSpeed do.

    The optimizer, clipping and the guard hold the parameters that were there before the split: they would see
    a gradient of 0 and train nothing, without a word (tried with fully_shard).
    """
    for variable, splitter in _SPLITTERS.items():
        if environment.get(variable, "").lower() in _SET:
            raise ConfigError(
                f"{splitter} is asked for ({variable}), and fit holds the whole model in each process; launch"
                " it as DDP (torchrun, or accelerate launch --multi_gpu), and where memory is short take"
                " gradient_checkpointing, full_bf16 with optimizer adafactor, or train = 'lora'"
            )


def require_run(run_dir: Path, record: RunRecord, config: FitConfig, *, resume: bool) -> None:
    """Raise unless `run_dir` is free, or, to `resume`, holds the run that `record` and `config` go on."""
    for path in (run_dir.absolute(), Path(record.store)):
        if not is_text(path):  # safetensors opens no such file, and run.json cannot name it
            raise RunError(f"{path} is not a UTF-8 path; rename the folder to train there, or name another")
    if not resume:
        if is_run(run_dir):
            raise RunError(
                f"{run_dir}: holds a run; go on with it by --resume, or name another folder by --out"
            )
        return
    saved = RunRecord.read(run_dir)
    require_same_tagger(saved.tagger, record.tagger, where=f"run {run_dir}")
    differs = record.differs_from(saved) or config.changed_from(load_config(run_dir / CONFIG_FILE, {}))
    if differs:
        changed = "".join(f" ({one})" for one in record.selections_since(saved))
        raise RunError(
            f"{run_dir}: cannot go on with another {', '.join(differs)}{changed}; resume as it was begun"
            f" ({run_dir / CONFIG_FILE}), or start a new run by --out"
        )


def require_whole_steps(
    run_dir: Path, state: CheckpointState, *, per_epoch: int, batches: int, accumulation: int
) -> None:
    """Raise RunError if the last step of a run that has ended was short and a longer one goes on from it."""
    done = state.epoch * per_epoch + state.position
    if done < state.step * accumulation and batches > done:
        taken = done - (state.step - 1) * accumulation
        raise RunError(
            f"{run_dir}: ended by a step of {taken} instead of {accumulation} batches, and a longer run would"
            " have filled it; start a new run by --out"
        )
