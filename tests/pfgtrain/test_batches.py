"""Batches of a real store: every image once an epoch, whatever the shards, processes and cuts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pfgdata.errors import RunError
from pfgdata.store import Store
from pfgtrain.batches import Batch, Batches, TaggerVectors, join, plan_epoch
from tests.pfgtrain.small_store import (
    BUCKETS,
    bucket_of,
    build_latents,
    build_store,
    content_of,
    crop_of,
    feature_of,
    latent_of,
)

NUMBERS = list(range(40))
ALL = slice(None)


def batches_of(
    path: Path, *, shard_rows: int = 7, batch_size: int = 4, seed: int = 0, numbers: list[int] = NUMBERS
) -> Batches:
    store = build_store(path, numbers, shard_rows=shard_rows)
    latent_set = build_latents(store, sorted(set(numbers)), vae_digest="v", shard_rows=shard_rows)
    snapshot = store.snapshot()
    vectors = TaggerVectors(snapshot, snapshot.everything)
    return Batches(
        join(snapshot.everything, latent_set.index(), [vectors.index()]),
        features=[vectors],
        latent_set=latent_set,
        batch_size=batch_size,
        seed=seed,
    )


def number_of(feature: npt.NDArray[np.float16]) -> int:
    (number,) = [n for n in NUMBERS if np.array_equal(feature_of(n), feature)]
    return number


def numbers_of(batch: Batch) -> list[int]:
    """Which images the real rows of a batch are, by their features; latents must agree."""
    found = []
    for latent, feature, weight in zip(batch.latents, batch.features, batch.weights, strict=True):
        number = number_of(feature)
        assert np.array_equal(latent, latent_of(number, BUCKETS[bucket_of(number)]))
        if weight:
            found.append(number)
    return found


def epoch(batches: Batches, number: int) -> list[list[int]]:
    first = number * batches.per_epoch
    return [numbers_of(batches.read(first + place, part=ALL)) for place in range(batches.per_epoch)]


def test_an_epoch_has_each_image_once_with_its_own_latent_and_feature(tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "feats")
    for number in range(3):
        seen = Counter(image for batch in epoch(batches, number) for image in batch)
        assert seen == Counter(NUMBERS)


def test_a_batch_is_of_one_bucket_and_always_full_and_says_its_real_rows(tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "feats")
    weights = []
    for index in range(batches.per_epoch):
        batch = batches.read(index, part=ALL)
        assert batch.latents.shape[0] == batch.features.shape[0] == 4
        assert len({bucket_of(number) for number in numbers_of(batch)}) == 1
        assert batch.weight == batch.weights.sum() > 0
        weights.append(batch.weight)
    assert sum(weights) == len(NUMBERS)
    assert min(weights) < 4  # there is a tail


def test_epochs_differ_and_so_do_seeds_and_buckets_are_mixed(tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "a")
    other = batches_of(tmp_path / "b", seed=1)
    assert epoch(batches, 0) != epoch(batches, 1)
    assert epoch(batches, 0) != epoch(other, 0)
    order = [bucket_of(batch[0]) for batch in epoch(batches, 0)]
    assert order != sorted(order)


def test_the_layout_of_shards_does_not_show(tmp_path: Path) -> None:
    one = batches_of(tmp_path / "one", shard_rows=100)
    many = batches_of(tmp_path / "many", shard_rows=3)
    shuffled = batches_of(tmp_path / "shuffled", shard_rows=5, numbers=NUMBERS[::-1])
    assert epoch(one, 1) == epoch(many, 1) == epoch(shuffled, 1)


def test_the_same_bytes_under_two_names_are_trained_on_once(tmp_path: Path) -> None:
    twice = batches_of(tmp_path / "twice", numbers=[*NUMBERS, 3, 3, 5])
    once = batches_of(tmp_path / "once")
    assert (twice.rows.num_selected, twice.rows.num_distinct) == (43, 40)
    assert epoch(twice, 0) == epoch(once, 0)


def test_two_processes_have_the_rows_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "feats", batch_size=6)
    whole = batches.read(2, part=ALL)
    parts = [batches.read(2, part=part) for part in (slice(0, 3), slice(3, 6))]
    assert np.array_equal(np.concatenate([part.features for part in parts]), whole.features)
    assert np.array_equal(np.concatenate([part.weights for part in parts]), whole.weights)
    assert {part.weight for part in parts} == {whole.weight}


def test_steps_take_their_batches_in_order_and_go_on_anywhere_without_replay(tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "feats")
    end = 2 * batches.per_epoch - 1
    count = -(-end // 3)
    whole = [
        [batch.index for batch in step]
        for step in batches.steps(range(count), accumulation=3, end=end, part=ALL)
    ]
    assert [index for step in whole for index in step] == list(range(end))
    for start in (1, count // 2, count - 1):
        rest = [
            [batch.index for batch in step]
            for step in batches.steps(range(start, count), accumulation=3, end=end, part=ALL)
        ]
        assert rest == whole[start:]
    assert list(batches.steps(range(5, 5), accumulation=3, end=end, part=ALL)) == []


def test_real_rows_between_two_batches_are_counted(tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "feats")
    per_epoch = batches.per_epoch
    weights = [batches.read(index, part=ALL).weight for index in range(2 * per_epoch)]
    for start, end in [(0, 0), (0, 1), (2, per_epoch), (3, per_epoch + 4), (0, 2 * per_epoch)]:
        assert batches.images_between(start, end) == sum(weights[start:end])


def test_images_without_a_latent_are_counted_and_left_out(tmp_path: Path) -> None:
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=9)
    latent_set = build_latents(store, NUMBERS[:30], vae_digest="v", shard_rows=9)
    rows = join(store.snapshot().everything, latent_set.index(), [])
    assert (rows.num_distinct, len(rows)) == (40, 30)
    assert {bytes(one) for one in rows.images.content_ids} == {content_of(number) for number in range(30)}


def test_nothing_to_train_on_is_said_with_what_to_do(tmp_path: Path) -> None:
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=9)
    latent_set = build_latents(store, [], vae_digest="v", shard_rows=9, base_name="some/base")
    snapshot, index = store.snapshot(), latent_set.index()
    wanted = {"features": [], "latent_set": latent_set, "batch_size": 4, "seed": 0}
    with pytest.raises(RunError, match=r"none of the 40 .* pfgdata latents .*feats --base some/base"):
        Batches(join(snapshot.everything, index, []), **wanted)  # type: ignore[arg-type]
    nothing = snapshot.everything.take(np.empty(0, np.int64))
    with pytest.raises(RunError, match="no image is selected"):
        Batches(join(nothing, index, []), **wanted)  # type: ignore[arg-type]


def test_a_broken_shard_is_told_to_the_reader_of_the_steps(tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "feats")
    for path in (tmp_path / "feats").glob("latents/*/shards/*/latents.h5"):
        path.unlink()
    with pytest.raises(Exception, match="verify"):
        list(batches.steps(range(2), accumulation=1, end=2, part=ALL))
    assert Store.open(tmp_path / "feats").snapshot().num_images == 40


def test_a_plan_of_600_000_images_drops_and_repeats_nothing() -> None:
    bucket = np.random.default_rng(0).integers(0, 17, 600_000).astype(np.int32)
    plan = plan_epoch(bucket, batch_size=20, seed=0, epoch=3)
    real = plan.rows[plan.weights > 0]
    assert np.array_equal(np.sort(real), np.arange(600_000))
    assert (bucket[plan.rows] == bucket[plan.rows[:, :1]]).all()


def test_a_batch_says_how_its_images_were_cut_where_that_is_asked_for(tmp_path: Path) -> None:
    batches = batches_of(tmp_path / "feats")
    asked = batches.with_sizes()
    for index in range(batches.per_epoch):
        plain, told = batches.read(index, part=ALL), asked.read(index, part=slice(1, 3))
        assert plain.sizes is None
        assert told.sizes is not None
        bucket = tuple(8 * side for side in told.latents.shape[2:])  # height, width
        for row, feature in zip(told.sizes, told.features, strict=True):
            top, left, _, _, width, height = crop_of(number_of(feature))
            assert tuple(row) == (height, width, top, left, *bucket)
        assert told.part(slice(0, 1)).sizes is not None
        assert np.array_equal(plain.latents[1:3], told.latents)
