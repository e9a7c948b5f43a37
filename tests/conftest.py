"""States that several rooms' tests start from."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfgdata.corpus import plan_segments
from pfgdata.files import Disk
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.store import Store, StoreIdentity
from tests.doubles import CheapTagger
from tests.seaweed import bucket, s3, s3_server

__all__ = ["bucket", "s3", "s3_server"]  # fixtures of their own file

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub is imported: no test asks a hub
MINI = Path(__file__).parent / "data" / "mini"


@pytest.fixture(scope="session")
def mini() -> Path:
    """200 real images of odd formats and sizes, read only."""
    return MINI


def make_images(folder: Path, count: int, *, size: tuple[int, int] = (24, 32), seed: int = 0) -> list[Path]:
    """`count` small PNGs of distinct noise, named by their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    paths = []
    for index in range(count):
        path = folder / f"{index:04d}.png"
        block = generator.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(block).resize(size, Image.Resampling.NEAREST).save(path)
        paths.append(path)
    return paths


def modes(folder: Path) -> dict[str, int]:
    """The permissions of the files below `folder`."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in files}


def new_store(path: Path, tagger: CheapTagger | None = None, *, disk: Disk | None = None) -> Store:
    """An empty store of the cheap tagger."""
    tagger = tagger or CheapTagger()
    identity = StoreIdentity(
        tagger=tagger.identity,
        vocabulary_digest=tagger.vocabulary.digest,
        feature_dim=tagger.feature_dim,
    )
    return Store.create(path, identity=identity, vocabulary=tagger.vocabulary, disk=disk)


@pytest.fixture
def closed_to_us() -> Iterator[Path]:
    """A folder that this process, no longer root, made itself: here a mode of 0 really closes a file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # nobody; root reads everything
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        os.seteuid(user)


@pytest.fixture
def shared_umask() -> Iterator[int]:
    """A umask that lets the group read and write; the mode of files that it leaves."""
    before = os.umask(0o002)
    try:
        yield 0o664
    finally:
        os.umask(before)


@pytest.fixture
def small_corpus(tmp_path: Path) -> Path:
    """40 small images."""
    make_images(tmp_path / "images", 40)
    return tmp_path / "images"


@pytest.fixture(scope="session")
def _mini_store(tmp_path_factory: pytest.TempPathFactory, mini: Path) -> Path:
    path = tmp_path_factory.mktemp("mini") / "feats"
    options = IngestOptions(batch_size=16, shard_rows=64)
    ingest(plan_segments([mini], {}), new_store(path), CheapTagger(), options=options)
    return path


@pytest.fixture
def mini_store(_mini_store: Path, tmp_path: Path) -> Store:
    """A store of the 200 mini images in several shards, the test's own copy."""
    shutil.copytree(_mini_store, tmp_path / "mini_feats")
    return Store.open(tmp_path / "mini_feats")
