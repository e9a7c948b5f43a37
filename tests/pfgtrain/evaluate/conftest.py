"""A tiny run, its store and guides, for whole evaluations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pfgdata.corpus import plan_segments
from pfgdata.ingest import ingest
from pfgdata.store import Store
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord
from pfgtrain.evaluate import Guide, TrainingImages, guides_of_folder, training_images
from pfgtrain.generate import PFGModel, load_run
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgtrain.evaluate.small_evaluation import COUNT, write_guides
from tests.pfgtrain.export.small_run import make_run
from tests.pfgtrain.tiny_base import build_tiny_base


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Guides, and a store of six other images and of the first guide's."""
    place = tmp_path_factory.mktemp("evaluation")
    write_guides(place / "guides", characters=COUNT)
    make_images(place / "corpus", 6, size=(64, 64), seed=9)
    shutil.copy(place / "guides" / "images" / "0000.png", place / "corpus" / "known.png")
    ingest(plan_segments([place / "corpus"], {}), new_store(place / "feats"), CheapTagger())
    base = Base.load(str(build_tiny_base(place / "base")))
    make_run(place / "run", base, store=str(place / "feats"))
    return place


@pytest.fixture(scope="module")
def model(place: Path) -> PFGModel:
    return load_run(place / "run", tagger=CheapTagger(), device="cpu")


@pytest.fixture(scope="module")
def guides(place: Path) -> list[Guide]:
    return guides_of_folder(place / "guides")


@pytest.fixture(scope="module")
def training(place: Path) -> TrainingImages:
    store, record = Store.open(place / "feats"), RunRecord.read(place / "run")
    found = training_images(store, record, tagger=CheapTagger().identity)
    assert found is not None
    return found
