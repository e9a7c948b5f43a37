"""The adapter: a small layer from a tagger's feature to context tokens, its file, context rows.

Every cross-attention layer of a UNet reads one context, so appending the tokens there once equals the
original's patch of all `to_k` and `to_v`. A row dropped in training and the unconditional row of generation
are made by one function, `unconditional_rows`.

Shapes: B batch, F feature width, K tokens, D cross-attention width, T text positions (77), C = T + K.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pfgdata.errors import RunError, refused_by_system
from pfgdata.files import Disk
from pfgdata.hub import FAMILIES, write_tensors
from pfgtrain.condition import Condition

__all__ = [
    "ADAPTER_KEYS",
    "PFGMLP",
    "AdapterKind",
    "PFGAdapter",
    "PFGLinear",
    "Uncond",
    "append_tokens",
    "conditional_rows",
    "load_adapter",
    "read_shapes",
    "read_tensors",
    "save_adapter",
    "unconditional_pad",
    "unconditional_rows",
]

Uncond = Literal["zeros", "eos"]
AdapterKind = Literal["linear", "mlp"]

ADAPTER_KEYS = (
    "pfg_linear.weight",
    "pfg_linear.bias",
)  # A1111, ComfyUI and radiata load exactly these
_MLP_KEYS = ("pfg_mlp.0.weight", "pfg_mlp.0.bias", "pfg_mlp.2.weight", "pfg_mlp.2.bias")
_MLP_2023 = {  # the names that sd-trainer gave the same layers in March 2023
    "pfg_linear_1.weight": "pfg_mlp.0.weight",
    "pfg_linear_1.bias": "pfg_mlp.0.bias",
    "pfg_linear_2.weight": "pfg_mlp.2.weight",
    "pfg_linear_2.bias": "pfg_mlp.2.bias",
}
_LAYERS = (ADAPTER_KEYS, _MLP_KEYS)  # of each kind, the last two those that make tokens
_WIDTHS = ", ".join(f"{family.title} is {family.width} wide" for family in FAMILIES)
_STANDARDIZATION = ("feature_mean", "feature_std")


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


def append_tokens(text: Condition, tokens_BKD: Tensor) -> Condition:
    """`text` with the context [B, T + K, D]: text first, always."""
    return replace(text, context=torch.cat([text.context, tokens_BKD], dim=1))


def unconditional_pad(context_BTD: Tensor, *, num_tokens: int, uncond: Uncond) -> Tensor:
    """What stands in the tokens' place on the unconditional side, [B, K, D].

    `zeros` is what today's web UIs do, `eos` (K copies of the last text position) what the article did. Zeros
    are not absence: a zero token still takes its share of the softmax.
    """
    if uncond == "eos":
        return context_BTD[:, -1:].expand(-1, num_tokens, -1)
    return context_BTD.new_zeros(len(context_BTD), num_tokens, context_BTD.shape[2])


def unconditional_rows(text: Condition, *, num_tokens: int, uncond: Uncond) -> Condition:
    """The rows that guidance moves away from, context [B, C, D]: `[negative or empty prompt ; pad]`."""
    return append_tokens(text, unconditional_pad(text.context, num_tokens=num_tokens, uncond=uncond))


def conditional_rows(
    text: Condition,
    tokens_BKD: Tensor | None,
    *,
    empty: Condition,
    keep_text_B: Tensor,
    keep_tokens_B: Tensor,
    uncond: Uncond,
) -> Condition:
    """The rows of a training batch, context [B, C, D]: `[text ; tokens]`, either left out where not kept.

    A text left out is the `empty` one, tokens left out are the pad after the row's own text; without both a
    row equals `unconditional_rows(empty)` bit for bit, for `torch.where` chooses, and sends no gradient to
    its tokens. `text` may have one row for all; without an adapter there are no tokens, C = T.
    """
    texts = text.where(keep_text_B, empty)
    if tokens_BKD is None:
        return texts
    pad_BKD = unconditional_pad(texts.context, num_tokens=tokens_BKD.shape[1], uncond=uncond)
    return append_tokens(texts, torch.where(keep_tokens_B[:, None, None], tokens_BKD, pad_BKD))


def save_adapter(adapter: PFGAdapter, path: Path) -> None:
    """Write the adapter's own state, float32, to `path` (.pt or .safetensors), whole or not at all.

    Of a linear one without standardization that is exactly the two keys that every reader knows.
    """
    state = {key: value.detach().float().cpu().contiguous() for key, value in adapter.state_dict().items()}
    if path.suffix == ".safetensors":
        write_tensors(path, state)
    elif path.suffix == ".pt":
        buffer = io.BytesIO()
        torch.save(state, buffer)
        Disk().replace_file(path, buffer.getvalue())
    else:
        raise RunError(f"{path}: an adapter is written as .pt or .safetensors")


def load_adapter(path: Path, *, cross_attention_dim: int, num_tokens: int | None = None) -> PFGAdapter:
    """The adapter in `path`, float32 on the CPU; the base's width says how many tokens it makes.

    Raises RunError if the file is missing, is no tensor file, has other keys, is for another width, or makes
    another number of tokens than `num_tokens` or its name (`-n4.pt`) says: 4 of SD1 are as large as 3 of SD2.
    """
    state = {_MLP_2023.get(key, key): tensor for key, tensor in read_tensors(path).items()}
    layers = next((keys for keys in _LAYERS if set(keys) == set(state) - set(_STANDARDIZATION)), None)
    given = [key for key in _STANDARDIZATION if key in state]
    if layers is None or len(given) == 1:
        raise RunError(f"{path}: keys {sorted(state)[:4]}, an adapter has exactly {sorted(ADAPTER_KEYS)}")
    weight, bias = (state[key] for key in layers[-2:])
    first = state[layers[0]]
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or first.ndim != 2:
        raise RunError(f"{path}: weight {list(weight.shape)} and bias {list(bias.shape)} make no layer")
    count = _count(path, len(weight), cross_attention_dim=cross_attention_dim, num_tokens=num_tokens)
    standardization = (state[given[0]].float(), state[given[1]].float()) if given else None
    shape = (first.shape[1], count, cross_attention_dim)
    adapter: PFGAdapter
    if layers is ADAPTER_KEYS:
        adapter = PFGLinear(*shape, standardization=standardization)
    else:
        adapter = PFGMLP(*shape, hidden_dim=len(first), standardization=standardization)
    try:
        adapter.load_state_dict(state)
    except RuntimeError:
        raise RunError(f"{path}: its layers do not fit each other; the file is damaged") from None
    return adapter


def _count(path: Path, rows: int, *, cross_attention_dim: int, num_tokens: int | None) -> int:
    """The tokens that `rows` outputs make at the base's width. Raises RunError."""
    count, rest = divmod(rows, cross_attention_dim)
    if rest or not count:
        raise RunError(
            f"{path}: {rows} rows are no whole number of tokens of width {cross_attention_dim};"
            f" it was made for another base ({_WIDTHS})"
        )
    named = re.search(r"-n(\d+)$", path.stem.lower())
    for says, expected in (("its name", int(named[1]) if named else None), ("the run", num_tokens)):
        if expected not in (None, count):
            raise RunError(
                f"{path}: {says} says {expected} tokens, at the base's width {cross_attention_dim}"
                f" it holds {count}; use the base it was trained on ({_WIDTHS})"
            )
    return count


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pt or .safetensors file; no pickled code runs. Raises RunError naming the file."""
    from safetensors.torch import load_file

    with _explained(path):
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RunError(f"{path}: holds no plain dict of tensors")
    return state


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a .safetensors file, from its header. Raises RunError naming the file."""
    from safetensors import safe_open

    with _explained(path), safe_open(path, framework="pt") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  (no mapping)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a file of weights that cannot be read raises into one line."""
    import pickle

    from safetensors import SafetensorError

    try:
        path.open("rb").close()  # safetensors says of any file it cannot open that there is none
        yield
    except FileNotFoundError:
        raise RunError(f"{path}: no such file of weights") from None
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        reason = refused_by_system(error) or f"no weights that can be read safely ({reason[:120]})"
        raise RunError(f"{path}: {reason}") from None
