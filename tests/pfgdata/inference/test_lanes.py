"""Every way into a session gives the same, one after another and from many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pfgdata.inference import open_model
from pfgdata.inference.devices import Device, open_session
from pfgdata.inference.lanes import BoundLane, lanes_of
from pfgdata.taggers import OnnxTagger
from pfgdata.taggers.graph import read_graph
from tests.pfgdata.taggers.graphs import SIDE, TAGS, write_tagger


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)


def test_a_bound_buffer_gives_what_plain_runs_give(images: np.ndarray, tmp_path: Path) -> None:
    write_tagger(tmp_path)
    graph, device = read_graph(open_model(tmp_path / "model.onnx"), num_tags=len(TAGS)), Device("cpu")
    session = open_session(graph.model, device=device, threads=1, half=False)
    (plain,) = lanes_of(session, device, image=graph.image.name, outputs=[graph.scores, graph.feature])
    bound = BoundLane(session, device, image=graph.image.name, outputs=[graph.scores, graph.feature])
    before = images.copy()
    batches = [images[:4], images[4:8], images[8:11], images[:4]]
    found = [bound.run(batch) for batch in batches]  # all kept: a later batch must not change an earlier one
    for result, batch in zip(found, batches, strict=True):
        for one, other in zip(result, plain.run(batch), strict=True):
            assert np.array_equal(one, other)
    assert np.array_equal(images, before)


def test_many_threads_may_predict_at_once(images: np.ndarray, tmp_path: Path) -> None:
    write_tagger(tmp_path)
    tagger = OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
    assert (tagger.parallel, tagger.devices, tagger.provider) == (1, ("cpu",), "CPUExecutionProvider")
    alone = [tagger.predict(images[n : n + 3]) for n in range(9)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: tagger.predict(images[n : n + 3]), range(9)))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
