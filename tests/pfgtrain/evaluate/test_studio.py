"""The pictures of an evaluation: what is held in memory, what is kept on disk."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from pfgdata.errors import RunError
from pfgdata.records import NoProgress
from pfgtrain.evaluate import EvaluateSetup, Guide, TrainingImages, evaluate
from pfgtrain.evaluate.studio import Studio
from pfgtrain.evaluate.viewers import Viewer
from pfgtrain.generate import PFGModel
from tests.conftest import make_images
from tests.doubles import CheapTagger
from tests.pfgtrain.evaluate.small_evaluation import OPTIONS


def test_a_large_guide_is_small_on_the_page(model: PFGModel, guides: list[Guide], tmp_path: Path) -> None:
    (photo,) = make_images(tmp_path / "photo", 1, size=(900, 600))
    large = Guide(name="photo.png", character="photo", views=(photo,))
    found = evaluate(
        model, EvaluateSetup(guides=[guides[0], large], options=OPTIONS), out_dir=tmp_path / "out"
    )
    sizes = [Image.open(tmp_path / "out" / guide.pictures["guide"][0]).size for guide in found.guides]
    assert sizes == [(64, 64), (128, 85)]


def test_copies_are_read_as_they_are_looked_at(model: PFGModel, training: TrainingImages) -> None:
    """A thousand photos at once would not fit in memory. One of them is gone, or all are."""
    log: list[str] = []

    class Logged(TrainingImages):
        def pixels(self, row: int) -> npt.NDArray[np.uint8] | None:
            log.append("read")
            return None if row == 1 else super().pixels(row)

    class Looking(CheapTagger):
        def predict(
            self, images: npt.NDArray[np.uint8]
        ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
            log.append("look")
            return super().predict(images)

    kept = Logged(store=training.store, snapshot=training.snapshot, selection=training.selection)
    studio = Studio(
        model=model,
        viewers=[Viewer(role="tagger", tagger=Looking(), threshold=0.35)],
        options=replace(OPTIONS, batch_size=1),
        progress=NoProgress(),
    )
    assert studio.copies(kept, [0, 1, 2], ["a", "b", "c"])["tagger"].owners_M.tolist() == [0, 2]
    assert log == ["read", "look", "read", "read", "look"]
    assert studio.copies(kept, [1, 1], ["a", "b"]) == {}


def test_a_guide_for_which_the_vae_has_no_room_is_one_line(model: PFGModel, guides: list[Guide]) -> None:
    class Greedy(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.float32

        def encode(self, _: torch.Tensor) -> torch.Tensor:
            return torch.empty(2**50, dtype=torch.uint8)

    pipeline = copy.copy(model.pipeline)
    pipeline.vae = Greedy()
    setup = EvaluateSetup(guides=guides[:2], options=OPTIONS)
    with pytest.raises(RunError, match="main memory is too small for a picture"):
        evaluate(replace(model, pipeline=pipeline), setup)
