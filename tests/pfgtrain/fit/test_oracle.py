"""The loss of a step, against diffusers' own parts put together anew, for each prediction and pad."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from pfgdata.store import LatentSet, Store
from pfgtrain.base import Base
from pfgtrain.base.prompts import encode_prompts
from pfgtrain.batches import Batches, TaggerVectors, join
from pfgtrain.fit import FitData
from pfgtrain.fit.data import sets_of
from pfgtrain.objective import Dropout, draw
from tests.pfgtrain.fit.small_trainer import NUMBERS, STILL, make_trainer
from tests.pfgtrain.small_store import build_latents, build_store
from tests.pfgtrain.tiny_base import build_tiny_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, read only."""
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, LatentSet]:
    """A store and its latents, read only."""
    store = build_store(tmp_path_factory.mktemp("store") / "feats", NUMBERS, shard_rows=9)
    return store, build_latents(store, NUMBERS, vae_digest="v", shard_rows=9)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("uncond", ["zeros", "eos"])
def test_the_loss_of_a_step_is_diffusers_own_on_the_rows_of_the_store(
    kind: Any, uncond: Any, folder: Path, made: tuple[Store, LatentSet]
) -> None:
    base = Base.load(str(folder), prediction_type=kind)
    store, latent_set = made
    snapshot = store.snapshot()
    vectors = TaggerVectors(snapshot, snapshot.everything)
    rows = join(snapshot.everything, latent_set.index(), [vectors.index()])
    batches = Batches(rows, features=[vectors], latent_set=latent_set, batch_size=4, seed=0)
    batch = next(b for i in range(batches.per_epoch) if (b := batches.read(i, part=slice(0, 4))).weight == 4)
    config = replace(STILL, prompt="a cat", uncond=uncond, condition_dropout=0.5, snr_gamma=0.05)
    trainer = make_trainer(base, latent_set, config)

    chance = draw(
        seed=0, index=batch.index, shape=batch.latents.shape, num_timesteps=1000, dropout=Dropout(both=0.5)
    )
    prompt, empty = encode_prompts(base, ["a cat", ""]).context.split(1)
    with torch.no_grad():
        assert trainer.model.adapter is not None
        tokens = trainer.model.adapter(torch.from_numpy(batch.features).float())
    pad = empty[:, -1:].expand(1, 2, -1) if uncond == "eos" else torch.zeros(1, 2, tokens.shape[2])
    context = torch.cat(
        [
            torch.cat([prompt, own[None]], dim=1) if keep else torch.cat([empty, pad], dim=1)
            for own, keep in zip(tokens, chance.keep_tokens_BG[:, 0], strict=True)
        ]
    )
    scheduler = DDPMScheduler.from_pretrained(base.folder / "scheduler")
    latents, t = torch.from_numpy(batch.latents).float() * 0.18215, chance.timesteps_B
    noisy = scheduler.add_noise(latents, chance.noise_BChw, t)
    velocity = scheduler.get_velocity(latents, chance.noise_BChw, t)
    wanted = chance.noise_BChw if kind == "epsilon" else velocity
    with torch.no_grad():
        answer = base.load_unet()(noisy, t, encoder_hidden_states=context).sample
    snr = scheduler.alphas_cumprod[t] / (1 - scheduler.alphas_cumprod[t])
    shift = 0 if kind == "epsilon" else 1
    weights = (snr.clamp(max=0.05) + shift) / (snr + shift)
    expected = ((answer - wanted).square().mean(dim=(1, 2, 3)) * weights).mean()

    assert chance.keep_tokens_BG.any() and not chance.keep_tokens_BG.all()
    assert float(trainer.step([batch]).loss) == pytest.approx(float(expected), rel=1e-4)


def test_of_moments_a_draw_is_trained_on(folder: Path, tmp_path: Path) -> None:
    base = Base.load(str(folder))
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=9)
    latent_set = build_latents(store, NUMBERS, vae_digest="v", shard_rows=9, kind="moments")
    snapshot = store.snapshot()
    vectors = TaggerVectors(snapshot, snapshot.everything)
    rows = join(snapshot.everything, latent_set.index(), [vectors.index()])
    batches = Batches(rows, features=[vectors], latent_set=latent_set, batch_size=4, seed=0)
    batch = next(b for i in range(batches.per_epoch) if (b := batches.read(i, part=slice(0, 4))).weight == 4)
    trainer = make_trainer(base, latent_set, replace(STILL, condition_dropout=1.0))
    shape = (4, 4, *batch.latents.shape[2:])
    chance = draw(
        seed=0, index=batch.index, shape=shape, num_timesteps=1000, dropout=Dropout(both=1.0), posterior=True
    )
    assert chance.posterior_BChw is not None
    mean, logvar = torch.from_numpy(batch.latents).float().chunk(2, dim=1)
    latents = (mean + (0.5 * logvar).exp() * chance.posterior_BChw) * 0.18215
    scheduler = DDPMScheduler.from_pretrained(base.folder / "scheduler")
    noisy = scheduler.add_noise(latents, chance.noise_BChw, chance.timesteps_B)
    empty = encode_prompts(base, [""]).context
    context = torch.cat([empty, torch.zeros(1, 2, empty.shape[2])], dim=1).expand(4, -1, -1)
    with torch.no_grad():
        answer = base.load_unet()(noisy, chance.timesteps_B, encoder_hidden_states=context).sample
    expected = (answer - chance.noise_BChw).square().mean()
    assert float(trainer.step([batch]).loss) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("uncond", ["zeros", "eos"])
def test_captions_and_the_three_dropouts_give_each_row_the_context_it_says(
    uncond: Any, folder: Path, made: tuple[Store, LatentSet]
) -> None:
    base = Base.load(str(folder))
    store, latent_set = made
    snapshot = store.snapshot()
    config = replace(
        STILL,
        caption="tags",
        uncond=uncond,
        condition_dropout=0.2,
        pfg_dropout=0.2,
        caption_dropout_rate=0.4,
        clip_skip=2,
        validation_split=0.0,
    )
    data = FitData(store=store, snapshot=snapshot, latent_set=latent_set, selection=snapshot.everything)
    batches = sets_of(data, config, processes=1).train
    trainer = make_trainer(base, latent_set, config, text_layer=1)
    kinds = set()
    for index in range(batches.per_epoch):
        batch = batches.read(index, part=slice(0, 4))
        if batch.weight < 4:
            continue
        assert batch.texts is not None
        dropout = Dropout(both=0.2, tokens=0.2, text=0.4)
        chance = draw(
            seed=0, index=batch.index, shape=batch.latents.shape, num_timesteps=1000, dropout=dropout
        )
        texts = encode_prompts(base, batch.texts, text_layer=1).context.split(1)
        (empty,) = encode_prompts(base, [""], text_layer=1).context.split(1)
        assert trainer.model.adapter is not None
        with torch.no_grad():
            tokens = trainer.model.adapter(torch.from_numpy(batch.features).float())
        rows = []
        for text, own, keep_text, keep_tokens in zip(
            texts, tokens, chance.keep_text_B.tolist(), chance.keep_tokens_BG[:, 0].tolist(), strict=True
        ):
            kinds.add((keep_text, keep_tokens))
            words = text if keep_text else empty
            pad = words[:, -1:].expand(1, 2, -1) if uncond == "eos" else torch.zeros(1, 2, words.shape[2])
            rows.append(torch.cat([words, own[None] if keep_tokens else pad], dim=1))
        scheduler = DDPMScheduler.from_pretrained(base.folder / "scheduler")
        latents, t = torch.from_numpy(batch.latents).float() * 0.18215, chance.timesteps_B
        noisy = scheduler.add_noise(latents, chance.noise_BChw, t)
        with torch.no_grad():
            answer = base.load_unet()(noisy, t, encoder_hidden_states=torch.cat(rows)).sample
        expected = (answer - chance.noise_BChw).square().mean()
        assert float(trainer.step([batch]).loss) == pytest.approx(float(expected), rel=1e-4)
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}
