"""A condition is carried, cut and chosen from as a whole, whatever a family puts into it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pfgtrain.condition import Condition


@dataclass(frozen=True, kw_only=True)
class Told(Condition):
    """A condition of a family that says more."""

    pooled: Tensor  # [n, P]


def told(rows: int, *, seed: int) -> Told:
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(rows, 5, 4, generator=generator)
    return Told(context=context, pooled=torch.randn(rows, 3, generator=generator))


def test_rows_put_together_again_are_the_condition() -> None:
    whole = told(3, seed=1)
    again = Told.cat(whole.split())
    assert [len(row) for row in whole.split()] == [1, 1, 1]
    assert torch.equal(again.context, whole.context)
    assert torch.equal(again.pooled, whole.pooled)


def test_one_row_stands_for_many_without_a_copy() -> None:
    many = told(1, seed=2).expand(4)
    assert many.context.shape == (4, 5, 4)
    assert many.pooled.shape == (4, 3)
    assert many.pooled.stride(0) == 0


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_are_chosen_from_two_conditions_field_by_field(rows: int) -> None:
    mine, other, keep = told(rows, seed=3), told(1, seed=4), torch.tensor([True, False, True])
    chosen = mine.where(keep, other)
    for row, kept in enumerate(keep.tolist()):
        source = mine.expand(3) if rows == 1 else mine
        assert torch.equal(chosen.context[row], source.context[row] if kept else other.context[0])
        assert torch.equal(chosen.pooled[row], source.pooled[row] if kept else other.pooled[0])


def test_all_fields_take_another_dtype() -> None:
    half = told(2, seed=5).to(dtype=torch.float16)
    assert half.context.dtype == half.pooled.dtype == torch.float16
    assert half.to("cpu").pooled.dtype == torch.float16
