"""Pixels to latents with a Stable Diffusion VAE, and the sizes a base works at.

A latent set belongs to a VAE by the digest of its parameters, not by a name: the same VAE comes alone and
inside many bases. Sizes come from the configs alone, so that no torch is needed for them.

Shapes: B images, H x W pixels, C latent channels, h x w = H x W over the factor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from pfgdata.errors import ModelError, ModelNotFoundError, refused_by_system
from pfgdata.hub import Resolved, resolve
from pfgdata.inference import BatchLimit, is_out_of_memory, run_in_parts
from pfgdata.records import LatentScale, NoProgress, Progress, during_one, factor

if TYPE_CHECKING:
    import torch

__all__ = [
    "BaseGeometry",
    "Vae",
    "base_geometry",
    "latent_scale",
    "load_autoencoder",
    "state_digest",
    "weights_options",
]

_SCALING_FACTOR = 0.18215  # diffusers' default, SD 1 and 2's own value, where a config names none

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseGeometry:
    """The sizes of a base, in pixels but for `factor` and `sample_size`."""

    factor: int  # pixels per latent, a side: 8
    sample_size: int  # latents a side the UNet was made for: 64
    step: int  # sides of pictures are multiples: factor x 2^(UNet downsamplings), 64
    resolution: int  # sample_size x factor: 512


def base_geometry(folder: Path) -> BaseGeometry:
    """The sizes of the diffusers base in `folder`, from vae/config.json and unet/config.json.

    Raises ModelError if one is missing, is no JSON, or does not say.
    """
    unet = _config(folder / "unet" / "config.json")
    factor = _factor(_config(folder / "vae" / "config.json"))
    sample_size, blocks = unet.get("sample_size"), unet["block_out_channels"]
    if not isinstance(sample_size, int):
        raise ModelError(f"{folder}/unet/config.json: no sample_size; not a Stable Diffusion UNet")
    return BaseGeometry(
        factor=factor,
        sample_size=sample_size,
        step=factor * 2 ** (len(blocks) - 1),
        resolution=sample_size * factor,
    )


def latent_scale(config: Mapping[str, Any]) -> LatentScale:
    """What a VAE's config says its latents are shifted and multiplied by for the UNet, as diffusers reads it.

    A mean and a deviation of each channel count only where both are there.
    """
    scaling = float(config.get("scaling_factor") or _SCALING_FACTOR)
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and deviation is not None:
        return LatentScale(scaling=tuple(scaling / float(each) for each in deviation), shift=factor(mean))
    return LatentScale(scaling=scaling, shift=float(config.get("shift_factor") or 0.0))


class Vae:
    """A frozen AutoencoderKL. `untrained`: its weights are random, a demo whose pictures are noise."""

    compute_dtype = "float32"  # in float16 SDXL's VAE overflows; one dtype keeps latent sets comparable

    def __init__(self, model: Any, *, found: Resolved) -> None:
        self.name = found.name
        self.revision = found.revision
        self.folder = found.folder
        self.untrained = (found.folder / "UNTRAINED").exists()
        self.factor = _factor(model.config)
        self.latent_channels = int(model.config["latent_channels"])
        self.scale = latent_scale(model.config)
        self._model = model
        self._limit = BatchLimit()

    @classmethod
    def load(
        cls,
        base: str | Resolved,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        config: Path | None = None,
        progress: Progress | None = None,
    ) -> Vae:
        """Load the VAE of `base`: a base's or a VAE's own folder, a single file, a hub id, or `demo`.

        Of a base's folder only vae/ is needed; a single file is unpacked whole, by the configs of the folder
        `config`. `auto` takes a GPU if there is one. Raises ModelNotFoundError, ModelError.
        """
        progress = progress or NoProgress()
        if isinstance(base, Resolved):
            found = base
        else:
            found = resolve(base, what="vae", config=config, progress=progress)
        inside = found.folder / "vae"
        folder = inside if inside.is_dir() else found.folder
        _config(folder / "config.json")
        with during_one(progress, "load", unit="VAEs"):
            vae = cls(load_autoencoder(folder).to(_device(device)), found=found)
            assert vae.digest  # whoever loads one asks for it next: a second, told with the rest
        return vae

    @property
    def device(self) -> str:
        """Where it computes, as torch names it: cpu, cuda:0."""
        return str(self._model.device)

    @cached_property
    def digest(self) -> str:
        """BLAKE3 of the parameters as float32, under diffusers' keys, sorted; equal for equal VAEs."""
        return state_digest(self._model.state_dict())

    def encode(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Mean and log variance of the posterior, float32 [B, C, h, w], unscaled, of uint8 RGB [B, H, W, 3].

        H and W are multiples of `factor`. Where the device has no memory for B images at once, they and all
        later ones go in smaller batches. Raises ModelError where it has none for one.
        """
        if pixels.dtype != np.uint8 or pixels.shape[1] % self.factor or pixels.shape[2] % self.factor:
            raise ValueError(
                f"pixels are {pixels.dtype} {pixels.shape}; uint8, sides multiples of {self.factor}"
            )
        parts = run_in_parts(self._run, pixels, limit=self._limit, out_of_memory=is_out_of_memory)
        mean, logvar = (np.concatenate(each) for each in zip(*parts, strict=True))
        return mean, logvar

    def _run(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        import torch

        x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._model.device)
        x = x.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with torch.inference_mode():
            posterior = self._model.encode(x).latent_dist
        return posterior.mean.cpu().numpy(), posterior.logvar.cpu().numpy()


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """BLAKE3, hex, of a state dict: per key, sorted, its name, shape and values as little-endian float32."""
    digest = blake3()
    for key in sorted(state):
        values = state[key].detach().float().cpu().contiguous().numpy()
        digest.update(f"{key} {list(values.shape)}\n".encode())
        digest.update(values.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def weights_options(folder: Path) -> dict[str, Any]:
    """What `from_pretrained` is to be told to find a part's weights: in the fp16 variant only, in .bin only.

    Told nothing, diffusers looks for shards of safetensors alone.
    """
    files = [path for path in folder.glob("*model*") if path.suffix in (".safetensors", ".bin")]
    older = bool(files) and all(path.suffix == ".bin" for path in files)
    half = bool(files) and all(".fp16" in path.name for path in files)
    return {"variant": "fp16" if half else None, "use_safetensors": False if older else None}


def load_autoencoder(folder: Path) -> Any:
    """The AutoencoderKL in `folder`, complete, frozen, float32 on the CPU. Raises ModelError."""
    import torch
    from diffusers import AutoencoderKL
    from safetensors import SafetensorError

    try:
        model, info = AutoencoderKL.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            **weights_options(folder),
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as problem:
        reason = refused_by_system(problem) or f"no VAE that diffusers can load: {_one_line(problem)}"
        raise ModelError(f"{folder}: {reason}") from problem
    lacking = [*info["missing_keys"], *info["mismatched_keys"]]
    if lacking:  # diffusers would fill them with random numbers
        raise ModelError(
            f"{folder}: its weights lack {len(lacking)} tensors, {lacking[0]} first; fetch it again"
        )
    return model.eval().requires_grad_(False)


def _device(name: str) -> str:
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ModelError("no CUDA for torch here; install a CUDA build of torch, or use cpu")
    return "cuda" if available and name != "cpu" else "cpu"


def _factor(config: Mapping[str, Any]) -> int:
    """Pixels per latent: every block of the encoder but the last halves the sides."""
    return int(2 ** (len(config["block_out_channels"]) - 1))


def _config(path: Path) -> dict[str, Any]:
    """A part's config.json, with `block_out_channels` in it."""
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"{path} is missing; put a whole diffusers base there, or try --base demo"
        ) from None
    except (OSError, ValueError, RecursionError) as problem:
        reason = refused_by_system(problem) or f"cannot be read: {_one_line(problem)}; fetch it again"
        raise ModelError(f"{path}: {reason}") from problem
    if not isinstance(config, dict) or not config.get("block_out_channels"):
        raise ModelError(f"{path}: no block_out_channels; it belongs to no Stable Diffusion VAE or UNet")
    return config


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())
