"""One optimizer step: the gradient is that of the step's real rows, each once, however they are cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from pfgdata.store import LatentSet
from pfgtrain.adapter import PFGLinear
from pfgtrain.base import Base
from pfgtrain.batches import Batch, Batches, TaggerVectors, join
from pfgtrain.fit import Trainer
from pfgtrain.lora import lora_parameters
from tests.pfgtrain.fit.small_trainer import NUMBERS, STILL, make_trainer
from tests.pfgtrain.small_store import build_latents, build_store
from tests.pfgtrain.tiny_base import build_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Batches, LatentSet]:
    store = build_store(tmp_path_factory.mktemp("store") / "feats", NUMBERS, shard_rows=9)
    latent_set = build_latents(store, NUMBERS, vae_digest="v", shard_rows=9)
    snapshot = store.snapshot()
    vectors = TaggerVectors(snapshot, snapshot.everything)
    rows = join(snapshot.everything, latent_set.index(), [vectors.index()])
    return Batches(rows, features=[vectors], latent_set=latent_set, batch_size=4, seed=0), latent_set


def epoch(batches: Batches) -> list[Batch]:
    return [batches.read(index, part=slice(0, 4)) for index in range(batches.per_epoch)]


def loss_and_gradient(trainer: Trainer, step: list[Batch], folder: Path) -> tuple[float, dict[int, Any]]:
    loss = float(trainer.step(step).loss)
    folder.mkdir()
    trainer.write(folder)
    states = torch.load(folder / "optimizer.pt", weights_only=True)["optimizer"]["state"]
    return loss, {index: state["exp_avg"].double() for index, state in states.items()}


def test_a_step_over_many_batches_is_the_mean_over_their_real_rows(
    base: Base, batches: tuple[Batches, LatentSet], tmp_path: Path
) -> None:
    reader, latent_set = batches
    step = epoch(reader)
    weights = [batch.weight for batch in step]
    assert min(weights) < 4 == max(weights)
    whole, gradient = loss_and_gradient(make_trainer(base, latent_set), step, tmp_path / "whole")
    parts = [
        loss_and_gradient(make_trainer(base, latent_set), [batch], tmp_path / str(number))
        for number, batch in enumerate(step)
    ]
    mean = sum(weight * loss for weight, (loss, _) in zip(weights, parts, strict=True)) / len(NUMBERS)
    assert whole == pytest.approx(mean, rel=1e-6)
    for index, ours in gradient.items():
        theirs = sum(w * part[index] for w, (_, part) in zip(weights, parts, strict=True)) / len(NUMBERS)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_rows_that_only_fill_a_batch_move_nothing(
    base: Base, batches: tuple[Batches, LatentSet], tmp_path: Path
) -> None:
    reader, latent_set = batches
    (tail, *_) = [batch for batch in epoch(reader) if batch.weight < 4]
    filler = tail.weights == 0
    changed = replace(
        tail,
        latents=np.where(filler[:, None, None, None], np.float16(9), tail.latents),
        features=np.where(filler[:, None], np.float16(9), tail.features),
    )
    one = loss_and_gradient(make_trainer(base, latent_set), [tail], tmp_path / "one")
    other = loss_and_gradient(make_trainer(base, latent_set), [changed], tmp_path / "other")
    assert one[0] == other[0]
    assert all(torch.equal(one[1][index], other[1][index]) for index in one[1])


def test_gradients_are_clipped_once_over_all_parts(
    base: Base, batches: tuple[Batches, LatentSet], tmp_path: Path
) -> None:
    reader, latent_set = batches
    config = replace(STILL, max_grad_norm=0.01)
    _, gradient = loss_and_gradient(make_trainer(base, latent_set, config), epoch(reader)[:2], tmp_path / "x")
    norm = torch.stack([(moment / 0.1).norm() for moment in gradient.values()]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_frozen_parts_are_held_in_the_mixed_dtype_and_what_learns_in_float32(
    base: Base, batches: tuple[Batches, LatentSet], tmp_path: Path
) -> None:
    reader, latent_set = batches
    config = replace(STILL, train="adapter", mixed_precision="bf16", adapter_learning_rate=1e-3)
    trainer = make_trainer(base, latent_set, config)
    trainee = trainer.model
    assert trainee.unet.dtype == torch.bfloat16
    assert isinstance(trainee.adapter, PFGLinear)
    assert trainee.adapter.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in trainee.unet.parameters())
    assert trainee.unet.training  # else diffusers ignores gradient checkpointing
    before = trainee.adapter.pfg_linear.weight.clone()
    assert np.isfinite(trainer.read_losses([trainer.step(epoch(reader)[:1])])[0]).all()
    assert not torch.equal(trainee.adapter.pfg_linear.weight, before)


def test_of_a_unet_that_learns_in_part_the_frozen_layers_are_held_in_the_mixed_dtype(
    base: Base, batches: tuple[Batches, LatentSet]
) -> None:
    config = replace(STILL, unet_blocks="cross_attention", mixed_precision="bf16")
    unet = make_trainer(base, batches[1], config).model.unet
    for name, parameter in unet.named_parameters():
        learns = ".attn2." in name
        half = not learns and "norm" not in name
        assert parameter.requires_grad == learns, name
        assert parameter.dtype == (torch.bfloat16 if half else torch.float32), name


def test_a_lora_begins_from_the_seed_as_nothing(base: Base, batches: tuple[Batches, LatentSet]) -> None:
    starts = []
    for seed in (1, 1, 2):
        config = replace(STILL, train="lora", r=2, seed=seed)
        starts.append(lora_parameters(make_trainer(base, batches[1], config).model.unet))
    ours, again, other = starts
    assert all(torch.equal(ours[name], again[name]) for name in ours)
    assert not any(torch.equal(ours[name], other[name]) for name in ours if name.endswith("lora_A.weight"))
    assert not any(ours[name].any() for name in ours if name.endswith("lora_B.weight"))


def test_a_probe_drops_nothing(base: Base, batches: tuple[Batches, LatentSet]) -> None:
    batch = batches[0].probe(np.flatnonzero(batches[0].rows.bucket == 0)[:3], index=-1)
    losses = [
        make_trainer(base, batches[1], replace(STILL, condition_dropout=share)).probe(
            batch, quantiles=np.array([0.1, 0.5, 0.9])
        )
        for share in (0.0, 1.0)
    ]
    assert losses[0] == losses[1]


def test_gradient_checkpointing_is_really_on(base: Base, batches: tuple[Batches, LatentSet]) -> None:
    reader, latent_set = batches
    calls = []
    for flag in (False, True):
        trainer = make_trainer(base, latent_set, replace(STILL, gradient_checkpointing=flag))
        seen: list[int] = []
        trainer.model.unet.down_blocks[0].resnets[0].register_forward_pre_hook(
            lambda *_, seen=seen: seen.append(1)
        )
        trainer.step(epoch(reader)[:1])
        calls.append(len(seen))
    assert calls == [1, 2]  # forward, and again in the backward pass


def test_a_probe_is_a_function_of_the_weights_alone(base: Base, batches: tuple[Batches, LatentSet]) -> None:
    reader, latent_set = batches
    trainer = make_trainer(base, latent_set)
    batch = reader.probe(np.flatnonzero(reader.rows.bucket == 0)[:3], index=-1)
    quantiles = np.array([0.1, 0.5, 0.9])
    first = trainer.probe(batch, quantiles=quantiles)
    trainer.step(epoch(reader)[:1])
    assert trainer.probe(batch, quantiles=quantiles) == first
    assert make_trainer(base, latent_set).probe(batch, quantiles=quantiles) == first


def test_attention_in_steps_on_a_cpu_in_bf16_learns_as_the_fused_kernel_does(
    base: Base, batches: tuple[Batches, LatentSet], tmp_path: Path
) -> None:
    reader, latent_set = batches
    step = epoch(reader)[:1]
    quick = make_trainer(base, latent_set, replace(STILL, mixed_precision="bf16"))
    fused = make_trainer(base, latent_set, replace(STILL, mixed_precision="bf16"))
    fused.model.unet.set_attn_processor(AttnProcessor2_0())
    kinds = {type(one) for one in quick.model.unet.attn_processors.values()}
    assert kinds == {AttnProcessor}
    loss, gradient = loss_and_gradient(quick, step, tmp_path / "quick")
    expected, wanted = loss_and_gradient(fused, step, tmp_path / "fused")
    assert loss == pytest.approx(expected, rel=1e-2)
    ours, theirs = (torch.cat([part.flatten() for part in side.values()]) for side in (gradient, wanted))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.999


@pytest.mark.parametrize(("precision", "side"), [("no", 64), ("bf16", 512)])
def test_attention_stays_fused_in_float32_and_where_pictures_are_large(
    base: Base, batches: tuple[Batches, LatentSet], precision: Any, side: int
) -> None:
    _, latent_set = batches
    info = replace(latent_set.info, buckets=(*latent_set.info.buckets, (side, side)))
    other = LatentSet(latent_set.path, latent_set.identity, info, latent_set.disk)
    trainer = make_trainer(base, other, replace(STILL, mixed_precision=precision))
    kinds = {type(one) for one in trainer.model.unet.attn_processors.values()}
    assert kinds == {AttnProcessor2_0}
