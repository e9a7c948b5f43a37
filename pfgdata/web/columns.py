"""Columns as small codes, loaded once: a facet is then a count of codes, 5 ms for 600,000 rows.

Each code has a label, the condition that narrows a question to it, and where there is one the same for tags.
Codes are of the same arithmetic as the conditions, so that a facet's count is what its condition finds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pfgdata.images import BucketPolicy, bucket_sizes
from pfgdata.query import in_sql, quoted

__all__ = [
    "Coded",
    "Listed",
    "Value",
    "by_bucket",
    "by_megapixels",
    "coded",
    "of_numbers",
    "of_texts",
    "tag_of",
]

Codes = npt.NDArray[np.unsignedinteger[Any]]
_MEGAPIXELS = (0.25, 0.5, 1, 2, 4, 8, 16)
_FEW = 12  # distinct numbers that are told one by one
_RANGES = 10
_DIGITS = 3  # of a bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a code means; `add` narrows a condition to it, `add_tag` danbooru's tags."""

    label: str
    value: Any
    add: str
    add_tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A code for each row; ranges are told in their own order, values by how many have them."""

    kind: Literal["values", "ranges"]
    codes: Codes
    values: Sequence[Value]

    def counts(self, rows: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """How many of `rows` have each code."""
        return np.bincount(self.codes[rows], minlength=len(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Several codes for each row of `rows`, which are all or a sample: code i is of `rows[owner[i]]`."""

    rows: npt.NDArray[np.uint32]
    owner: npt.NDArray[np.uint32]
    codes: Codes
    values: Sequence[Value]


def coded(values: pa.ChunkedArray) -> tuple[Codes, list[Any]]:
    """A code for each of `values`, and what the codes mean; the last one is of nulls."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    whole = values.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of no rows
        return np.empty(0, np.uint8), [None]
    meanings = whole.dictionary.to_pylist()
    codes = pc.fill_null(whole.indices, len(meanings)).to_numpy(zero_copy_only=False)
    return codes.astype(np.min_scalar_type(len(meanings))), [*meanings, None]


def of_texts(name: str, meanings: Sequence[Any]) -> list[Value]:
    """The values of a column of texts or truths called `name`."""
    column, truths = in_sql(name), any(isinstance(one, bool) for one in meanings)
    none = Value(label="none", value=None, add=f"{column} IS NULL", add_tag=None if truths else f"-{name}:*")
    return [none if one is None else _of_text(name, column, one) for one in meanings]


def of_numbers(name: str, values: pa.ChunkedArray) -> Coded:
    """A column of numbers: each number where there are few, else ranges with about as many rows each."""
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float32())
    if pa.types.is_floating(values.type):
        values = pc.add(values, pa.scalar(0.0, values.type))  # -0.0 is 0, as SQL compares them
    column, plain = in_sql(name), pc.drop_null(values)
    distinct = pc.unique(plain)
    if len(distinct) <= _FEW:
        codes, meanings = coded(values)
        return Coded(kind="values", codes=codes, values=[_of_number(name, column, one) for one in meanings])
    numbers = values.cast(pa.float64(), safe=False).to_numpy()
    finite = numbers[np.isfinite(numbers)]
    bounds = _bounds(finite, whole=pa.types.is_integer(values.type))
    single = pa.types.is_float32(values.type)  # which SQL compares with a bound as single too
    kind = np.float32 if single else np.float64
    codes = np.searchsorted(np.array(bounds, kind), numbers.astype(kind), side="right")
    null = pc.is_null(values).to_numpy()
    codes[null] = len(bounds) + 1
    ranges = [_range(name, column, low, high) for low, high in _between(bounds)]
    return Coded(
        kind="ranges", codes=codes.astype(np.uint8), values=[*ranges, _of_number(name, column, None)]
    )


def by_megapixels(width: npt.NDArray[np.uint32], height: npt.NDArray[np.uint32]) -> Coded:
    """Size classes, by the number of pixels."""
    sql = "width / 1e6 * height"  # as mpixels: has it
    codes = np.searchsorted(np.array(_MEGAPIXELS), width / 1e6 * height, side="right")
    values = []
    for low, high in _between(_MEGAPIXELS):
        one = _range("mpixels", sql, low, high)
        values.append(Value(label=f"{one.label} MP", value=one.value, add=one.add, add_tag=one.add_tag))
    return Coded(kind="ranges", codes=codes.astype(np.uint8), values=values)


def by_bucket(
    width: npt.NDArray[np.uint32],
    height: npt.NDArray[np.uint32],
    buckets: Sequence[tuple[int, int]] | None,
) -> Coded:
    """Aspect buckets (None: those of a policy of 768): an image is of the one with the nearest ratio."""
    sizes = bucket_sizes(BucketPolicy.derive(768, 64)) if buckets is None else buckets
    ratios: dict[float, tuple[int, int]] = {}
    for size in sizes:  # of equal ratios the first, as nearest_buckets takes it
        ratios.setdefault(size[0] / size[1], size)
    known = sorted(ratios)
    bounds = [math.sqrt(one * two) for one, two in itertools.pairwise(known)]
    codes = np.searchsorted(np.array(bounds), width / height, side="right")
    values = []
    for ratio, (low, high) in zip(known, _between(bounds), strict=True):
        parts = [f"width / height >= {low!r}"] if low is not None else []
        parts += [f"width / height < {high!r}"] if high is not None else []
        label = "{} x {}".format(*ratios[ratio])
        values.append(Value(label=label, value=list(ratios[ratio]), add=" AND ".join(parts) or "true"))
    return Coded(kind="values", codes=codes.astype(np.uint16), values=values)


def _of_text(name: str, column: str, one: Any) -> Value:
    if isinstance(one, bool):
        said = "yes" if one else "no"
        add = column if one else f"NOT {column}"
        return Value(label=said, value=one, add=add, add_tag=f"{name}:{said}")
    return Value(label=one, value=one, add=f"{column} = {quoted(one)}", add_tag=tag_of(name, one))


def tag_of(name: str, text: str) -> str | None:
    """`name:text` of danbooru's tags; None where its signs would mean something there."""
    if not text or any(sign in text for sign in '",*\\') or not text.isprintable():
        return None
    return f'{name}:"{text}"' if any(sign in text for sign in " ()") else f"{name}:{text}"


def _of_number(name: str, column: str, one: float | None) -> Value:
    if one is None:
        return Value(label="none", value=None, add=f"{column} IS NULL", add_tag=None)
    text = _told(one)
    if not math.isfinite(one):
        return Value(label=text, value=None, add=f"{column} = '{text}'::DOUBLE")
    return Value(label=text, value=one, add=f"{column} = {text}", add_tag=_number_tag(name, text))


def _range(name: str, column: str, low: float | None, high: float | None) -> Value:
    parts = [f"{column} >= {_told(low)}"] if low is not None else []
    parts += [f"{column} < {_told(high)}"] if high is not None else []
    if low is None and high is None:
        return Value(label="all", value=[None, None], add=f"{column} IS NOT NULL", add_tag=f"{name}:*")
    if low is None:
        label, tag = f"under {_told(high)}", f"<{_told(high)}"
    elif high is None:
        label, tag = f"from {_told(low)}", f">={_told(low)}"
    else:
        label, tag = f"{_told(low)} to {_told(high)}", f"{_told(low)}...{_told(high)}"
    return Value(label=label, value=[low, high], add=" AND ".join(parts), add_tag=_number_tag(name, tag))


def _number_tag(name: str, text: str) -> str | None:
    """`name:text`; None for a number with an exponent, which tags do not read."""
    return None if "e" in text else f"{name}:{text}"


def _between(bounds: Sequence[float]) -> list[tuple[float | None, float | None]]:
    return list(zip([None, *bounds], [*bounds, None], strict=True))


def _bounds(values: npt.NDArray[np.float64], *, whole: bool) -> list[float]:
    """Round numbers between ranges that have about as many of `values` each."""
    if not len(values):
        return []
    found = np.quantile(values, np.arange(1, _RANGES) / _RANGES)
    rounded = {float(f"{one:.{_DIGITS}g}") for one in found.tolist()}
    return sorted(float(math.ceil(one)) for one in rounded) if whole else sorted(rounded)


def _told(number: float | None) -> str:
    """A number as SQL and people read it."""
    assert number is not None
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return repr(number)
