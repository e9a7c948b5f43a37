"""A session of the page with a model in miniature, behind the real server."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pfgdata.corpus import plan_segments
from pfgdata.ingest import ingest
from pfgdata.records import NoProgress, Progress
from pfgdata.web import ServeOptions, serving
from pfgtrain.adapter import PFGLinear, save_adapter
from pfgtrain.generate import GenerateJob, PFGModel, adapter_model
from pfgtrain.web import RULES, Bounds, Desk, StoredGuides, drawing_app
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base
from tests.pfgtrain.web.client import Client

COUNT = 70  # images of the store: more than one answer holds
BOUNDS = Bounds(upload=200_000, guides=6, waiting=3, drawings=5, pictures=12, images=8, side=64)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of COUNT small images, and the images."""
    place = tmp_path_factory.mktemp("stored")
    make_images(place / "images", COUNT, size=(24, 24), seed=4)
    ingest(plan_segments([place / "images"], {}), new_store(place / "feats"), CheapTagger())
    return place


@pytest.fixture
def store(place: Path) -> StoredGuides:
    return StoredGuides(place / "feats")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> GenerateJob:
    """The job that draws with an adapter on the tiny base, and sees with the demo's tagger."""
    folder = tmp_path_factory.mktemp("weights")
    adapter = PFGLinear(768, 2, WIDTH, generator=torch.Generator().manual_seed(3))
    save_adapter(adapter, folder / "x-n2.pt")
    base = build_tiny_base(folder / "base")
    return GenerateJob(
        adapter=str(folder / "x-n2.pt"), base=str(base), tagger="demo", device="cpu", num_inference_steps=2
    )


@pytest.fixture(scope="session")
def model(weights: GenerateJob) -> PFGModel:
    return adapter_model(weights, progress=NoProgress())


class Gate:
    """Gives the model when it is opened: until then the page says that it loads."""

    def __init__(self, model: PFGModel) -> None:
        self._model = model
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def __call__(self, progress: Progress) -> PFGModel:
        progress.start("load", total=2, unit="models")
        progress.say("a note")
        self._open.wait(60)
        return self._model


@pytest.fixture
def gate(model: PFGModel) -> Gate:
    return Gate(model)


@pytest.fixture
def desk(weights: GenerateJob, gate: Gate, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "session", gate, job=weights, run=None, bounds=BOUNDS)
    yield desk
    gate.open()
    assert any(desk.stop() for _ in range(20))  # a busy machine may take more than one wait


@pytest.fixture
def page(desk: Desk) -> Iterator[Client]:
    with serving(drawing_app(desk), ServeOptions(port=0, rules=RULES)) as place:
        yield Client(place)


@pytest.fixture
def ready(desk: Desk, page: Client) -> Client:
    """The page, whose model is there."""
    desk.start()
    page.until(lambda state: state["model"]["state"] == "ready")
    return page


def picture(seed: int = 0, *, size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG of noise."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
