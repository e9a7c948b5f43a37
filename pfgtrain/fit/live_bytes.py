"""How many bytes of tensors are alive at once while code runs, and its operations; of fake tensors too."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

__all__ = ["LiveBytes"]

_aten = torch.ops.aten
_COUNTED_AS = {  # what `flop_registry` lacks (torch 2.13): attention on a CPU
    _aten._scaled_dot_product_flash_attention_for_cpu: _aten._scaled_dot_product_flash_attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        _aten._scaled_dot_product_flash_attention_backward
    ),
}


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make while it is entered; `peak` is the most there were at once.

    torch's own MemTracker tells as much and took minutes for one pass of a small UNet; its FlopCounterMode,
    whose `flop_registry` this reads, keeps tensors alive that checkpointing lets go (torch 2.13).
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        """What shares a storage with `known` is not counted."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()
        self.now = 0
        self.peak = 0
        self.operations = 0  # an addition and a multiplication as two
        for value in known:
            self._seen.add(value.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation, then count what it made."""
        made = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if count := flop_registry.get(_COUNTED_AS.get(packet, packet)):
            self.operations += count(*args, **(kwargs or {}), out_val=made)
        for value in tree_iter(made):
            if isinstance(value, Tensor):
                self._count(value)
        return made

    def _count(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size
