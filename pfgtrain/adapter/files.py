"""An adapter's file: written whole or not at all, read without running what stands in it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from pfgdata.errors import RunError, refused_by_system
from pfgdata.files import Disk
from pfgdata.hub import FAMILIES, write_tensors
from pfgtrain.adapter.layers import ADAPTER_KEYS, PFGMLP, PFGAdapter, PFGLinear, PFGSeveral

__all__ = ["load_adapter", "read_shapes", "read_tensors", "save_adapter"]

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
_NUMBERED = re.compile(r"adapters\.(\d+)\.(.+)")  # a key of one of several


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
    """The adapter in `path`, or the several, float32 on the CPU; the base's width says how many tokens.

    Raises RunError if the file is missing, is no tensor file, has other keys, is for another width, or makes
    another number of tokens than `num_tokens` or its name (`-n4.pt`) says: 4 of SD1 are as large as 3 of SD2.
    """
    state = {_MLP_2023.get(key, key): tensor for key, tensor in read_tensors(path).items()}
    parts = [_one_of(path, part, cross_attention_dim=cross_attention_dim) for part in _apart(path, state)]
    adapter = parts[0] if len(parts) == 1 else PFGSeveral(parts)
    _require_count(path, adapter, num_tokens=num_tokens)
    return adapter


def _apart(path: Path, state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The states of the adapters in a file, in order; of one alone its keys have no number before them."""
    parts: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if (found := _NUMBERED.fullmatch(key)) is None:
            return [state]
        parts.setdefault(int(found[1]), {})[found[2]] = tensor
    if sorted(parts) != list(range(len(parts))) or len(parts) < 2:
        raise RunError(f"{path}: holds adapters {sorted(parts)}, some are missing; the file is damaged")
    return [parts[number] for number in range(len(parts))]


def _one_of(path: Path, state: dict[str, Tensor], *, cross_attention_dim: int) -> PFGAdapter:
    """One adapter of its own state. Raises RunError."""
    layers = next((keys for keys in _LAYERS if set(keys) == set(state) - set(_STANDARDIZATION)), None)
    given = [key for key in _STANDARDIZATION if key in state]
    if layers is None or len(given) == 1:
        raise RunError(f"{path}: keys {sorted(state)[:4]}, an adapter has exactly {sorted(ADAPTER_KEYS)}")
    weight, bias = (state[key] for key in layers[-2:])
    first = state[layers[0]]
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or first.ndim != 2:
        raise RunError(f"{path}: weight {list(weight.shape)} and bias {list(bias.shape)} make no layer")
    count = _count(path, len(weight), cross_attention_dim=cross_attention_dim)
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


def _count(path: Path, rows: int, *, cross_attention_dim: int) -> int:
    """The tokens that `rows` outputs make at the base's width. Raises RunError."""
    count, rest = divmod(rows, cross_attention_dim)
    if rest or not count:
        raise RunError(
            f"{path}: {rows} rows are no whole number of tokens of width {cross_attention_dim};"
            f" it was made for another base ({_WIDTHS})"
        )
    return count


def _require_count(path: Path, adapter: PFGAdapter, *, num_tokens: int | None) -> None:
    """Raise RunError unless it makes as many tokens as its name and the run say."""
    count = adapter.num_tokens
    named = re.search(r"-n(\d+)$", path.stem.lower())
    for says, expected in (("its name", int(named[1]) if named else None), ("the run", num_tokens)):
        if expected not in (None, count):
            raise RunError(
                f"{path}: {says} says {expected} tokens, at the base's width {adapter.cross_attention_dim}"
                f" it holds {count}; use the base it was trained on ({_WIDTHS})"
            )


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
