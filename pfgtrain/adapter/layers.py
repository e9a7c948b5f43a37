"""The layers: a feature to context tokens, by one adapter or by several side by side.

Shapes: B batch, F feature width, K tokens, D cross-attention width, G adapters.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["ADAPTER_KEYS", "PFGMLP", "AdapterKind", "PFGAdapter", "PFGLinear"]

AdapterKind = Literal["linear", "mlp"]

ADAPTER_KEYS = (
    "pfg_linear.weight",
    "pfg_linear.bias",
)  # A1111, ComfyUI and radiata load exactly these


class PFGAdapter(nn.Module):
    """Tokens [B, K, D] of features [B, F]; a subclass says how, by `project`.

    `standardization` (mean and deviation, each [F]) is applied to a feature first and never learnt; it goes
    with the weights. Weights begin uniform in +-1/sqrt(fan in), `nn.Linear`'s own start and the original's:
    features of unit variance then give tokens of standard deviation 0.58, where CLIP's final layer norm gives
    about 1. `generator` makes the start reproducible; without one torch's global generator is used.
    """

    kind: AdapterKind

    def __init__(
        self,
        feature_dim: int,
        num_tokens: int,
        cross_attention_dim: int,
        *,
        standardization: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.num_tokens = num_tokens
        self.cross_attention_dim = cross_attention_dim
        self.feature_mean: Tensor | None
        self.feature_std: Tensor | None
        mean, std = standardization or (None, None)
        self.register_buffer("feature_mean", mean)
        self.register_buffer("feature_std", std)

    def project(self, features_BF: Tensor) -> Tensor:
        """The tokens side by side, [B, K * D]."""
        raise NotImplementedError

    def forward(self, features_BF: Tensor) -> Tensor:
        """Tokens [B, K, D] of features [B, F]."""
        if self.feature_mean is not None and self.feature_std is not None:
            features_BF = (features_BF - self.feature_mean) / self.feature_std
        return self.project(features_BF).unflatten(1, (self.num_tokens, self.cross_attention_dim))

    @property
    def device(self) -> torch.device:
        """Where the weights are; diffusers asks every part of a pipeline."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type; diffusers asks every part of a pipeline."""
        return next(self.parameters()).dtype


class PFGLinear(PFGAdapter):
    """The article's: `Linear(F -> K * D)`, whose output row `k * D + d` is token k, channel d."""

    kind = "linear"

    def __init__(
        self,
        feature_dim: int,
        num_tokens: int,
        cross_attention_dim: int,
        *,
        standardization: tuple[Tensor, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(feature_dim, num_tokens, cross_attention_dim, standardization=standardization)
        self.pfg_linear = _linear(feature_dim, num_tokens * cross_attention_dim, generator)

    def project(self, features_BF: Tensor) -> Tensor:
        """The tokens side by side, [B, K * D]."""
        return self.pfg_linear(features_BF)

    def folded(self) -> dict[str, Tensor]:
        """The two keys that every reader knows, float32 on the CPU, the standardization folded into both."""
        weight, bias = (self.state_dict()[key].detach().double().cpu() for key in ADAPTER_KEYS)
        if self.feature_mean is not None and self.feature_std is not None:
            weight = weight / self.feature_std.double().cpu()
            bias = bias - weight @ self.feature_mean.double().cpu()
        return dict(zip(ADAPTER_KEYS, (weight.float().contiguous(), bias.float()), strict=True))

    @torch.no_grad()
    def take_folded(self, state: dict[str, Tensor]) -> None:
        """Take the two keys of another such adapter, so that features give the tokens they gave there."""
        weight, bias = (state[key].double() for key in ADAPTER_KEYS)
        if self.feature_mean is not None and self.feature_std is not None:
            bias = bias + weight @ self.feature_mean.double().cpu()
            weight = weight * self.feature_std.double().cpu()
        self.pfg_linear.weight.copy_(weight)
        self.pfg_linear.bias.copy_(bias)


class PFGMLP(PFGAdapter):
    """The article's future work: `Linear(F -> hidden)`, ReLU, `Linear(hidden -> K * D)`."""

    kind = "mlp"

    def __init__(
        self,
        feature_dim: int,
        num_tokens: int,
        cross_attention_dim: int,
        *,
        hidden_dim: int,
        standardization: tuple[Tensor, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(feature_dim, num_tokens, cross_attention_dim, standardization=standardization)
        self.pfg_mlp = nn.Sequential(
            _linear(feature_dim, hidden_dim, generator),
            nn.ReLU(),
            _linear(hidden_dim, num_tokens * cross_attention_dim, generator),
        )

    def project(self, features_BF: Tensor) -> Tensor:
        """The tokens side by side, [B, K * D]."""
        return self.pfg_mlp(features_BF)


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer
