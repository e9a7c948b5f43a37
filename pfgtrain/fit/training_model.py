"""What learns: the UNet (or some of it, or a LoRA on it) and the adapter, as one module and as parts.

What learns stays float32, or bf16 where the UNet is to be that; frozen layers are held in `mixed_precision`'s
dtype. The UNet is in train mode, without which diffusers ignores gradient checkpointing.

Shapes: B rows, F width of all features side by side, K tokens, D context width, C latent channels, h w
latent sides, G adapters.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from pfgdata.errors import RunError
from pfgdata.vaes import base_geometry
from pfgtrain.adapter import PFGMLP, PFGAdapter, PFGLinear, PFGSeveral, Uncond, conditional_rows
from pfgtrain.base import Base, Family
from pfgtrain.checkpoint import ADAPTER_FILE, LORA_FILE, UNET_FILE
from pfgtrain.condition import Condition
from pfgtrain.config import AdapterPlan, FitConfig
from pfgtrain.fit.data import Inputs
from pfgtrain.lora import add_lora, lora_header, lora_parameters, unet_part
from pfgtrain.objective import Draw, seed_of
from pfgtrain.optim import Part

__all__ = ["TrainingModel", "build_training_model", "choose_attention", "frozen_dtype", "what_learns"]

_FEW_POSITIONS = 1024  # 256 x 256 px at factor 8, where products take 2 MB a head and row; measured at 256
_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TrainingModel(nn.Module):
    """UNet and adapter as one module, so that gradients of both are reduced together."""

    def __init__(
        self, unet: Any, adapter: PFGAdapter | None, *, family: Family, empty: Condition, uncond: Uncond
    ) -> None:
        """`empty` is the empty text's one row, on the device already."""
        super().__init__()
        self.unet = unet
        self.adapter = adapter
        self.family = family
        self.empty = empty
        self.uncond: Uncond = uncond

    def forward(
        self,
        noisy_BChw: Tensor,
        timesteps_B: Tensor,
        text: Condition,
        features_BF: Tensor,
        sizes_B6: Tensor | None,
        chance: Draw,
    ) -> Tensor:
        """The UNet's answer [B, C, h, w]; what a row does not keep is as on generate's unconditional side.

        It keeps its sizes, for generate tells both sides the same.
        """
        tokens_BKD, keep_BK = None, chance.keep_tokens_BG
        if self.adapter is not None:
            tokens_BKD, has_BG = self.adapter.tell(features_BF)
            keep_BK = self.adapter.spread(keep_BK & has_BG)
        condition = conditional_rows(
            text,
            tokens_BKD,
            empty=self.empty,
            keep_text_B=chance.keep_text_B,
            keep_tokens_BK=keep_BK,
            uncond=self.uncond,
        )
        dtype = self.unet.conv_in.weight.dtype
        told = self.family.unet_arguments(condition.to(dtype=dtype), sizes_B6)
        return self.unet(noisy_BChw.to(dtype), timesteps_B, **told).sample


def frozen_dtype(config: FitConfig) -> torch.dtype:
    """In what frozen layers are held."""
    return _DTYPES[config.mixed_precision]


def build_training_model(
    inputs: Inputs, config: FitConfig, *, empty: Condition
) -> tuple[TrainingModel, list[Part]]:
    """The models on the base's device, the fresh parts from the seed, and what of them learns."""
    base = inputs.base
    learns_as = torch.bfloat16 if config.full_bf16 else torch.float32
    unet = base.load_unet(dtype=learns_as if config.train == "unet" else frozen_dtype(config))
    adapter, parts = what_learns(unet, inputs, config)
    unet.train()
    choose_attention(unet, config, device=base.device.type, positions=_positions(inputs))
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    model = TrainingModel(unet, adapter, family=base.family, empty=empty, uncond=config.uncond)
    return model, parts


def choose_attention(unet: Any, config: FitConfig, *, device: str, positions: int) -> None:
    """Take matrix products and a softmax for attention where they are faster than torch's fused kernel.

    On a CPU that kernel's backward pass in bf16 takes a quarter of a training step of the demo's size:
    56 images/s a core, 78 without it (torch 2.13; 45 to 49 in float32). Where the largest latent has many
    `positions` it stays, for it stores no product of all pairs.
    """
    if device == "cpu" and config.mixed_precision == "bf16" and positions <= _FEW_POSITIONS:
        unet.set_attn_processor(AttnProcessor())


def _positions(inputs: Inputs) -> int:
    """Of the largest latent, h x w."""
    factor = base_geometry(inputs.base.folder).factor
    return max((width // factor) * (height // factor) for width, height in inputs.latent_set.info.buckets)


def what_learns(unet: Any, inputs: Inputs, config: FitConfig) -> tuple[PFGAdapter | None, list[Part]]:
    """A fresh adapter, if there is to be one, and the parts that learn, of it and of the base's `unet`.

    `unet` may be an outline. Raises RunError or ConfigError if it has none of the layers that are to learn.
    """
    adapter = _adapter(inputs, config) if inputs.features.num_tokens else None
    parts = []
    if adapter is not None:
        adapter.to(inputs.base.device)
        fixed = dict(adapter.named_buffers())
        parts.append(
            Part(name="adapter", file=ADAPTER_FILE, parameters=dict(adapter.named_parameters()), fixed=fixed)
        )
    learns = _part_of(unet, inputs.base, config)
    return adapter, parts if learns is None else [*parts, learns]


def _part_of(unet: Any, base: Base, config: FitConfig) -> Part | None:
    """What of the UNet, or laid on it, learns; the rest is frozen."""
    unet.requires_grad_(False)
    if config.train == "unet":
        chosen = {n: p for n, p in unet.named_parameters() if unet_part(n, config.unet_blocks)}
        if not chosen:
            raise RunError(
                f"base {base.name}: its UNet has no {config.unet_blocks}; take unet_blocks = 'all'"
            )
        for parameter in chosen.values():
            parameter.requires_grad_(True)
        if not config.full_bf16:
            _hold_frozen(unet, frozen_dtype(config))
        return Part(name="unet", file=UNET_FILE, parameters=chosen)
    if config.train == "lora":
        add_lora(
            unet,
            r=config.r,
            lora_alpha=config.lora_alpha,
            target_modules=config.target_modules,
            blocks=config.unet_blocks,
            seed=seed_of("lora", config.seed),
        )
        header = lora_header(r=config.r, lora_alpha=config.lora_alpha, target_modules=config.target_modules)
        return Part(name="lora", file=LORA_FILE, parameters=lora_parameters(unet), header=header)
    return None


def _hold_frozen(unet: Any, dtype: torch.dtype) -> None:
    """Hold the layers that do not learn in `dtype`; norms stay float32, for not every kernel mixes types."""
    for module in unet.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            own = list(module.parameters(recurse=False))
            if not any(parameter.requires_grad for parameter in own):
                module.to(dtype)


def _adapter(inputs: Inputs, config: FitConfig) -> PFGAdapter:
    """A fresh adapter, or several side by side; what they draw follows from the seed."""
    generator = torch.Generator().manual_seed(seed_of("adapter", config.seed))
    made, first = list[PFGAdapter](), 0
    for plan in inputs.features.adapters:
        spread = _spread(inputs, config, plan, columns=slice(first, first + plan.feature_dim))
        made.append(_one_adapter(inputs, config, plan, spread=spread, generator=generator))
        first += plan.feature_dim
    adapter = made[0] if len(made) == 1 else PFGSeveral(made)
    if config.allow_missing:
        adapter.let_lack()
    return adapter


def _one_adapter(
    inputs: Inputs,
    config: FitConfig,
    plan: AdapterPlan,
    *,
    spread: tuple[Tensor, Tensor] | None,
    generator: torch.Generator,
) -> PFGAdapter:
    shape = (plan.feature_dim, plan.num_tokens, inputs.base.cross_attention_dim)
    if config.adapter_kind == "linear":
        return PFGLinear(*shape, standardization=spread, generator=generator)
    hidden = config.adapter_hidden_dim or plan.feature_dim
    return PFGMLP(*shape, hidden_dim=hidden, standardization=spread, generator=generator)


def _spread(
    inputs: Inputs, config: FitConfig, plan: AdapterPlan, *, columns: slice
) -> tuple[Tensor, Tensor] | None:
    """What its features are standardized by: their mean, their deviation over what each set counts."""
    if inputs.standardization is None or not (config.standardize_features or len(plan.sets) > 1):
        return None
    mean_F, std_F = (part[columns] for part in inputs.standardization)
    counts = zip(plan.weights, plan.sets, strict=True)
    weight_F = torch.cat([torch.full((source.feature_dim,), weight) for weight, source in counts])
    return mean_F, std_F / weight_F
