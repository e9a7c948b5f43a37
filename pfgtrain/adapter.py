"""The adapter: a linear layer from a tagger's feature to context tokens, its two-key file, context rows.

Every cross-attention layer of a UNet reads one context, so appending the tokens there once equals the
original's patch of all `to_k` and `to_v`. A row dropped in training and the unconditional row of generation
are made by one function, `unconditional_rows`.

Shapes: B batch, F feature width, K tokens, D cross-attention width, T text positions (77), C = T + K.
"""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pfgdata.errors import RunError
from pfgdata.store import Disk

__all__ = [
    "ADAPTER_KEYS",
    "PFGLinear",
    "Uncond",
    "append_tokens",
    "conditional_rows",
    "load_adapter",
    "save_adapter",
    "unconditional_pad",
    "unconditional_rows",
]

Uncond = Literal["zeros", "eos"]

ADAPTER_KEYS = (
    "pfg_linear.weight",
    "pfg_linear.bias",
)  # A1111, ComfyUI and radiata load exactly these


class PFGLinear(nn.Module):
    """Tokens of a feature: `Linear(F -> K * D)`, whose output row `k * D + d` is token k, channel d.

    Weights begin uniform in +-1/sqrt(F), `nn.Linear`'s own start and the original's: features of unit
    variance then give tokens of standard deviation 0.58, where CLIP's final layer norm gives about 1.
    `generator` makes the start reproducible; without one torch's global generator is used.
    """

    def __init__(
        self,
        feature_dim: int,
        num_tokens: int,
        cross_attention_dim: int,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.num_tokens = num_tokens
        self.cross_attention_dim = cross_attention_dim
        self.pfg_linear = nn.utils.skip_init(nn.Linear, feature_dim, num_tokens * cross_attention_dim)
        bound = 1 / math.sqrt(feature_dim)
        for parameter in (self.pfg_linear.weight, self.pfg_linear.bias):
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Tokens [B, K, D] of features [B, F]."""
        return self.pfg_linear(features_BF).unflatten(1, (self.num_tokens, self.cross_attention_dim))

    @property
    def device(self) -> torch.device:
        """Where the weights are; diffusers asks every part of a pipeline."""
        return self.pfg_linear.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type; diffusers asks every part of a pipeline."""
        return self.pfg_linear.weight.dtype


def append_tokens(text_BTD: Tensor, tokens_BKD: Tensor) -> Tensor:
    """The context [B, T + K, D]: text first, always."""
    return torch.cat([text_BTD, tokens_BKD], dim=1)


def unconditional_pad(text_BTD: Tensor, *, num_tokens: int, uncond: Uncond) -> Tensor:
    """What stands in the tokens' place on the unconditional side, [B, K, D].

    `zeros` is what today's web UIs do, `eos` (K copies of the last text position) what the article did. Zeros
    are not absence: a zero token still takes its share of the softmax.
    """
    if uncond == "eos":
        return text_BTD[:, -1:].expand(-1, num_tokens, -1)
    return text_BTD.new_zeros(len(text_BTD), num_tokens, text_BTD.shape[2])


def unconditional_rows(text_BTD: Tensor, *, num_tokens: int, uncond: Uncond) -> Tensor:
    """The context [B, C, D] that guidance moves away from: `[negative or empty prompt ; pad]`."""
    return append_tokens(text_BTD, unconditional_pad(text_BTD, num_tokens=num_tokens, uncond=uncond))


def conditional_rows(
    text_BTD: Tensor, tokens_BKD: Tensor, *, empty_BTD: Tensor, keep_B: Tensor, uncond: Uncond
) -> Tensor:
    """The context [B, C, D] of a training batch: `[text ; tokens]` where `keep_B`, else unconditional.

    `keep_B` is bool; the prompts may have one row for all ([1, T, D]). `torch.where` chooses, so a dropped
    row equals `unconditional_rows(empty)` bit for bit and sends no gradient to its tokens.
    """
    count, num_tokens, _ = tokens_BKD.shape
    kept_BCD = append_tokens(text_BTD.expand(count, -1, -1), tokens_BKD)
    dropped_BCD = unconditional_rows(empty_BTD, num_tokens=num_tokens, uncond=uncond)
    return torch.where(keep_B[:, None, None], kept_BCD, dropped_BCD)


def save_adapter(adapter: PFGLinear, path: Path) -> None:
    """Write exactly the two keys, float32, to `path` (.pt or .safetensors), whole or not at all."""
    state = {key: adapter.state_dict()[key].detach().float().cpu().contiguous() for key in ADAPTER_KEYS}
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        data = save(state)
    elif path.suffix == ".pt":
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
    else:
        raise RunError(f"{path}: an adapter is written as .pt or .safetensors")
    Disk().replace_file(path, data)


def load_adapter(path: Path, *, cross_attention_dim: int, num_tokens: int | None = None) -> PFGLinear:
    """The adapter in `path`, float32 on the CPU; the base's width says how many tokens it makes.

    Raises RunError if the file is missing, is no tensor file, has other keys, is for another width, or makes
    another number of tokens than `num_tokens` or its name (`-n4.pt`) says: 4 of SD1 are as large as 3 of SD2.
    """
    state = _read_state(path)
    if sorted(state) != sorted(ADAPTER_KEYS):
        raise RunError(f"{path}: keys {sorted(state)[:4]}, an adapter has exactly {sorted(ADAPTER_KEYS)}")
    weight, bias = (state[key] for key in ADAPTER_KEYS)
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise RunError(f"{path}: weight {list(weight.shape)} and bias {list(bias.shape)} make no layer")
    count, rest = divmod(len(weight), cross_attention_dim)
    if rest or not count:
        raise RunError(
            f"{path}: {len(weight)} rows are no whole number of tokens of width {cross_attention_dim};"
            " it was made for another base (SD1 is 768 wide, SD2 1024)"
        )
    named = re.search(r"-n(\d+)$", path.stem)
    for says, expected in (("its name", int(named[1]) if named else None), ("the run", num_tokens)):
        if expected not in (None, count):
            raise RunError(
                f"{path}: {says} says {expected} tokens, at the base's width {cross_attention_dim}"
                f" it holds {count}; use the base it was trained on (SD1 is 768 wide, SD2 1024)"
            )
    adapter = PFGLinear(weight.shape[1], count, cross_attention_dim)
    adapter.load_state_dict(state)
    return adapter


def _read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pt or .safetensors file; no pickled code runs."""
    import pickle

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"{path}: no such adapter file") from None
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"{path}: no adapter file that can be read safely ({reason[:120]})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RunError(f"{path}: holds no plain dict of tensors, so it is no adapter file")
    return state
