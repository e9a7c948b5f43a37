"""A small store with what a page meets: copies, a tar, markup in names, columns of the user, odd formats."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pfgdata.corpus import plan_segments
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.query import SaveOptions, save_selection
from pfgdata.store import SavedSelection, Store
from pfgdata.web import DeskOptions, browse_app, serving
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.web.browser import Client

MARKUP = "<img src=x onerror=alert(1)>'\".png"


@dataclass(frozen=True)
class Corpus:
    """Images, and the store of them."""

    images: Path
    feats: Path

    def copy(self, folder: Path) -> Corpus:
        """The test's own, to be changed; made anew, for a store knows where its images are."""
        shutil.copytree(self.images, folder / "images", symlinks=True)
        return made(folder)


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    block = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(block).resize(size, Image.Resampling.BICUBIC)


def draw(folder: Path) -> None:
    folder.mkdir()
    make_images(folder / "plain", 30, size=(24, 32))
    for number in range(8):
        picture(100 + number, (640 + 200 * number, 480)).save(folder / f"wide{number}.jpg")
    picture(50, (900, 700)).save(folder / "original.png")
    picture(50, (900, 700)).resize((450, 350)).save(folder / "smaller.jpg", quality=90)
    shutil.copy(folder / "plain" / "0003.png", folder / "again.png")
    picture(60, (64, 64)).save(folder / MARKUP)
    picture(61, (64, 48)).save(folder / "old.bmp")
    clear = picture(62, (64, 48)).convert("RGBA")
    clear.putpixel((0, 0), (1, 2, 3, 0))
    clear.save(folder / "clear.tiff")
    with tarfile.open(folder / "more.tar", "w") as archive:
        for number in range(5):
            data = io.BytesIO()
            picture(200 + number, (40, 40)).save(data, "PNG")
            member = tarfile.TarInfo(f"in/{number}.png")
            member.size = len(data.getvalue())
            archive.addfile(member, io.BytesIO(data.getvalue()))


def made(folder: Path) -> Corpus:
    """The store of `folder`/images."""
    options = IngestOptions(batch_size=16, shard_rows=20)
    store = new_store(folder / "feats")
    ingest(
        plan_segments([folder / "images", folder / "images" / "more.tar"], {}),
        store,
        CheapTagger(),
        options=options,
    )
    table = store.snapshot().images(["content_id", "path"])
    ids, styles = (
        table["content_id"],
        ["wide" if "wide" in one else "<b>plain</b>" for one in table["path"].to_pylist()],
    )
    first = {one: place for place, one in reversed(list(enumerate(ids.to_pylist())))}
    places = sorted(first.values())
    numbers = pa.array([float(place) * 1.5 for place in places])
    lists = pa.array([["even", "it's"] if place % 2 else ["odd"] for place in places])
    for name, values in (
        ("style", pa.array([styles[place] for place in places])),
        ("points", numbers),
        ("marks", lists),
        ("good", pa.array([None if place % 3 == 0 else place % 3 == 1 for place in places])),
    ):
        store.write_column(name, pa.table({"content_id": ids.take(pa.array(places)), "value": values}))
    words = SavedSelection(name="wides", text="width > 600", thresholds={"general": 0.35, "character": 0.85})
    save_selection(store, words, SaveOptions())
    return Corpus(folder / "images", folder / "feats")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Read only."""
    folder = tmp_path_factory.mktemp("browse")
    draw(folder / "images")
    return made(folder)


@pytest.fixture
def own_corpus(corpus: Corpus, tmp_path: Path) -> Corpus:
    """The test's own copy."""
    return corpus.copy(tmp_path)


@pytest.fixture(scope="session")
def client(corpus: Corpus) -> Iterator[Client]:
    """The store, served; nothing may be written."""
    with serving(browse_app(Store.open(corpus.feats), DeskOptions(thumbnails=0))) as place:
        yield Client(place)


@pytest.fixture
def own_client(own_corpus: Corpus) -> Iterator[Client]:
    """The test's own store, served."""
    with serving(browse_app(Store.open(own_corpus.feats), DeskOptions())) as place:
        yield Client(place)
