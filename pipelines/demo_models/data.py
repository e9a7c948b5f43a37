"""The corpora as arrays in memory: every picture once as a small uint8 square, with its tags.

Squares come from the product's own decode and `kohya` square (448 px for the tagger), averaged 4x4 exactly as
the graph does first: so a net trains on what it will see, and decoding is paid once, not each epoch.
Shapes: N pictures, S side in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pfgdata.errors import ConfigError
from pfgdata.images import decode, square
from pipelines.demo_models.split import Split

POOL = 4  # both classifiers' graphs begin with an average over 4x4
DEMO_FOLDER = Path(__file__).parents[1] / "demo"
Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One picture of a corpus: its file, who is on it, what the split says it is for."""

    file: Path
    corpus: str
    role: str
    style: str
    character: str
    tags: tuple[str, ...]
    coarse: tuple[str, ...]


def read_rows(folder: Path, index: Path, *, corpus: str, split: Split) -> list[Row]:
    """Rows of one corpus in the order of its JSONL `index`; paths there are below `folder`."""
    if not index.is_file():
        raise ConfigError(f"{index}: not there; --corpus is the folder that holds portraits/ and chars/")
    return [_row(json.loads(line), folder, corpus, split) for line in index.read_text("utf-8").splitlines()]


def _row(entry: dict[str, object], folder: Path, corpus: str, split: Split) -> Row:
    tags, coarse = entry["tags"], entry["tags_coarse"]
    assert isinstance(tags, list) and isinstance(coarse, list)
    character = str(entry["character"])
    return Row(
        file=folder / str(entry["path"]),
        corpus=corpus,
        role=split.role(corpus, character),
        style=str(entry["style"]),
        character=character,
        tags=tuple(tags),
        coarse=tuple(coarse),
    )


def training_rows(root: Path, split: Split) -> list[Row]:
    """Everything a demo tagger may look at: portraits, scenes and the demo corpus, in that order."""
    return [
        *read_rows(root / "portraits", root / "portraits.jsonl", corpus="portraits", split=split),
        *read_rows(root / "chars" / "train", root / "chars" / "train.jsonl", corpus="chars", split=split),
        *read_rows(DEMO_FOLDER / "images", DEMO_FOLDER / "images.jsonl", corpus="demo", split=split),
    ]


def portrait_rows(root: Path, split: Split) -> list[Row]:
    """The portraits alone: what VAE and base learn to draw."""
    return read_rows(root / "portraits", root / "portraits.jsonl", corpus="portraits", split=split)


def pooled_square(data: bytes, *, size: int) -> Pictures:
    """What a graph with `size` px input sees after its 4x4 average pool: RGB [size / 4, size / 4, 3]."""
    full = square(decode(data).array, preprocess="kohya", size=size)
    side = size // POOL
    pooled = full.reshape(side, POOL, side, POOL, 3).mean(axis=(1, 3))
    return np.rint(pooled).astype(np.uint8)


def plain_square(data: bytes, *, size: int) -> Pictures:
    """The picture [size, size, 3] RGB by the same `kohya` rule, without the detour over 448 px."""
    return square(decode(data).array, preprocess="kohya", size=size)


def load_pictures(rows: list[Row], cache: Path, *, prepare: Callable[[bytes], Pictures]) -> Pictures:
    """Pictures [N, S, S, 3] of `rows`, from `cache` (.npy) if it holds as many, else prepared and kept."""
    if cache.is_file():
        kept: Pictures = np.load(cache)
        if len(kept) == len(rows):
            return kept
    pictures = np.stack(list(_prepared(rows, prepare)))
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".tmp.npy")
    np.save(partial, pictures)
    partial.replace(cache)
    return pictures


def _prepared(rows: list[Row], prepare: Callable[[bytes], Pictures]) -> Iterator[Pictures]:
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(lambda row: prepare(row.file.read_bytes()), rows)
