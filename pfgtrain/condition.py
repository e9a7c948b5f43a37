"""What a text gives a UNet, a row for each text: today the context that its cross-attention reads.

A family whose UNet is told more (a pooled vector, the size of a picture) adds a field here or in a subclass
of its own: every operation acts on all fields, so whoever carries a condition need not know what is in it.

Shapes: n rows, T text positions, D context width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

__all__ = ["Condition"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Tensors of n rows each; an operation gives a condition of the same kind."""

    context: Tensor  # [n, T, D]

    def __len__(self) -> int:
        return len(self.context)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """The rows of all `parts`, one after another."""
        first, *others = parts
        return first._each(lambda *tensors: torch.cat(tensors), *others)

    def to(self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None) -> Self:
        """The same on `device`, in `dtype`; what is None stays."""
        return self._each(lambda tensor: tensor.to(device=device, dtype=dtype))

    def rows(self, part: slice) -> Self:
        """Some of its rows."""
        return self._each(lambda tensor: tensor[part])

    def split(self) -> list[Self]:
        """Its rows, one by one."""
        return [self.rows(slice(row, row + 1)) for row in range(len(self))]

    def expand(self, count: int) -> Self:
        """Its one row `count` times, without a copy."""
        return self._each(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def zeros(self) -> Self:
        """Zeros in its place."""
        return self._each(torch.zeros_like)

    def where(self, keep_n: Tensor, other: Self) -> Self:
        """Its own rows where `keep_n`, else those of `other`; one row on a side stands for all."""

        def chosen(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(keep_n.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)

        return self._each(chosen, other)

    def _each(self, change: Callable[..., Tensor], *others: Self) -> Self:
        """A condition of what `change` makes of each field, and of the same field of `others`."""
        names = [field.name for field in fields(self)]
        return type(self)(
            **{name: change(*(getattr(one, name) for one in (self, *others))) for name in names}
        )
