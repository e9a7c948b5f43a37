"""A run's LoRA in the names of other programs: diffusers, and kohya's sd-scripts (A1111, ComfyUI, Forge).

Both scale what the layers add by alpha / r. kohya's files hold alpha beside each layer; diffusers' hold it in
the header alone, and a reader that skips the header takes alpha to be r.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from torch import Tensor

from pfgtrain.base import LdmFacts
from pfgtrain.export.ldm import unet_layer_to_ldm
from pfgtrain.lora import LoraFile

__all__ = ["diffusers_lora", "kohya_lora"]

_KOHYA = {"lora_A": "lora_down", "lora_B": "lora_up"}


def diffusers_lora(lora: LoraFile) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header that `pipeline.load_lora_weights` reads."""
    config = {"unet.r": lora.r, "unet.lora_alpha": lora.lora_alpha, "unet.target_modules": lora.modules}
    header = {"format": "pt", LORA_ADAPTER_METADATA_KEY: json.dumps(config, sort_keys=True)}
    return {f"unet.{key}": tensor for key, tensor in lora.state.items()}, header


def kohya_lora(
    lora: LoraFile, *, name: str, ldm: LdmFacts, architecture: str, unet_config: Mapping[str, Any] | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of `lora_unet_*` keys, an alpha for each layer, and the header that web UIs show.

    `architecture` is the base's in Stability's ModelSpec; `unet_config` is asked for where the family's
    LoRAs have LDM's names of layers.
    """

    def layer(module: str) -> str:
        if ldm.lora_layers == "ldm":
            assert unet_config is not None
            module = unet_layer_to_ldm(module, config=unet_config)
        return f"lora_unet_{module.replace('.', '_')}"

    state = {f"{layer(module)}.alpha": torch.tensor(lora.lora_alpha) for module in lora.modules}
    for key, tensor in lora.state.items():
        module, part, leaf = key.rsplit(".", 2)
        state[f"{layer(module)}.{_KOHYA[part]}.{leaf}"] = tensor
    header = {
        "format": "pt",
        "modelspec.architecture": f"{architecture}/lora",
        "ss_base_model_version": ldm.kohya_version,
        "ss_network_alpha": str(lora.lora_alpha),
        "ss_network_dim": str(lora.r),
        "ss_network_module": "networks.lora",
        "ss_output_name": name,
        "ss_v2": str(ldm.is_v2),
    }
    return state, header
