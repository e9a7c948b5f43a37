"""A base: a checkpoint of a known family as a diffusers folder, its parts loaded when asked for.

What a base is follows from its configs alone, before any weight is read.
diffusers fills weights that a file lacks with random numbers and only logs it; here that is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pfgdata.errors import IdentityError, ModelError
from pfgdata.hub import resolve
from pfgdata.paths import user_path
from pfgdata.records import LatentScale, Progress
from pfgdata.vaes import latent_scale, load_autoencoder, state_digest, weights_options
from pfgtrain.base.configs import (
    PredictionType,
    context_width,
    noise_schedule,
    read_config,
    scheduled_prediction,
)
from pfgtrain.base.families import Family
from pfgtrain.base.known import family_of
from pfgtrain.base.prompts import TextModels
from pfgtrain.base.weights import fingerprint, lay_over, or_model_error
from pfgtrain.checkpoint import RunRecord, find_checkpoint, is_run, weights_folder

__all__ = ["SAMPLER", "Base", "require_same_base", "require_same_width"]

SAMPLER = {"sampler": "DPM++ 2M", "schedule": "Simple"}  # `load_sampler`'s, in A1111's words


@dataclass(frozen=True, kw_only=True)
class Base:
    """A checkpoint whose parts load from `folder` and nowhere else, to `device`."""

    name: str  # an absolute folder, file or run, a hub id, or 'demo': finds it again from anywhere
    folder: Path
    revision: str | None  # the hub's commit, a run's checkpoint; None for a folder or file
    family: Family
    cross_attention_dim: int  # width of the context: 768 for SD1, 1024 for SD2, 2048 for SDXL
    latent_channels: int
    prediction_type: PredictionType
    text_layers: int  # of the first text encoder; its hidden layer of this number is the last
    text_layer: int  # the hidden layer of it that is read: the family's, or a run's
    overlays: tuple[Path, ...]  # folders of weights laid over the UNet's, in order: a base may be a run
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
        config: Path | None = None,
        progress: Progress | None = None,
    ) -> Base:
        """Find the base called `name` and check its configs; its weights will load to the CPU, in float32.

        `revision` is a hub's, or a run's checkpoint; `prediction_type` overrules what the scheduler's config
        says; `config` is a diffusers folder with what a single file lacks. Raises ModelNotFoundError if it is
        not here, ModelError if a part is missing or it is of no known family, RunError for a run without
        weights.
        """
        if is_run(path := user_path(name)):
            run = path.absolute()
            return cls._of_run(run, revision, prediction_type, config=config, progress=progress)
        resolved = resolve(name, what="base", revision=revision, config=config, progress=progress)
        folder = resolved.folder
        family = family_of(folder, name=resolved.name)
        unet = read_config(folder, "unet")
        texts = [read_config(folder, part) for part in family.facts.text_encoders]
        layers = int(texts[0].get("num_hidden_layers", 12))  # class default
        width = context_width(unet, texts, where=folder)
        channels = read_config(folder, "vae").get("latent_channels", 4)  # diffusers' default
        if unet.get("in_channels", 4) != channels:
            raise ModelError(
                f"{folder}: the UNet takes {unet.get('in_channels')} channels, the VAE makes {channels};"
                " inpainting and depth models are not supported"
            )
        return cls(
            name=resolved.name,
            folder=folder,
            revision=resolved.revision,
            family=family,
            cross_attention_dim=width,
            latent_channels=channels,
            prediction_type=prediction_type or scheduled_prediction(folder),
            text_layers=layers,
            text_layer=layers + 1 - (family.clip_skip or 1),
            overlays=(),
            untrained=(folder / "UNTRAINED").exists(),
            device=torch.device("cpu"),
            dtype=torch.float32,
        )

    @classmethod
    def _of_run(
        cls,
        run: Path,
        checkpoint: str | None,
        prediction_type: PredictionType | None,
        *,
        config: Path | None,
        progress: Progress | None,
    ) -> Base:
        """The base of `run` with what that run has learnt of the UNet laid over it, its average if any."""
        record = RunRecord.read(run)
        weights = find_checkpoint(run, checkpoint or "latest")
        kind = prediction_type or record.prediction_type
        below = cls.load(
            record.base_name,
            revision=record.base_revision,
            prediction_type=kind,
            config=config,
            progress=progress,
        )
        require_same_base(below, record, where=f"run {run}")
        return replace(
            below,
            name=str(run),
            revision=weights.name,
            text_layer=record.text_layer,
            overlays=(*below.overlays, weights_folder(weights, record, progress=progress)),
            untrained=below.untrained and record.train == "adapter",
        )

    def load_unet(self, *, weights: Path | None = None, dtype: torch.dtype | None = None) -> Any:
        """The UNet2DConditionModel in eval mode, with what a checkpoint's folder `weights` holds laid over.

        A LoRA there is merged in. Raises ModelError or RunError if it is of another UNet.
        """
        from diffusers import UNet2DConditionModel

        unet = self._load(
            UNet2DConditionModel.from_pretrained, self.folder / "unet", dtype=dtype or self.dtype
        )
        for folder in (*self.overlays, *([weights] if weights else [])):
            lay_over(unet, folder)
        return unet

    def unet_outline(self) -> Any:
        """The UNet2DConditionModel as its config has it, on the meta device: names and shapes, no weights."""
        from diffusers import UNet2DConditionModel

        config = read_config(self.folder, "unet")
        with torch.device("meta"):
            return or_model_error(
                lambda: UNet2DConditionModel.from_config(config), where=self.folder / "unet"
            )

    def load_vae(self, *, digest: str | None = None) -> Any:
        """The AutoencoderKL, frozen, always float32: Waifu Diffusion 1.4's overflows in float16.

        Raises IdentityError if `digest` is given and not its.
        """
        folder = self.folder / "vae"
        vae = load_autoencoder(folder)
        if digest is not None and state_digest(vae.state_dict()) != digest:
            raise IdentityError(f"{folder}: not the VAE of the run's latents; name the run's own base")
        return vae.to(self.device)

    def load_text(self, *, dtype: torch.dtype = torch.float32) -> TextModels:
        """The tokenizers and text encoders, frozen; float32 by default, for they run once per prompt."""
        return self.family.load_text(self, dtype=dtype)

    def load_text_encoder(self, part: str = "text_encoder", *, dtype: torch.dtype = torch.float32) -> Any:
        """The CLIPTextModel of `part`, or the CLIPTextModelWithProjection, in eval mode."""
        return self._load(self._text_class(part).from_pretrained, self.folder / part, dtype=dtype)

    def text_outlines(self) -> list[Any]:
        """The text encoders as their configs have them, on the meta device: shapes, no weights."""
        from transformers import CLIPTextConfig

        parts = self.family.facts.text_encoders
        with torch.device("meta"):
            return [
                self._text_class(part)(CLIPTextConfig(**read_config(self.folder, part))) for part in parts
            ]

    def _text_class(self, part: str) -> Any:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        return CLIPTextModelWithProjection if part in self.family.facts.projects else CLIPTextModel

    def load_tokenizer(self, part: str = "tokenizer") -> Any:
        """The CLIPTokenizer of `part`."""
        from transformers import CLIPTokenizer

        folder = self.folder / part
        return or_model_error(
            lambda: CLIPTokenizer.from_pretrained(folder, local_files_only=True), where=folder
        )

    def load_noise_scheduler(self) -> Any:
        """The DDPMScheduler that adds noise in training, of the base's betas and `prediction_type`."""
        from diffusers import DDPMScheduler

        noise = noise_schedule(read_config(self.folder, "scheduler"))
        return DDPMScheduler(**noise, prediction_type=self.prediction_type)

    def load_sampler(self) -> Any:
        """The scheduler for generation: `SAMPLER`, of the base's betas and `prediction_type`."""
        from pfgtrain.base.sampler import DPM2M

        noise = noise_schedule(read_config(self.folder, "scheduler"))
        return DPM2M.of(noise, prediction_type=self.prediction_type)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that tell two bases of one name apart; a float16 copy has those of the original.

        Of the weights that any fine-tune moves, for reading all 3.4 GB of a UNet would take seconds.
        """
        return fingerprint(self.folder, read_config(self.folder, "scheduler"), self.overlays)

    @property
    def says_v(self) -> bool:
        """Whether it says itself that its UNet predicts v, and is not of a family whose files keep silent."""
        ends_in_noise = bool(read_config(self.folder, "scheduler").get("rescale_betas_zero_snr"))
        told = self.family.facts.one_prediction and scheduled_prediction(self.folder) == "v_prediction"
        return ends_in_noise or told

    @property
    def scale(self) -> LatentScale:
        """What makes the UNet's latents of the VAE's."""
        return latent_scale(read_config(self.folder, "vae"))

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The base's scheduler config, with the prediction type in use here."""
        return {**read_config(self.folder, "scheduler"), "prediction_type": self.prediction_type}

    def _load(self, loader: Callable[..., Any], folder: Path, *, dtype: torch.dtype) -> Any:
        """Load one part from `folder` only, complete, to the base's device."""
        model, info = or_model_error(
            lambda: loader(
                folder,
                torch_dtype=dtype,
                **weights_options(folder),
                local_files_only=True,
                output_loading_info=True,
            ),
            where=folder,
        )
        missing = sorted(info["missing_keys"])
        if missing:
            raise ModelError(f"{folder}: {len(missing)} weights are not in the file, {missing[0]} for one")
        return model.to(self.device).eval()


def require_same_base(base: Base, record: RunRecord, *, where: str) -> None:
    """Raise IdentityError unless `base` is the one that the run of `record` was trained on."""
    require_same_width(base.cross_attention_dim, record, name=base.name, where=where)
    if base.scale != record.scale:
        raise IdentityError(
            f"{where} learned on latents of {record.scale}; the VAE of base {base.name}"
            f" says {base.scale}; use the run's own base"
        )
    if base.fingerprint != record.base_fingerprint:
        raise IdentityError(
            f"{where} was trained on base {record.base_name} as it was then ({record.base_fingerprint});"
            f" base {base.name} has other weights ({base.fingerprint}); use the run's own"
        )


def require_same_width(width: int, record: RunRecord, *, name: str, where: str) -> None:
    """Raise IdentityError unless the context of base `name` is as wide as that of the run of `record`."""
    if width != record.cross_attention_dim:
        raise IdentityError(
            f"{where} is of base {record.base_name}, {record.cross_attention_dim} wide;"
            f" base {name} is {width} wide; use the run's own"
        )
