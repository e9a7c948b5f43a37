"""How the numbers of a tensor lie in the memory of one that it was only reshaped and turned from.

An axis is a list of runs (size, stride), from the outer to the inner; a Reshape splits and joins runs, a
Transpose moves axes. So it can be told what a chain of them, however it was exported, comes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

__all__ = ["Layout", "Run", "joined"]

Run = tuple[int, int]  # size, stride in numbers of the root


@dataclass(frozen=True, slots=True)
class Layout:
    """The axes of a tensor as runs through its root's memory."""

    axes: tuple[tuple[Run, ...], ...]

    @classmethod
    def of(cls, shape: Sequence[int]) -> Layout:
        """The root's own."""
        strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return cls(tuple(_runs(((size, stride),)) for size, stride in zip(shape, strides, strict=True)))

    @classmethod
    def over(cls, *axes: Sequence[Run]) -> Layout:
        """One of axes that are known."""
        return cls(tuple(_runs(axis) for axis in axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return tuple(prod(size for size, _ in axis) for axis in self.axes)

    @property
    def flat(self) -> tuple[Run, ...]:
        """All runs in the order of this tensor's own memory."""
        return joined([run for axis in self.axes for run in axis])

    def turned(self, perm: Sequence[int]) -> Layout:
        """After a Transpose."""
        return Layout(tuple(self.axes[axis] for axis in perm))

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """After a Reshape; None where an axis would be no list of runs."""
        left = [run for axis in self.axes for run in axis]
        axes: list[tuple[Run, ...]] = []
        for size in reversed(shape):
            axis: list[Run] = []
            while size > 1:
                if not left:
                    return None
                count, stride = left.pop()
                if size % count == 0:
                    axis.insert(0, (count, stride))
                    size //= count
                elif count % size == 0:
                    axis.insert(0, (size, stride))
                    left.append((count // size, stride * size))
                    size = 1
                else:
                    return None
            axes.insert(0, joined(axis))
        return None if left else Layout(tuple(axes))


def joined(runs: Sequence[Run]) -> tuple[Run, ...]:
    """`runs` with those made one that follow each other without a gap."""
    found: list[Run] = []
    for size, stride in _runs(runs):
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        else:
            found.append((size, stride))
    return tuple(found)


def _runs(runs: Sequence[Run]) -> tuple[Run, ...]:
    return tuple((size, stride) for size, stride in runs if size != 1)
