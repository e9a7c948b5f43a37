"""A base: a Stable Diffusion 1 or 2 checkpoint as a diffusers folder, its parts loaded when asked for.

What a base is follows from its configs alone, before any weight is read. SD1 and SD2 are told apart by the
UNet's `use_linear_projection`, not by width, so that a small base of its own width has a family too.
diffusers fills weights that a file lacks with random numbers and only logs it; here that is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pfgdata.errors import ConfigError, IdentityError, ModelError
from pfgdata.hub import resolve
from pfgdata.vaes import SCALING_FACTOR, load_autoencoder, state_digest, weights_variant

__all__ = ["Base", "Family", "PredictionType", "onnx_device", "placement"]

Family = Literal["sd1", "sd2"]
PredictionType = Literal["epsilon", "v_prediction"]

_PARTS = {  # what a Stable Diffusion folder holds, and the file that must be there
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}

_DPM_2M = {  # DPM++ 2M as A1111 means it, whatever the base's own scheduler is
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "final_sigmas_type": "zero",
    "thresholding": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
}
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A checkpoint whose parts load from `folder` and nowhere else, to `device`."""

    name: str  # an absolute folder, a hub id, or 'demo': finds it again from anywhere
    folder: Path
    revision: str | None  # the hub's commit; None for a folder
    family: Family
    cross_attention_dim: int  # width of the context: 768 for SD1, 1024 for SD2
    latent_channels: int
    prediction_type: PredictionType
    untrained: bool  # it carries the marker file UNTRAINED: weights from a fixed seed
    device: torch.device
    dtype: torch.dtype  # of the UNet, unless a load asks for another

    @classmethod
    def load(
        cls,
        name: str,
        *,
        revision: str | None = None,
        prediction_type: PredictionType | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Base:
        """Find the base called `name` and check its configs; no weight is read yet.

        `prediction_type` overrules what the scheduler's config says. Raises ModelNotFoundError if it is not
        here, ModelError if a part is missing or it is no SD1 or SD2.
        """
        resolved = resolve(name, what="base", revision=revision)
        if resolved.file:
            raise ModelError(
                f"{resolved.file}: a single file; for now a base is a diffusers folder or a hub id"
            )
        name, folder = resolved.name, resolved.folder
        _require_stable_diffusion(folder, name=name)
        unet, text = _config(folder, "unet"), _config(folder, "text_encoder")
        width = _width(unet, text, where=folder)
        channels = _config(folder, "vae").get("latent_channels", 4)  # diffusers' default
        if unet.get("in_channels", 4) != channels:
            raise ModelError(
                f"{folder}: the UNet takes {unet.get('in_channels')} channels, the VAE makes {channels};"
                " inpainting and depth models are not supported"
            )
        return cls(
            name=name,
            folder=folder,
            revision=resolved.revision,
            family="sd2" if unet.get("use_linear_projection") else "sd1",
            cross_attention_dim=width,
            latent_channels=channels,
            prediction_type=prediction_type or _prediction_type(folder),
            untrained=(folder / "UNTRAINED").exists(),
            device=torch.device(device),
            dtype=dtype,
        )

    def load_unet(self, *, weights: Path | None = None, dtype: torch.dtype | None = None) -> Any:
        """The UNet2DConditionModel in eval mode; `weights` is another folder of one, as a checkpoint has.

        Raises ModelError if that folder's UNet has another context width.
        """
        from diffusers import UNet2DConditionModel

        folder = weights or self.folder / "unet"
        unet = self._load(UNet2DConditionModel.from_pretrained, folder, dtype=dtype or self.dtype)
        if unet.config.cross_attention_dim != self.cross_attention_dim:
            raise ModelError(
                f"{folder}: reads a context {unet.config.cross_attention_dim} wide, base {self.name}"
                f" makes {self.cross_attention_dim}"
            )
        return unet

    def load_vae(self, *, digest: str | None = None) -> Any:
        """The AutoencoderKL, frozen, always float32: Waifu Diffusion 1.4's overflows in float16.

        Raises IdentityError if `digest` is given and not its.
        """
        folder = self.folder / "vae"
        vae = load_autoencoder(folder)
        if digest is not None and state_digest(vae.state_dict()) != digest:
            raise IdentityError(f"{folder}: not the VAE of the run's latents; name the run's own base")
        return vae.to(self.device)

    def load_text_encoder(self, *, dtype: torch.dtype = torch.float32) -> Any:
        """The CLIPTextModel, in eval mode; float32 by default, for it runs once per prompt."""
        from transformers import CLIPTextModel

        return self._load(CLIPTextModel.from_pretrained, self.folder / "text_encoder", dtype=dtype)

    def load_tokenizer(self) -> Any:
        """The CLIPTokenizer."""
        from transformers import CLIPTokenizer

        folder = self.folder / "tokenizer"
        return _or_model_error(
            lambda: CLIPTokenizer.from_pretrained(folder, local_files_only=True), where=folder
        )

    def load_noise_scheduler(self) -> Any:
        """The DDPMScheduler that adds noise in training, of the base's betas and `prediction_type`."""
        from diffusers import DDPMScheduler

        return DDPMScheduler.from_config(self.scheduler_config)

    def load_sampler(self) -> Any:
        """The DPM++ 2M scheduler for generation, of the base's betas and `prediction_type`."""
        from diffusers import DPMSolverMultistepScheduler

        config = self.scheduler_config
        choices: dict[str, Any] = dict(_DPM_2M)
        if config.get("rescale_betas_zero_snr"):
            choices["timestep_spacing"] = "trailing"  # the first step must see pure noise (arXiv 2305.08891)
        return DPMSolverMultistepScheduler.from_config(config, **choices)

    @property
    def scaling_factor(self) -> float:
        """What the VAE's latents are multiplied by for the UNet."""
        return float(_config(self.folder, "vae").get("scaling_factor", SCALING_FACTOR))

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The base's scheduler config, with the prediction type in use here."""
        return {**_config(self.folder, "scheduler"), "prediction_type": self.prediction_type}

    def _load(self, loader: Callable[..., Any], folder: Path, *, dtype: torch.dtype) -> Any:
        """Load one part from `folder` only, complete, to the base's device."""
        model, info = _or_model_error(
            lambda: loader(
                folder,
                torch_dtype=dtype,
                variant=weights_variant(folder),
                local_files_only=True,
                output_loading_info=True,
            ),
            where=folder,
        )
        missing = sorted(info["missing_keys"])
        if missing:
            raise ModelError(f"{folder}: {len(missing)} weights are not in the file, {missing[0]} for one")
        return model.to(self.device).eval()


def placement(device: str | None = None) -> tuple[torch.device, torch.dtype]:
    """Where and in which dtype to generate: a GPU in float16 where there is one, else the CPU in float32.

    Raises ConfigError for a device that is none (cpu, cuda, cuda:N) or is not here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    name = device or ("cuda" if count else "cpu")
    if name not in here:
        kind = "not on this machine, or torch is a CPU build" if _DEVICE.fullmatch(name) else "no device"
        raise ConfigError(f"device {name!r}: {kind}; here there is {', '.join(here)}")
    chosen = torch.device(name)
    return chosen, torch.float16 if chosen.type == "cuda" else torch.float32


def onnx_device(device: str | None) -> Literal["auto", "cpu", "cuda"]:
    """Where the tagger beside `placement(device)` runs; auto where none is named. Raises ConfigError."""
    if device is None:
        return "auto"
    return "cpu" if placement(device)[0].type == "cpu" else "cuda"


def _require_stable_diffusion(folder: Path, *, name: str) -> None:
    """Raise ModelError unless `folder` has the parts of SD1 or SD2, and only those."""
    if (folder / "transformer").is_dir():
        raise ModelError(f"{name}: has a transformer (SD3, Flux and the like); a base is an SD1 or SD2 model")
    if (folder / "text_encoder_2").is_dir():
        raise ModelError(f"{name}: has two text encoders (SDXL), which comes later; use an SD1 or SD2 model")
    missing = [f"{part}/{file}" for part, file in _PARTS.items() if not (folder / part / file).is_file()]
    if missing:
        raise ModelError(
            f"{folder}: no complete Stable Diffusion folder, lacks {', '.join(missing)};"
            " copy the parts from where the model is from"
        )
    if _config(folder, "unet").get("addition_embed_type"):
        raise ModelError(f"{name}: its UNet takes added embeddings (SDXL), which comes later; use SD1 or SD2")
    kind = _config(folder, "text_encoder").get("model_type", "clip_text_model")
    if kind not in ("clip", "clip_text_model"):
        raise ModelError(f"{name}: its text encoder is of type {kind}; SD1 and SD2 have clip_text_model")


def _config(folder: Path, part: str) -> dict[str, Any]:
    """The part's config file as written."""
    path = folder / part / _PARTS[part]
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: no config that can be read ({error})") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: a config is a JSON object")
    return config


def _width(unet: dict[str, Any], text: dict[str, Any], *, where: Path) -> int:
    """The one width of the context. Raises ModelError if the UNet and the text encoder disagree."""
    reads, makes = (
        unet.get("cross_attention_dim", 1280),
        text.get("hidden_size", 512),
    )  # class defaults
    if reads != makes:
        raise ModelError(
            f"{where}: the UNet reads a context {reads} wide, the text encoder makes {makes};"
            " its parts are of two models"
        )
    return int(reads)


def _prediction_type(folder: Path) -> PredictionType:
    """What the scheduler's config says the UNet predicts; epsilon, diffusers' default, if it says nothing."""
    kind = _config(folder, "scheduler").get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise ModelError(f"{folder}: predicts {kind}; epsilon and v_prediction are supported")
    return kind


def _or_model_error(load: Callable[[], Any], *, where: Path) -> Any:
    """The result of `load`, without a bar; what a damaged folder raises becomes one ModelError."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    shows_bars = logging.is_progress_bar_enabled()  # transformers draws one even for a second's load
    logging.disable_progress_bar()
    try:
        return load()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{where}: cannot be loaded ({reason[:160]})") from error
    finally:
        if shows_bars:
            logging.enable_progress_bar()
