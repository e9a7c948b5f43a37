"""What is known under each of very many keys, as sorted runs that are merged lazily.

To add to one sorted array moves all of it: 99 ms at 5 million keys. Here a run is merged with the one before
once it is a quarter as long: a key is moved some twenty times, however many there are, and few runs stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Keys", "SortedRuns", "keys_in"]

Keys = npt.NDArray[np.uint64]  # [N, 2]: hashes of 128 bits, in two halves
_Halves = npt.NDArray[np.uint64]
_Values = npt.NDArray[np.void]

_EAGER = 4  # a run stands beside one of more than so many times its length
_GATHERED = 1_000_000  # rows sorted at a time where many come at once
_BITS = 4  # by the first bits of a key runs are apart: a merge needs memory for a sixteenth of all beside it
_FROM = np.arange(1, 1 << _BITS, dtype=np.uint64) << np.uint64(64 - _BITS)


class _Run(NamedTuple):
    """Keys in the order of their first halves, and the value of each."""

    first: _Halves
    second: _Halves
    values: _Values


_Runs = tuple[_Run, ...]  # the oldest and longest first


class SortedRuns:
    """Values by key. What is added last counts; of what comes together under one key, the first.

    One thread adds while others ask. A key takes 16 bytes and its value.
    """

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        """Of no key yet; values are of `dtype`."""
        self._dtype = dtype
        self._parts: list[_Runs] = [()] * (1 << _BITS)  # by the first bits; each replaced whole

    def __len__(self) -> int:
        """Keys; one that was added again may count twice."""
        return sum(len(run.first) for runs in self._parts for run in runs)

    def branch(self) -> SortedRuns:
        """One that holds as much, shares it, and is added to apart."""
        other = SortedRuns(self._dtype)
        other._parts = list(self._parts)
        return other

    def add(self, keys: Keys, values: _Values) -> None:
        """These are the values of `keys` now."""
        run = _sorted(keys, values)
        for part, mine in _by_part(run.first):
            own = _Run(run.first[mine].copy(), run.second[mine].copy(), run.values[mine].copy())
            self._parts[part] = _with(self._parts[part], own)

    def fill(self, parts: Iterable[tuple[Keys, _Values]]) -> None:
        """Add many, a million at a time; where a key is in several parts, the last of these counts."""
        held = list[tuple[Keys, _Values]]()
        for part in parts:
            held.append(part)
            if sum(len(keys) for keys, _ in held) >= _GATHERED:
                self._add_all(held)
                held = []
        self._add_all(held)

    def _add_all(self, parts: list[tuple[Keys, _Values]]) -> None:
        if parts:
            keys, values = zip(*reversed(parts), strict=True)
            self.add(np.concatenate(keys), np.concatenate(values))

    def find(self, keys: Keys) -> tuple[_Values, npt.NDArray[np.bool_]]:
        """The value of each of `keys` and whether there is one; zeros where not."""
        out = np.zeros(len(keys), self._dtype)
        there = np.zeros(len(keys), np.bool_)
        order = np.argsort(keys[:, 0])  # a search that goes through memory in one direction
        for part, mine in _by_part(keys[order, 0]):
            todo = order[mine]
            for run in reversed(self._parts[part]):
                wanted = keys[todo]
                at = _places(run, wanted, np.searchsorted(run.first, wanted[:, 0]))
                hit = at >= 0
                out[todo[hit]] = run.values[at[hit]]
                there[todo[hit]] = True
                todo = todo[~hit]
        return out, there

    def find_one(self, key: bytes) -> Any:
        """The value of the key of those 16 bytes, None where there is none; in a few microseconds."""
        first, second = np.frombuffer(key, np.uint64)
        for run in reversed(self._parts[int(first) >> (64 - _BITS)]):
            at, end = int(run.first.searchsorted(first)), len(run.first)
            while at < end and run.first[at] == first:
                if run.second[at] == second:
                    return run.values[at]
                at += 1
        return None


def _by_part(sorted_halves: _Halves) -> Iterator[tuple[int, slice]]:
    """Where those of each part stand, of parts that have any."""
    ends = [0, *np.searchsorted(sorted_halves, _FROM).tolist(), len(sorted_halves)]
    for part in range(1 << _BITS):
        if ends[part] < ends[part + 1]:
            yield part, slice(ends[part], ends[part + 1])


def _with(runs: _Runs, run: _Run) -> _Runs:
    """The runs and another, newer one."""
    stack = [*runs, run]
    while len(stack) > 1 and len(stack[-2].first) < _EAGER * len(stack[-1].first):
        newer, older = stack.pop(), stack.pop()
        stack.append(_merged(older, newer))
    return tuple(stack)


def keys_in(data: bytes | npt.NDArray[np.uint8]) -> Keys:
    """Hashes of 16 bytes each as keys."""
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


def _sorted(keys: Keys, values: _Values) -> _Run:
    """A run of them; of equal keys the first stays."""
    first, second = keys[:, 0], keys[:, 1]
    order = np.argsort(first, kind="stable")
    again = first[order[1:]] == first[order[:-1]]
    if again.any():
        order = np.lexsort((second, first))
        same = (first[order[1:]] == first[order[:-1]]) & (second[order[1:]] == second[order[:-1]])
        order = np.delete(order, 1 + np.flatnonzero(same))
    return _Run(first[order], second[order], values[order])


def _places(run: _Run, keys: Keys, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each of `keys` stands in a run, -1 where it does not; `at` is where its first half would."""
    out = np.full(len(keys), -1)
    todo = np.arange(len(keys))
    while len(todo):  # once, but for other keys with the same first half
        todo, at = todo[at < len(run.first)], at[at < len(run.first)]
        alike = run.first[at] == keys[todo, 0]
        todo, at = todo[alike], at[alike]
        hit = run.second[at] == keys[todo, 1]
        out[todo[hit]] = at[hit]
        todo, at = todo[~hit], at[~hit] + 1
    return out


def _merged(older: _Run, newer: _Run) -> _Run:
    """Both as one run; where both have a key, as the newer has it."""
    before = np.searchsorted(older.first, newer.first)
    again = _places(older, np.stack([newer.first, newer.second], axis=1), before)
    again = np.sort(again[again >= 0])
    place = before - np.searchsorted(again, before) + np.arange(len(newer.first))
    stays = np.ones(len(older.first) + len(newer.first) - len(again), np.bool_)
    stays[place] = False

    def both(old: npt.NDArray[Any], new: npt.NDArray[Any]) -> npt.NDArray[Any]:
        out = np.empty(len(stays), old.dtype)
        out[stays] = np.delete(old, again) if len(again) else old
        out[place] = new
        return out

    return _Run(*(both(old, new) for old, new in zip(older, newer, strict=True)))
