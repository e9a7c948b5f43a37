from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from pfgdata.errors import ConfigError
from pfgdata.records import LatentScale
from pfgtrain.objective import (
    Dropout,
    Objective,
    add_noise,
    draw,
    latents_of,
    row_losses,
    seed_of,
    snr_weights,
    stored_of,
    target,
)

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
ALPHAS = SCHEDULER.alphas_cumprod
SHAPE = (6, 4, 8, 8)


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(SHAPE, generator=generator)
    noise = torch.randn(SHAPE, generator=generator)
    return latents, noise, torch.tensor([0, 1, 250, 500, 998, 999])


def test_noise_is_added_as_diffusers_adds_it() -> None:
    latents, noise, timesteps = rows()
    assert torch.equal(
        add_noise(latents, noise, timesteps, ALPHAS), SCHEDULER.add_noise(latents, noise, timesteps)
    )


def test_the_v_target_is_diffusers_velocity_and_the_epsilon_target_the_noise() -> None:
    latents, noise, timesteps = rows()
    expected = SCHEDULER.get_velocity(latents, noise, timesteps)
    assert torch.equal(target("v_prediction", latents, noise, timesteps, ALPHAS), expected)
    assert target("epsilon", latents, noise, timesteps, ALPHAS) is noise


def test_sample_prediction_is_refused() -> None:
    latents, noise, timesteps = rows()
    with pytest.raises(ConfigError, match="use epsilon or v_prediction"):
        target("sample", latents, noise, timesteps, ALPHAS)


def test_a_draw_is_a_function_of_seed_and_index_alone() -> None:
    def once(seed: int, index: int) -> torch.Tensor:
        torch.rand(3)  # the global generator does not matter
        return draw(
            seed=seed, index=index, shape=SHAPE, num_timesteps=1000, dropout=Dropout(both=0.1)
        ).noise_BChw

    assert torch.equal(once(1, 5), once(1, 5))
    assert not torch.equal(once(1, 5), once(1, 6))
    assert not torch.equal(once(1, 5), once(2, 5))
    assert len({seed_of("batch", seed, index) for seed in range(20) for index in range(-20, 20)}) == 800


def test_the_parts_of_two_processes_are_the_whole_of_one() -> None:
    whole = draw(seed=3, index=9, shape=SHAPE, num_timesteps=1000, dropout=Dropout(both=0.5), posterior=True)
    first, second = whole.rows(slice(0, 3)), whole.rows(slice(3, 6))
    assert torch.equal(torch.cat([first.noise_BChw, second.noise_BChw]), whole.noise_BChw)
    assert torch.equal(torch.cat([first.timesteps_B, second.timesteps_B]), whole.timesteps_B)
    assert torch.equal(torch.cat([first.keep_text_B, second.keep_text_B]), whole.keep_text_B)
    assert torch.equal(torch.cat([first.keep_tokens_BG, second.keep_tokens_BG]), whole.keep_tokens_BG)


def test_asking_for_the_posterior_does_not_move_the_other_draws() -> None:
    without = draw(seed=3, index=9, shape=SHAPE, num_timesteps=1000, dropout=Dropout(both=0.5))
    with_it = draw(
        seed=3, index=9, shape=SHAPE, num_timesteps=1000, dropout=Dropout(both=0.5), posterior=True
    )
    assert torch.equal(without.noise_BChw, with_it.noise_BChw)
    assert without.posterior_BChw is None


def test_dropout_drops_its_share() -> None:
    shape = (20_000, 1, 1, 1)
    for both, tokens, text in [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (1.0, 0.0, 0.0), (0.1, 0.2, 0.3)]:
        dropout = Dropout(both=both, tokens=tokens, text=text)
        chance = draw(seed=0, index=0, shape=shape, num_timesteps=10, dropout=dropout)
        kept_text, kept_tokens = chance.keep_text_B, chance.keep_tokens_BG[:, 0]
        for share, rows in [
            (both, ~kept_text & ~kept_tokens),
            (tokens, kept_text & ~kept_tokens),
            (text, ~kept_text & kept_tokens),
        ]:
            assert abs(float(rows.float().mean()) - share) < 0.01


def test_more_kinds_of_dropout_do_not_move_the_other_draws() -> None:
    draws = [
        draw(seed=3, index=9, shape=SHAPE, num_timesteps=1000, dropout=dropout)
        for dropout in (Dropout(both=0.1), Dropout(both=0.1, tokens=0.3, text=0.3))
    ]
    assert torch.equal(draws[0].noise_BChw, draws[1].noise_BChw)
    assert torch.equal(draws[0].timesteps_B, draws[1].timesteps_B)


def test_means_are_scaled_and_moments_are_drawn_as_diffusers_draws_them() -> None:
    generator = torch.Generator().manual_seed(4)
    moments = torch.randn(2, 8, 4, 4, generator=generator) * 3
    chance = torch.randn(2, 4, 4, 4, generator=generator)
    posterior = DiagonalGaussianDistribution(moments)
    expected = (posterior.mean + posterior.std * chance) * 0.18215
    assert torch.equal(latents_of(moments, chance, scale=LatentScale(scaling=0.18215)), expected)
    assert torch.equal(latents_of(moments, None, scale=LatentScale(scaling=2.0)), moments * 2.0)


def test_latents_are_shifted_and_scaled_by_channel_and_come_back() -> None:
    stored = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    scale = LatentScale(scaling=(0.5, 2.0, 4.0), shift=(1.0, -1.0, 0.0))
    latents = latents_of(stored, None, scale=scale)
    for channel, (scaling, shift) in enumerate([(0.5, 1.0), (2.0, -1.0), (4.0, 0.0)]):
        assert torch.equal(latents[:, channel], (stored[:, channel] - shift) * scaling)
    assert torch.allclose(stored_of(latents, scale=scale), stored, atol=1e-6)


def test_a_row_s_loss_is_its_own_mean_square() -> None:
    latents, noise, _ = rows()
    losses = row_losses(latents, noise)
    assert losses.shape == (6,)
    for row in range(6):
        assert torch.isclose(losses[row], torch.nn.functional.mse_loss(latents[row], noise[row]))


def test_min_snr_weights_for_epsilon_are_the_paper_s() -> None:
    timesteps = torch.arange(1000)
    snr = ALPHAS / (1 - ALPHAS)
    weights = snr_weights("epsilon", timesteps, ALPHAS, gamma=5.0)
    assert torch.allclose(weights, snr.clamp(max=5.0) / snr)
    assert weights.max() == 1.0


def test_min_snr_weights_for_v_stay_up_where_there_is_only_noise() -> None:
    timesteps = torch.arange(1000)
    snr = ALPHAS / (1 - ALPHAS)
    weights = snr_weights("v_prediction", timesteps, ALPHAS, gamma=5.0)
    assert torch.allclose(weights, (snr.clamp(max=5.0) + 1) / (snr + 1))
    assert weights[-1] == 1.0


def test_zero_terminal_snr_gives_finite_weights() -> None:
    alphas = torch.tensor([0.5, 0.0])
    for kind in ("epsilon", "v_prediction"):
        assert torch.equal(snr_weights(kind, torch.tensor([1]), alphas, gamma=5.0), torch.ones(1))


def test_without_gamma_every_row_weighs_one() -> None:
    assert torch.equal(snr_weights("epsilon", torch.arange(3), ALPHAS, gamma=None), torch.ones(3))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_question_is_posed_of_all_its_parts_at_the_draws_timesteps(kind: str) -> None:
    latents, _, _ = rows()
    objective = Objective(prediction_type=kind, alphas_cumprod_N=ALPHAS, snr_gamma=5.0)
    chance = draw(seed=1, index=2, shape=SHAPE, num_timesteps=objective.num_timesteps, dropout=Dropout())
    posed = objective.pose(latents, chance)
    noise, timesteps = chance.noise_BChw, chance.timesteps_B
    assert torch.equal(posed.timesteps_B, timesteps)
    assert torch.equal(posed.noisy_BChw, SCHEDULER.add_noise(latents, noise, timesteps))
    velocity = SCHEDULER.get_velocity(latents, noise, timesteps)
    assert torch.equal(posed.target_BChw, noise if kind == "epsilon" else velocity)
    expected = row_losses(latents, posed.target_BChw) * snr_weights(kind, timesteps, ALPHAS, gamma=5.0)
    assert torch.equal(posed.losses(latents), expected)
