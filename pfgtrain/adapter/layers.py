"""The layers: a feature to context tokens, by one adapter or by several side by side.

Shapes: B batch, F feature width, K tokens, D cross-attention width, G adapters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["ADAPTER_KEYS", "PFGMLP", "AdapterKind", "PFGAdapter", "PFGLinear", "PFGSeveral"]

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
        self.may_lack = False  # True: a feature with a NaN is one that is not there; see `let_lack`
        self.scales: tuple[float, ...] = (1.0,)  # of each adapter's tokens, where pictures are drawn
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
    def groups(self) -> tuple[int, ...]:
        """How many tokens each of the G adapters makes, one after another; they add up to K."""
        return (self.num_tokens,)

    def tell(self, features_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, K, D] of features [B, F], and which adapters had a feature to make theirs of, [B, G].

        Tokens of one that is not there are finite all the same: `torch.where` sends 0 x NaN through others.
        """
        has_B1 = features_BF.new_ones(len(features_BF), 1, dtype=torch.bool)
        if self.may_lack:
            has_B1 = ~features_BF.isnan().any(dim=1, keepdim=True)
            features_BF = features_BF.where(has_B1, 0.0)
        return self(features_BF), has_B1

    def let_lack(self) -> None:
        """Take a feature with a NaN, from now on, for one that is not there."""
        for module in self.modules():
            if isinstance(module, PFGAdapter):
                module.may_lack = True

    def spread(self, mask_BG: Tensor) -> Tensor:
        """What is said of adapters [B, G] said of their tokens [B, K]."""
        columns = zip(mask_BG.split(1, dim=1), self.groups, strict=True)
        return torch.cat([mask_B1.expand(-1, count) for mask_B1, count in columns], dim=1)

    def scaled(self, tokens_BKD: Tensor, scale: float) -> Tensor:
        """Tokens times `scale`, and each adapter's times its own of `scales`."""
        parts = zip(tokens_BKD.split(self.groups, dim=1), self.scales, strict=True)
        return torch.cat([part * (own * scale) for part, own in parts], dim=1)

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


class PFGSeveral(PFGAdapter):
    """Adapters side by side: each reads its own columns of a feature, their tokens follow one another."""

    def __init__(self, adapters: Sequence[PFGAdapter]) -> None:
        first = adapters[0]
        super().__init__(
            sum(one.feature_dim for one in adapters),
            sum(one.num_tokens for one in adapters),
            first.cross_attention_dim,
        )
        self.kind = first.kind
        self.scales = (1.0,) * len(adapters)
        self.adapters = nn.ModuleList(adapters)

    @property
    def each(self) -> tuple[PFGAdapter, ...]:
        """The adapters, in order."""
        return tuple(one for one in self.adapters if isinstance(one, PFGAdapter))

    @property
    def groups(self) -> tuple[int, ...]:
        """How many tokens each of the G adapters makes, one after another; they add up to K."""
        return tuple(one.num_tokens for one in self.each)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Tokens [B, K, D] of features [B, F]."""
        return torch.cat([one(part) for one, part in self._parts(features_BF)], dim=1)

    def tell(self, features_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, K, D] of features [B, F], and which adapters had a feature to make theirs of, [B, G]."""
        tokens, has = zip(*(one.tell(part) for one, part in self._parts(features_BF)), strict=True)
        return torch.cat(tokens, dim=1), torch.cat(has, dim=1)

    def _parts(self, features_BF: Tensor) -> list[tuple[PFGAdapter, Tensor]]:
        parts = features_BF.split([one.feature_dim for one in self.each], dim=1)
        return list(zip(self.each, parts, strict=True))


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer
