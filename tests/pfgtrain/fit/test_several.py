"""Several feature sets in one fit: an adapter each, or one on a mix; left out they change nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pfgdata.errors import ConfigError, IdentityError, RunError, StoreError
from pfgtrain.adapter import PFGLinear, PFGSeveral, load_adapter
from pfgtrain.base import Base
from pfgtrain.checkpoint import ADAPTER_FILE, RunRecord, checkpoints
from pfgtrain.config import FitConfig
from pfgtrain.fit import FitData, Inputs, Trainer, data_of, fit, go_on, make_accelerator, plan_fit
from pfgtrain.fit.data import sets_of
from tests.pfgdata.store.small_features import give_features
from tests.pfgtrain.fit.small_fit import (
    NUMBERS,
    SMALL,
    Said,
    StopAfter,
    assert_all_finite,
    assert_same_run,
    losses_of,
    make_data,
)
from tests.pfgtrain.small_store import FEATURE_DIM, content_of

WIDTH = 5  # of dino
BOTH = replace(SMALL, num_tokens=None, features="tagger:2,dino:3")
MIX = replace(BOTH, features="tagger+dino:3")


def vector_of(number: int, width: int = WIDTH) -> np.ndarray:
    """What the extractor would see in image `number`: far from zero, and of its own spread."""
    return (7 + 3 * np.random.default_rng([9, number]).normal(size=width)).astype(np.float16)


def with_dino(place: Path, base: Base, numbers: Sequence[int] = NUMBERS, width: int = WIDTH) -> FitData:
    """The small store, and in it a feature set `dino` of some images, in two shards."""
    made = make_data(place, base)
    for part in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
        ids = np.stack([np.frombuffer(content_of(number), np.uint8) for number in part])
        give_features(made.store, "dino", ids, np.stack([vector_of(number, width) for number in part]))
    return data_of(made.store, BOTH)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, base: Base) -> FitData:
    return with_dino(tmp_path_factory.mktemp("both") / "feats", base)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory, base: Base) -> FitData:
    return with_dino(tmp_path_factory.mktemp("half") / "feats", base, NUMBERS[:20])


def again(data: FitData, config: FitConfig) -> FitData:
    return data_of(data.store, config)


def trainer_of(data: FitData, base: Base, config: FitConfig) -> Trainer:
    config = replace(config, mixed_precision="no")
    inputs = Inputs.of(data, base, config)
    return Trainer(inputs, config, accelerator=make_accelerator(config), total_steps=6)


def test_the_tagger_s_set_by_name_is_what_is_read_where_none_is_named(
    both: FitData, base: Base, tmp_path: Path
) -> None:
    for name, config in (("left-out", SMALL), ("named", replace(SMALL, features="tagger:2"))):
        fit(again(both, config), base, config, run_dir=tmp_path / name)
    assert_same_run(tmp_path / "left-out", tmp_path / "named")
    told = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("left-out", "named")]
    assert all("features" not in one and "missing_vectors" not in one for one in told)
    keys = {"blake3", "created", "digest"}
    left_out, named = ({k: v for k, v in one.items() if k not in keys} for one in told)
    assert left_out == named


def test_a_feature_is_the_vectors_of_all_sets_side_by_side(both: FitData) -> None:
    batches = sets_of(both, BOTH, processes=1).train
    rows = np.arange(len(batches.rows))
    features = batches.features(rows)
    assert features.shape == (len(NUMBERS), FEATURE_DIM + WIDTH)
    known = {content_of(number): vector_of(number) for number in NUMBERS}
    for image, feature in zip(batches.rows.images.content_ids, features, strict=True):
        assert np.array_equal(feature[FEATURE_DIM:], known[image.tobytes()])
    alone = sets_of(again(both, SMALL), SMALL, processes=1).train
    assert np.array_equal(features[:, :FEATURE_DIM], alone.features(rows))
    assert [batches.columns, len(alone.columns)] == [
        [slice(0, FEATURE_DIM), slice(FEATURE_DIM, FEATURE_DIM + WIDTH)],
        1,
    ]


def test_tokens_stand_in_the_order_of_the_sets_and_are_each_adapter_s_own(both: FitData, base: Base) -> None:
    trainer = trainer_of(both, base, replace(BOTH, num_tokens=5))
    adapter = trainer.model.adapter
    assert isinstance(adapter, PFGSeveral) and adapter.groups == (2, 3)
    features = torch.randn(4, FEATURE_DIM + WIDTH)
    parts = [
        one(part) for one, part in zip(adapter.each, features.split([FEATURE_DIM, WIDTH], 1), strict=True)
    ]
    assert torch.equal(adapter(features), torch.cat(parts, 1))
    assert trainer.trainable["adapter"] == sum(p.numel() for p in adapter.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"features": "tagger:2,dino:3", "feature_dropout": "dino=0.5", "pfg_dropout": 0.1, "use_ema": True},
        {"features": "dino+tagger:3", "train": "adapter", "use_ema": True},
        {"features": "dino:4", "train": "lora", "r": 2, "lora_alpha": 1.0},
        {"features": "tagger:1,dino:2", "adapter_kind": "mlp", "standardize_features": True},
    ],
    ids=["each, own dropout, ema", "mix, adapter, ema", "one other set, lora", "mlp, standardized"],
)
@pytest.mark.resume
def test_a_fit_of_several_cut_and_resumed_equals_the_uncut_one(
    changes: dict[str, Any], both: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(BOTH, gradient_accumulation_steps=2, validation_split=0.2, **changes)
    data = again(both, config)
    fit(data, base, config, run_dir=tmp_path / "whole")
    fit(data, base, config, run_dir=tmp_path / "cut", stop=StopAfter(2))
    go_on(data, base, config, run_dir=tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert_all_finite(tmp_path / "cut")


@pytest.mark.resume
def test_sdxl_trains_on_several_and_resumes(sdxl: Base, tmp_path: Path) -> None:
    data = with_dino(tmp_path / "feats", sdxl)
    fit(data, sdxl, BOTH, run_dir=tmp_path / "whole")
    fit(data, sdxl, BOTH, run_dir=tmp_path / "cut", stop=StopAfter(2))
    go_on(data, sdxl, BOTH, run_dir=tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_has_its_ordered_sets_and_what_they_mean_on_record(
    both: FitData, base: Base, tmp_path: Path
) -> None:
    fit(both, base, replace(BOTH, max_train_steps=1), run_dir=tmp_path / "run")
    record = RunRecord.read(tmp_path / "run")
    plan = record.features_read
    assert (plan.text, record.num_tokens) == ("tagger:2,dino:3", 5)
    (found,) = both.store.feature_sets()
    tagger, dino = plan.sets
    assert (tagger.identity, tagger.feature_dim) == (None, FEATURE_DIM)
    assert dino.identity is not None and dino.identity["weights_sha256"] == found.identity.weights_sha256
    assert (dino.extractor, dino.feature_dim) == ("/models/dino", WIDTH)
    adapter = load_adapter(
        checkpoints(tmp_path / "run")[-1] / ADAPTER_FILE,
        cross_attention_dim=base.cross_attention_dim,
        num_tokens=5,
    )
    assert adapter.groups == (2, 3) and adapter.feature_dim == FEATURE_DIM + WIDTH


def test_a_mix_is_one_linear_that_folds_and_each_set_counts_alike(
    both: FitData, base: Base, tmp_path: Path
) -> None:
    fit(again(both, MIX), base, replace(MIX, max_train_steps=1), run_dir=tmp_path / "run")
    file = checkpoints(tmp_path / "run")[-1] / ADAPTER_FILE
    adapter = load_adapter(file, cross_attention_dim=base.cross_attention_dim)
    assert isinstance(adapter, PFGLinear) and adapter.feature_mean is not None
    batches = sets_of(again(both, MIX), MIX, processes=1).train
    features = torch.from_numpy(batches.features(np.arange(len(batches.rows)))).float()
    assert adapter.feature_std is not None
    seen = (features - adapter.feature_mean) / adapter.feature_std
    norms = [part.square().sum(1).mean() for part in seen.split([FEATURE_DIM, WIDTH], 1)]
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-3, atol=0)
    assert seen.square().mean() == pytest.approx(1, rel=1e-3)  # so it starts as one set alone does
    plain = PFGLinear(adapter.feature_dim, 3, base.cross_attention_dim)
    plain.load_state_dict(adapter.folded())
    torch.testing.assert_close(plain(features), adapter(features), rtol=1e-4, atol=1e-4)


def test_half_a_set_is_one_line_with_the_command_and_the_way_round(half: FitData, base: Base) -> None:
    with pytest.raises(RunError) as refusal:
        plan_fit(half, base, BOTH)
    text = str(refusal.value)
    assert "dino: 10 of 30 images have no vector" in text and "pfgdata features" in text
    assert "--label dino" in text and "--allow-missing" in text and "\n" not in text
    assert plan_fit(half, base, replace(BOTH, allow_missing=True)).missing_vectors == {"dino": 10}


def test_what_no_extractor_can_use_is_not_said_to_be_made_by_another_run(base: Base, tmp_path: Path) -> None:
    data = with_dino(tmp_path / "feats", base, NUMBERS[:28])
    ids = np.stack([np.frombuffer(content_of(number), np.uint8) for number in NUMBERS[28:]])
    give_features(data.store, "dino", ids[:0], np.empty((0, WIDTH)), failed=ids[:1])
    with pytest.raises(RunError, match=r"2 of 30 .*, 1 of them on record as no image.*; pfgdata features"):
        plan_fit(again(data, BOTH), base, BOTH)
    give_features(data.store, "dino", ids[1:], vector_of(29)[None])
    with pytest.raises(RunError, match=r"1 of 30 .*, 1 of them on record.*--allow-missing") as refusal:
        plan_fit(again(data, BOTH), base, BOTH)
    assert "pfgdata features" not in str(refusal.value)


def test_a_set_that_has_none_of_the_images_is_refused_even_so(base: Base, tmp_path: Path) -> None:
    data = make_data(tmp_path / "feats", base)
    give_features(data.store, "dino", np.zeros((1, 16), np.uint8), np.ones((1, WIDTH)))
    config = replace(BOTH, allow_missing=True)
    with pytest.raises(RunError, match="none is left to train on"):
        plan_fit(again(data, config), base, config)


def test_a_row_that_lacks_a_vector_is_trained_with_the_pad_and_moves_no_adapter(
    half: FitData, base: Base
) -> None:
    config = replace(
        BOTH, num_tokens=5, allow_missing=True, condition_dropout=0.0, learning_rate=0.0, max_grad_norm=0.0
    )
    trainer = trainer_of(half, base, config)
    adapter = trainer.model.adapter
    assert isinstance(adapter, PFGSeveral)
    batches = sets_of(half, config, processes=1).train
    lacking = batches.rows.features[1].row < 0
    bucket = int(np.argmax(np.bincount(batches.rows.bucket[lacking])))
    rows = np.resize(np.flatnonzero(lacking & (batches.rows.bucket == bucket)), config.train_batch_size)
    batch = batches.probe(rows, index=-1)
    assert np.isnan(batch.features[:, FEATURE_DIM:]).all()
    tokens, has = adapter.tell(torch.from_numpy(batch.features).float())
    assert has.tolist() == [[True, False]] * len(rows) and tokens.isfinite().all()
    before = [{k: v.clone() for k, v in one.state_dict().items()} for one in adapter.each]
    trainer.step([batch])
    moved = [
        any(not torch.equal(one.state_dict()[key], old) for key, old in state.items() if "weight" in key)
        for one, state in zip(adapter.each, before, strict=True)
    ]
    grown = [p.grad for p in adapter.each[1].parameters()]
    assert moved[0] and all(value is None or not value.any() for value in grown)


@pytest.mark.resume
@pytest.mark.parametrize("text", ["tagger:2,dino:3", "tagger+dino:3"])
def test_half_a_set_trains_when_allowed_and_resumes_to_the_bit(
    text: str, half: FitData, base: Base, tmp_path: Path
) -> None:
    config = replace(BOTH, features=text, allow_missing=True, validation_split=0.2)
    data, said = again(half, config), Said()
    fit(data, base, config, run_dir=tmp_path / "whole", progress=said)
    assert any("have no vector in dino: the pad stands for its tokens" in line for line in said.lines)
    fit(data, base, config, run_dir=tmp_path / "cut", stop=StopAfter(2))
    go_on(data, base, config, run_dir=tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert_all_finite(tmp_path / "cut")


def test_a_run_goes_on_only_with_the_vectors_it_was_begun_with(base: Base, tmp_path: Path) -> None:
    data = with_dino(tmp_path / "feats", base, NUMBERS[:20])
    config = replace(BOTH, allow_missing=True)
    fit(again(data, config), base, config, run_dir=tmp_path / "run", stop=StopAfter(1))
    ids = np.frombuffer(content_of(29), np.uint8)[None]
    give_features(data.store, "dino", ids, vector_of(29)[None])
    with pytest.raises(RunError, match="cannot go on with another missing_vectors"):
        go_on(again(data, config), base, config, run_dir=tmp_path / "run")
    other = replace(config, features="dino:3,tagger:2")
    with pytest.raises(RunError, match="cannot go on with another"):
        go_on(again(data, other), base, other, run_dir=tmp_path / "run")


def test_dropping_one_adapter_leaves_all_else_as_it_was_drawn(both: FitData, base: Base) -> None:
    drawn = {}
    for told in (None, "dino=1"):
        config = replace(BOTH, num_tokens=5, feature_dropout=told)
        trainer = trainer_of(both, base, config)
        batch = sets_of(both, config, processes=1).train.read(0, part=slice(None))
        drawn[told] = trainer._draw(batch, rows=8, dropout=trainer._dropout)
    one, other = drawn.values()
    assert torch.equal(one.noise_BChw, other.noise_BChw) and torch.equal(one.timesteps_B, other.timesteps_B)
    assert torch.equal(one.keep_text_B, other.keep_text_B)
    assert torch.equal(one.keep_tokens_BG[:, 0], other.keep_tokens_BG[:, 0])
    assert one.keep_tokens_BG[:, 1].any() and not other.keep_tokens_BG[:, 1].any()


def test_it_starts_from_a_run_of_the_same_sets_and_from_no_other(
    both: FitData, base: Base, tmp_path: Path
) -> None:
    fit(both, base, replace(BOTH, max_train_steps=2), run_dir=tmp_path / "first")
    config = replace(BOTH, init=str(tmp_path / "first"), max_train_steps=1, adapter_learning_rate=0.0)
    fit(both, base, config, run_dir=tmp_path / "second")
    first, second = (
        load_adapter(
            checkpoints(tmp_path / name)[-1] / ADAPTER_FILE, cross_attention_dim=base.cross_attention_dim
        )
        for name in ("first", "second")
    )
    features = torch.randn(3, FEATURE_DIM + WIDTH)
    torch.testing.assert_close(first(features), second(features))
    for text in ("dino:3,tagger:2", "dino:5"):
        other = replace(config, features=text)
        with pytest.raises(IdentityError, match="reads tagger:2,dino:3, this fit"):
            plan_fit(again(both, other), base, other)
    plain = replace(SMALL, init=str(tmp_path / "first"), num_tokens=5)
    with pytest.raises(IdentityError, match="reads tagger:2,dino:3, this fit tagger:5"):
        plan_fit(again(both, plain), base, plain)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"features": "wd14:5;dino:4"}, "is no set with its tokens"),
        ({"features": "tagger:0"}, "is no set with its tokens"),
        ({"features": "tagger:,dino:4"}, "is no set with its tokens"),
        ({"features": ""}, "is no set with its tokens"),
        ({"features": "dino:2,dino:3"}, "names dino twice"),
        ({"features": "tagger:2,dino:3", "num_tokens": 4}, "is not the 5 that features"),
        ({"features": "tagger:2", "feature_dropout": "dino=0.1"}, "dino is none of tagger"),
        ({"features": "tagger:2", "feature_dropout": "tagger=2"}, "2 is not 0 to 1"),
        ({"features": "tagger:2", "feature_dropout": "tagger=nan"}, "not finite"),
        ({"features": "tagger:2", "feature_dropout": "tagger"}, "is not NAME=VALUE"),
        ({"feature_dropout": "tagger=0.1"}, "take pfg_dropout"),
        ({"allow_missing": True}, "the tagger's are never missing"),
    ],
)
def test_what_cannot_be_asked_is_one_line(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refusal:
        FitConfig.of(keys, source="x")
    assert "\n" not in str(refusal.value)


def test_a_set_that_is_not_there_or_is_named_twice_is_refused(both: FitData) -> None:
    with pytest.raises(StoreError, match="dina: no feature set of that label; did you mean dino"):
        again(both, replace(BOTH, features="dina:3"))
    (found,) = both.store.feature_sets()
    with pytest.raises(ConfigError, match="are one set; name it once"):
        again(both, replace(BOTH, features=f"dino:3,{found.id}:2"))
    with pytest.raises(ConfigError, match="are one set"):
        again(both, replace(BOTH, features="tagger:3,cheap:2"))


def test_losses_follow_the_second_set(both: FitData, base: Base, tmp_path: Path) -> None:
    for name, text in (("both", "tagger:2,dino:3"), ("alone", "tagger:5")):
        config = replace(BOTH, features=text, num_tokens=None)
        fit(again(both, config), base, config, run_dir=tmp_path / name)
    assert losses_of(tmp_path / "both") != losses_of(tmp_path / "alone")
