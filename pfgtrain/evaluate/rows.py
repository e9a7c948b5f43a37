"""The rows of the table: which pictures stand for which guide, from the model's own to a mere copier.

Shapes: M pictures of a pool, K guides, N guides and characters of the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pfgtrain.evaluate.measures import Ints, derangement
from pfgtrain.evaluate.viewers import Pool

__all__ = ["GUIDE_ITSELF", "ROWS", "Row", "Seen", "rows_of"]

ROWS = {  # in the order of the table, and what each is
    "pfg": "the run's pictures of the guide",
    "no_pfg": "the run's pictures of the prompt alone, tokens left out",
    "shuffled": "the run's pictures, each taken for another guide's",
    "style": "real images of other characters of the guide's style",
    "style_hair": "real images of other characters of its style and hair colour",
    "copier": "the training image nearest to the guide",
    "ceiling": "the guide itself, through the VAE",
}
GUIDE_ITSELF = "the guide as it is: a row of the figures that no VAE bounds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one viewer saw. `ceiling` and `others` are first and second views through the VAE.

    Owners from K on are of the gallery: characters that nothing was drawn for.
    """

    raw: Pool  # the K guides as they are, then the gallery
    views: Pool  # all images of all characters, through the VAE
    ceiling: Pool  # the guides among them
    others: Pool  # the other views among them
    results: Pool
    no_pfg: Pool | None = None
    copies: Pool | None = None
    plain: Pool | None = None  # the other views as they are: what KID takes for real


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Which pictures of `pool` stand for each of K guides.

    `members` are averaged for cosine and attributes; `lookups` are looked up in galleries. An oracle knows
    only `groups_N`: in a gallery it guesses blindly among the characters of one group, -1 is none.
    """

    pool: Pool
    members: Sequence[Ints]
    lookups: Sequence[Ints] | None = None
    groups_N: Ints | None = None


def rows_of(seen: Seen, count: int, *, styles_N: Ints, hair_N: Ints, seed: int) -> dict[str, Row]:
    """The rows that can be had of `count` guides; the shuffle is a derangement by `seed`.

    Styles and hair are of all N characters, guides first; -1 is an unknown style.
    """
    results, own = seen.results, [seen.results.of(k) for k in range(count)]
    another = derangement(count, seed=seed)
    rows = {"pfg": Row(pool=results, members=own, lookups=own)}
    if seen.no_pfg is not None:
        every = [np.arange(len(seen.no_pfg.owners_M))] * count
        rows["no_pfg"] = Row(pool=seen.no_pfg, members=every, lookups=every)
    rows["shuffled"] = Row(
        pool=results,
        members=[np.flatnonzero(results.owners_M != k) for k in range(count)],
        lookups=[own[other] for other in another],
    )
    if np.any(styles_N[:count] >= 0):
        both_N = np.where(styles_N >= 0, styles_N + hair_N * len(styles_N), -1)
        rows["style"] = _oracle(seen.ceiling, styles_N, count)
        rows["style_hair"] = _oracle(seen.ceiling, both_N, count)
    if seen.copies is not None:
        copies = [seen.copies.of(k) for k in range(count)]
        rows["copier"] = Row(pool=seen.copies, members=copies, lookups=copies)
    itself = [np.array([k]) for k in range(count)]
    rows["ceiling"] = Row(pool=seen.ceiling, members=itself, lookups=itself)
    return rows


def _oracle(ceiling: Pool, groups_N: Ints, count: int) -> Row:
    """Shows a real image of another character of the same group."""
    mates = [np.flatnonzero((groups_N == group) & (group >= 0)) for group in groups_N[:count]]
    members = [same[same != k] for k, same in enumerate(mates)]
    return Row(pool=ceiling, members=members, groups_N=groups_N)
