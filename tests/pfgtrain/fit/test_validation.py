"""Images held out: which they are, that none is trained on, what they tell of each checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pfgdata.errors import StoreError
from pfgdata.records import Selection
from pfgdata.store import FAILURES_SCHEMA, ShardContents, Snapshot, Store, StoreIdentity, images_table
from pfgtrain.base import Base
from pfgtrain.batches import held_out, trained_part
from pfgtrain.checkpoint import RunRecord, checkpoints, find_checkpoint, read_state
from pfgtrain.evaluate import training_images
from pfgtrain.fit import FitData, fit, plan_fit
from pfgtrain.fit.data import sets_of
from tests.doubles import CheapTagger
from tests.pfgtrain.fit.small_fit import SMALL, Said, StopAfter, assert_same_run, make_data
from tests.pfgtrain.small_store import FEATURE_DIM, content_of, feature_of, image_row

HELD = replace(SMALL, validation_split=0.3, checkpointing_steps=2, num_validation_images=1)


def a_store(path: Path, characters: list[tuple[str | None, float]]) -> Snapshot:
    """The snapshot of a store with one image for each (character, score)."""
    tagger = CheapTagger()
    identity = StoreIdentity(
        tagger=tagger.identity, vocabulary_digest=tagger.vocabulary.digest, feature_dim=FEATURE_DIM
    )
    store = Store.create(path, identity=identity, vocabulary=tagger.vocabulary)
    rows = [
        {
            **image_row(number, f"{number}.png"),
            "character": name,
            "character_score": score if name else None,
        }
        for number, (name, score) in enumerate(characters)
    ]
    with store.writer() as writer:
        writer.commit(
            ShardContents(
                images=images_table(rows),
                features=np.stack([feature_of(number) for number in range(len(rows))]),
                failures=FAILURES_SCHEMA.empty_table(),
            )
        )
    return store.snapshot()


def held(snapshot: Snapshot, share: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return held_out(snapshot, snapshot.everything, share=share, character_threshold=0.85)


def names_in(snapshot: Snapshot) -> list[str | None]:
    return pa.table(snapshot.images(["character"]))["character"].to_pylist()


def test_whole_characters_are_held_out_about_their_share_of_them(tmp_path: Path) -> None:
    characters: list[tuple[str | None, float]] = [(f"c{n % 200}", 0.9) for n in range(800)]
    snapshot = a_store(tmp_path / "feats", characters)
    chosen, names = held(snapshot, 0.2), names_in(snapshot)
    out = {name for name, away in zip(names, chosen, strict=True) if away}
    kept = {name for name, away in zip(names, chosen, strict=True) if not away}
    assert not out & kept
    assert 0.1 < len(out) / 200 < 0.3
    more = held(snapshot, 0.4)
    assert (more >= chosen).all() and more.sum() > chosen.sum()


def test_a_character_is_held_out_whatever_else_is_in_the_store(tmp_path: Path) -> None:
    first: list[tuple[str | None, float]] = [(f"c{n % 50}", 0.9) for n in range(200)]
    small = a_store(tmp_path / "small", first)
    large = a_store(tmp_path / "large", [*first, *[(f"d{n % 60}", 0.9) for n in range(300)]])
    both = [
        {name for name, away in zip(names_in(one), held(one, 0.2), strict=True) if away}
        for one in (small, large)
    ]
    assert both[0] == {name for name in both[1] if name and name.startswith("c")}


def test_images_without_a_sure_character_are_held_out_one_by_one(tmp_path: Path) -> None:
    snapshot = a_store(tmp_path / "feats", [(None, 0.0) if n % 2 else ("unsure", 0.5) for n in range(600)])
    chosen = held(snapshot, 0.2)
    assert 0.1 < chosen.mean() < 0.3
    assert 0.1 < chosen[::2].mean() < 0.3


def test_of_one_character_some_images_are_held_out_and_never_all_of_a_store(tmp_path: Path) -> None:
    alone = a_store(tmp_path / "one", [("c1", 0.99)] * 400)
    assert 0.1 < held(alone, 0.2).mean() < 0.3
    assert not held(alone, 0.0).any()
    assert not held(alone, 1.0).any()
    few = a_store(tmp_path / "few", [("c1", 0.99)])
    assert not held(few, 0.999).any()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.15, 0.25, 0.5, 0.9])
def test_what_was_trained_on_is_found_again_by_its_digest_whatever_the_share_was(
    share: float, tmp_path: Path
) -> None:
    alike = [(f"c{n % 40}", 0.9) for n in range(200)]
    snapshot = a_store(
        tmp_path / "feats", [*alike, *[("a", 0.9)] * 60, *[("b", 0.9)] * 100, *[(None, 0.0)] * 40]
    )
    images = snapshot.everything
    chosen = held(snapshot, share)
    wanted = images.take(np.flatnonzero(~chosen))

    def found(count: int, digest: str) -> Selection | None:
        return trained_part(snapshot, images, count=count, digest=digest, character_threshold=0.85)

    part = found(int(chosen.sum()), wanted.digest)
    assert part is not None
    assert np.array_equal(part.content_ids, wanted.content_ids)
    assert found(int(chosen.sum()), images.digest) is None
    assert found(0, wanted.digest) is None
    assert found(0, images.digest) is images


def test_an_evaluation_knows_which_images_a_fit_held_out(data: FitData, base: Base, tmp_path: Path) -> None:
    sets = sets_of(data, HELD, processes=1)
    assert sets.validation is not None
    fit(data, base, HELD, run_dir=tmp_path / "run", stop=StopAfter(1))
    record = RunRecord.read(tmp_path / "run")
    seen = training_images(data.store, record, tagger=data.store.identity.tagger)
    assert seen is not None and seen.exact
    assert np.array_equal(seen.selection.content_ids, sets.train.rows.images.content_ids)
    assert not any(seen.holds(row.tobytes()) for row in sets.validation.rows.images.content_ids)


def test_no_image_held_out_is_ever_trained_on(data: FitData, base: Base, tmp_path: Path) -> None:
    sets, plan = sets_of(data, HELD, processes=1), plan_fit(data, base, HELD)
    assert sets.validation is not None
    away = {row.tobytes() for row in sets.validation.rows.images.content_ids}
    seen = {row.tobytes() for row in sets.train.rows.images.content_ids}
    assert away and not away & seen
    assert (plan.images, plan.held_out) == (len(seen), len(away))
    assert plan.images + plan.held_out == 30
    drawn = set()
    for index in range(2 * sets.train.per_epoch):
        batch = sets.train.read(index, part=slice(0, 8))
        drawn |= {sets.train.rows.images.content_ids[row].tobytes() for row in batch.rows}
    assert drawn == seen


def test_each_checkpoint_is_validated_and_the_best_is_kept(data: FitData, base: Base, tmp_path: Path) -> None:
    config = replace(HELD, checkpoints_total_limit=1, learning_rate=3e-3, use_ema=True, max_train_steps=12)
    report = fit(data, base, config, run_dir=tmp_path / "run")
    found = {path: read_state(path).validation_loss for path in checkpoints(tmp_path / "run")}
    assert all(loss is not None for loss in found.values())
    best = find_checkpoint(tmp_path / "run", "best")
    assert found[best] == min(loss for loss in found.values() if loss is not None)
    assert report.validation_loss == found[checkpoints(tmp_path / "run")[-1]]
    assert len(found) == (1 if best == find_checkpoint(tmp_path / "run") else 2)
    record = RunRecord.read(tmp_path / "run")
    assert record.trained_count + record.held_out_count == 30


def test_validation_is_a_function_of_the_weights_and_moves_nothing(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    quiet = replace(HELD, num_validation_images=0, checkpointing_steps=100)
    fit(data, base, quiet, run_dir=tmp_path / "quiet")
    fit(data, base, HELD, run_dir=tmp_path / "often")
    assert_same_run(tmp_path / "quiet", tmp_path / "often")
    losses = [read_state(checkpoints(tmp_path / name)[-1]).validation_loss for name in ("quiet", "often")]
    assert losses[0] == losses[1]


def test_what_is_validated_and_drawn_is_the_average(data: FitData, base: Base, tmp_path: Path) -> None:
    one = replace(HELD, max_train_steps=1, num_validation_images=1)
    fit(data, base, one, run_dir=tmp_path / "one")
    still = {"use_ema": True, "use_ema_warmup": True, "ema_power": 1e3, "ema_decay": 1.0}  # after step 1
    config = replace(HELD, max_train_steps=3, checkpointing_steps=9, num_validation_images=1, **still)  # type: ignore[arg-type]
    fit(data, base, config, run_dir=tmp_path / "three")
    runs = [tmp_path / "one", tmp_path / "three"]
    losses = [read_state(checkpoints(run)[-1]).validation_loss for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    sheets = []
    for run in runs:
        with Image.open(next((run / "pictures").iterdir())) as image:
            sheets.append(np.asarray(image, np.int16))
    assert np.abs(sheets[0] - sheets[1]).max() <= 1


def test_images_held_out_have_the_captions_of_their_own(base: Base, tmp_path: Path) -> None:
    data = make_data(tmp_path / "feats", base)
    said = {content_of(number): f"picture, number {number}" for number in range(29)}
    table = pa.table({"content_id": pa.array(list(said), pa.binary(16)), "value": list(said.values())})
    data.store.write_column("told", table)
    config = replace(HELD, caption="told", shuffle_caption=True)
    sets = sets_of(data, config, processes=1)
    assert sets.validation is not None
    for batches in (sets.train, sets.validation):
        ids = [row.tobytes() for row in batches.rows.images.content_ids]
        for row, content_id in enumerate(ids):
            assert batches.probe(np.array([row]), index=-1).texts == [said.get(content_id, "")]
    report = fit(data, base, config, run_dir=tmp_path / "run", progress=(heard := Said()))
    missing = report.plan.missing_captions
    assert any("1 of" in line and "empty caption" in line for line in heard.lines) == (missing == 1)
    with pytest.raises(StoreError, match="told"):
        fit(data, base, replace(HELD, caption="tolt"), run_dir=tmp_path / "other")


def test_a_stop_is_quick_and_its_checkpoint_is_never_the_best(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    report = fit(data, base, HELD, run_dir=tmp_path / "run", stop=StopAfter(3))
    losses = [read_state(path).validation_loss for path in checkpoints(tmp_path / "run")]
    assert losses[0] is not None and losses[1] is None
    assert find_checkpoint(tmp_path / "run", "best").name == "step-00000002"
    assert report.interrupted


def test_pictures_of_held_out_images_are_drawn_with_each_checkpoint(
    data: FitData, base: Base, tmp_path: Path
) -> None:
    fit(data, base, replace(HELD, num_validation_images=2, max_train_steps=2), run_dir=tmp_path / "run")
    (sheet,) = (tmp_path / "run" / "pictures").iterdir()
    assert sheet.name == "held-out-step-00000002.png"
    with Image.open(sheet) as image:
        pixels = np.asarray(image)
    assert pixels.shape[1] > pixels.shape[0] / 2  # two columns, two rows
    assert pixels.std() > 0


@pytest.mark.parametrize("share", [0.0, 0.001])
def test_without_images_held_out_there_is_no_best_and_it_is_said(
    share: float, data: FitData, base: Base, tmp_path: Path
) -> None:
    said = Said()
    config = replace(SMALL, validation_split=share, max_train_steps=1)
    report = fit(data, base, config, run_dir=tmp_path / "run", progress=said)
    assert report.validation_loss is None
    assert any("no image is held out" in line for line in said.lines) == (share > 0)
