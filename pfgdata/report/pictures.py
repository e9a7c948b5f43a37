"""Which pictures a report opens with, and their thumbnails: bounded in number and bytes.

Each of another character, its most certain row; where there are fewer characters, rows spread over the order
of paths beside them. The same store gives the same pictures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

from pfgdata.corpus import ReadImage, read_images
from pfgdata.errors import ImageError
from pfgdata.images import thumbnail_jpeg
from pfgdata.records import NoProgress, Progress, Selection, StoredImage, during
from pfgdata.report.figures import Example
from pfgdata.similarity import file_names
from pfgdata.store import IMAGE_COLUMNS, Snapshot, rows_by_shard, stored_image

__all__ = ["Shelf", "chosen_places", "stored_names"]

_MOST_BYTES = 2_000_000  # of all JPEGs of a page: 2.7 MB as text


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Where pictures come from: `roots` says where the files of the corpus roots are now."""

    snapshot: Snapshot
    rows: Selection
    roots: Mapping[str, str]
    characters: Mapping[int, str]  # place among the rows -> the character that is shown

    def examples(
        self,
        places: Sequence[int],
        most: int,
        progress: Progress | None = None,
        *,
        most_bytes: int = _MOST_BYTES,
    ) -> tuple[dict[int, Example], int]:
        """The first `most` of the rows at `places` that can be read, by place; and how many could not."""
        rows = self.rows.take(np.array(places, np.int64))
        known = self._described(rows)
        found, missed, spent = dict[int, Example](), 0, 0
        progress = progress or NoProgress()
        threads = os.cpu_count() or 1
        reading = read_images(
            [image for image, _ in known], _small, roots=self.roots, threads=threads, ahead=2 * threads
        )
        names = stored_names(self.snapshot, rows)
        with during(progress, "pictures", total=min(most, len(places))), closing(reading) as pictures:
            for place, (image, rating), name, (_, jpeg) in zip(places, known, names, pictures, strict=True):
                if isinstance(jpeg, ImageError):
                    missed += 1
                    continue
                spent += len(jpeg)
                if spent > most_bytes:
                    break
                found[place] = Example(
                    file=name,
                    content_id=str(UUID(bytes=image.content_id)),
                    width=image.width,
                    height=image.height,
                    rating=rating,
                    character=self.characters.get(place),
                    jpeg=jpeg,
                )
                progress.advance()
                if len(found) == most:
                    break
        return found, missed

    def _described(self, rows: Selection) -> list[tuple[StoredImage, str | None]]:
        """Each row as an image to read, and its rating."""
        found: dict[int, tuple[StoredImage, str | None]] = {}
        for mine, table in rows_by_shard(self.snapshot, rows, [*IMAGE_COLUMNS, "rating"]):
            for place, row in zip(mine.tolist(), table.to_pylist(), strict=True):
                found[place] = (stored_image(row), row["rating"])
        return [found[place] for place in range(len(rows))]


def chosen_places(
    best: Mapping[str, tuple[float, int]], images: Mapping[str, int], *, rows: int, most: int
) -> list[int]:
    """Places to show, twice `most` in case files are gone: of characters, then of rows spread over all.

    `images` counts each character's, most first. Those are taken that stand at even steps through their
    images, so a character with many is sure to be there, and of the rare ones as many as their share.
    """
    names = [name for name in images if name in best]
    ends = np.cumsum([images[name] for name in names])
    steps = (np.arange(most) + 0.5) / most * ends[-1] if len(ends) else []
    taken = np.unique(np.searchsorted(ends, steps, side="right")).tolist()
    taken += [one for one in range(len(names)) if one not in set(taken)][: most - len(taken)]
    first = [names[one] for one in sorted(taken)]
    others = [name for name in names if name not in set(first)]
    places = [best[name][1] for name in (*first, *others[:most])]
    return list(dict.fromkeys([*places, *_spread(rows, 2 * most)]))[: 2 * most]


def stored_names(snapshot: Snapshot, rows: Selection) -> list[str]:
    """Each file as the store names it, below its root: a page to pass on tells no folder of a machine."""
    found = file_names(snapshot, rows, {})
    return [f"{one['path']}{'' if one['member'] is None else '!' + one['member']}" for one in found]


def _spread(rows: int, count: int) -> list[int]:
    """Up to `count` places over `rows`, the first half of them alone as well spread as all."""
    every = (
        np.unique(np.linspace(0, rows - 1, min(count, rows)).round().astype(np.int64)).tolist()
        if rows
        else []
    )
    return [*every[::2], *every[1::2]]


def _small(image: ReadImage) -> bytes:
    pixels: npt.NDArray[np.uint8] = image.pixels
    return thumbnail_jpeg(pixels)
