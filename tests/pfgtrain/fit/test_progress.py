"""A fit is never silent for long: what is loaded, hashed, measured, saved and drawn shows how far it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pfgtrain.base import Base
from pfgtrain.fit import FitData, fit, go_on
from tests.doubles import Watched
from tests.pfgtrain.fit.small_fit import SMALL

CONFIG = replace(
    SMALL, max_train_steps=2, checkpointing_steps=1, validation_split=0.3, num_validation_images=2
)


def test_all_that_takes_seconds_beside_the_steps_is_shown(data: FitData, base: Base, tmp_path: Path) -> None:
    watched = Watched()
    held = fit(data, base, CONFIG, run_dir=tmp_path / "run", progress=watched).plan.held_out
    checkpoint = [f"validate: {held}/{held} images", "save: 1/1 checkpoints", "draw: 40/40 steps"]
    probe = f"probe: {30 - held}/{30 - held} images"
    assert watched.ended[:4] == ["load: 1/1 VAEs", "prompts: 2/2 texts", "load: 2/2 parts", probe]
    assert watched.ended[4:-1] == [*checkpoint, probe, *checkpoint]
    assert watched.ended[-1].startswith("fit: ")
    assert not watched.running


def test_going_on_shows_the_files_that_are_checked_and_the_states_that_are_loaded(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    fit(data, base, CONFIG, run_dir=tmp_path / "run")
    watched = Watched()
    longer = replace(CONFIG, max_train_steps=3, lr_scheduler="constant")
    go_on(data, base, longer, run_dir=tmp_path / "run", progress=watched)
    assert watched.ended[:5] == [
        "load: 1/1 VAEs",
        "hash: 3/3 files",
        "prompts: 2/2 texts",
        "load: 2/2 parts",
        "load: 1/1 optimizers",
    ]


def test_a_picture_that_cannot_be_drawn_ends_its_own_task_alone(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    watched = Watched()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pictures").write_text("a file where the folder should be")
    fit(data, base, CONFIG, run_dir=tmp_path / "run", progress=watched)
    assert any("no picture of the images held out" in line for line in watched.said)
    assert watched.ended[-1].startswith("fit: ")
    assert not watched.running
