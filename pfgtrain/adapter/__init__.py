"""The adapter: a small layer from features to context tokens, its file, context rows.

Every cross-attention layer of a UNet reads one context, so appending the tokens there once equals the
original's patch of all `to_k` and `to_v`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pfgdata.lazy import lazy_imports

if TYPE_CHECKING:
    from pfgtrain.adapter.files import load_adapter, read_shapes, read_tensors, save_adapter
    from pfgtrain.adapter.layers import ADAPTER_KEYS, PFGMLP, AdapterKind, PFGAdapter, PFGLinear, PFGSeveral
    from pfgtrain.adapter.rows import (
        Uncond,
        append_tokens,
        conditional_rows,
        told_rows,
        unconditional_pad,
        unconditional_rows,
    )

__all__ = [
    "ADAPTER_KEYS",
    "PFGMLP",
    "AdapterKind",
    "PFGAdapter",
    "PFGLinear",
    "PFGSeveral",
    "Uncond",
    "append_tokens",
    "conditional_rows",
    "load_adapter",
    "read_shapes",
    "read_tensors",
    "save_adapter",
    "told_rows",
    "unconditional_pad",
    "unconditional_rows",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_imports(__name__)
