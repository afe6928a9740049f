"""Moments of the forward process and of its reverse, at any two levels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.diffusion import posterior
from diffuseq.diffusion.forward import absorbing_noise, add_noise, partial_noise
from diffuseq.diffusion.schedule import DiscreteSchedule, LogLinearSchedule

SCHEDULE = LogLinearSchedule(4.0, -8.0)
two_times = st.tuples(st.floats(0, 0.95), st.floats(0.01, 0.05)).map(
    lambda pair: (pair[0], pair[0] + pair[1])
)


def levels(u: float) -> tuple[float, float]:
    return float(SCHEDULE.alpha(u)), float(SCHEDULE.sigma(u))


def test_the_moments_of_the_noised_data_are_those_of_the_schedule():
    generator = torch.Generator().manual_seed(0)
    x0 = torch.full((1, 40_000, 2), 1.5)
    alpha, sigma = levels(0.6)
    x_t = add_noise(x0, alpha, sigma, torch.randn(x0.shape, generator=generator))
    assert float(x_t.mean()) == pytest.approx(1.5 * alpha, abs=5 * sigma / math.sqrt(80_000))
    assert float(x_t.std()) == pytest.approx(sigma, rel=0.02)


@given(two_times)
@settings(max_examples=50)
def test_two_hops_are_one_hop(pair):
    """Noise to s, then from s to t, has the mean and the variance of noise to t at once."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = map(levels, pair)
    hop = posterior.between(alpha_t, sigma_t, alpha_s, sigma_s)
    ratio = alpha_t / alpha_s
    assert ratio**2 * sigma_s**2 + hop.variance_large == pytest.approx(sigma_t**2, rel=1e-12)
    assert ratio**2 + hop.variance_large == pytest.approx(1, rel=1e-12)


@given(two_times)
@settings(max_examples=50)
def test_the_posterior_of_x_t_gives_back_the_marginal_at_s(pair):
    """∫ q(x_s|x_t,x_0) q(x_t|x_0) dx_t = q(x_s|x_0): the mean and the variance of both sides."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = map(levels, pair)
    back = posterior.between(alpha_t, sigma_t, alpha_s, sigma_s)
    assert back.x0_weight + back.x_t_weight * alpha_t == pytest.approx(alpha_s, rel=1e-9)
    assert back.x_t_weight**2 * sigma_t**2 + back.variance_small == pytest.approx(sigma_s**2, rel=1e-9)
    assert 0 < back.variance_small < back.variance_large


def test_between_neighbours_the_posterior_is_that_of_the_chain():
    chain = DiscreteSchedule.named("sqrt", 20)
    alpha, sigma = chain.alpha_bar.sqrt(), (1 - chain.alpha_bar).sqrt()
    ours = posterior.between(alpha[1:], sigma[1:], alpha[:-1], sigma[:-1])
    torch.testing.assert_close(ours.x0_weight, chain.posterior_mean_coef1[1:])
    torch.testing.assert_close(ours.x_t_weight, chain.posterior_mean_coef2[1:])
    torch.testing.assert_close(ours.variance_small, chain.posterior_variance[1:])
    torch.testing.assert_close(ours.variance_large, chain.betas[1:])


def test_the_posterior_at_the_clean_end_is_x0():
    back = posterior.between(0.6, 0.8, 1.0, 0.0)
    x0 = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(back.mean(torch.ones_like(x0), x0), x0)
    assert back.variance_small == 0


@given(u=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_x0_eps_and_v_say_the_same(u, seed):
    alpha, sigma = levels(u)
    generator = torch.Generator().manual_seed(seed)
    x0, eps = (torch.randn(2, 3, 4, generator=generator).double() for _ in range(2))
    x_t = add_noise(x0, alpha, sigma, eps)
    v = alpha * eps - sigma * x0
    torch.testing.assert_close(posterior.eps_from_x0(x_t, x0, alpha, sigma), eps)
    torch.testing.assert_close(posterior.x0_from_eps(x_t, eps, alpha, sigma), x0)
    torch.testing.assert_close(posterior.v_from_x0(x_t, x0, alpha, sigma), v)
    torch.testing.assert_close(posterior.x0_from_v(x_t, v, alpha, sigma), x0)
    torch.testing.assert_close(posterior.eps_from_v(x_t, v, alpha, sigma), eps)


@pytest.mark.parametrize("shape", [(), (3,), (3, 5)])
def test_the_source_stays_bit_equal(shape):
    generator = torch.Generator().manual_seed(1)
    x0, noise = (torch.randn(3, 5, 2, generator=generator) for _ in range(2))
    target = torch.rand(3, 5, generator=generator) < 0.5
    u = torch.rand(shape, generator=generator)
    alpha, sigma = SCHEDULE.alpha(u), SCHEDULE.sigma(u)
    m = torch.randn(2, generator=generator)
    for x_t in (
        partial_noise(x0, target, alpha, sigma, noise),
        absorbing_noise(x0, target, alpha, sigma, noise, m),
    ):
        assert torch.equal(x_t[~target], x0[~target])
        assert (x_t[target] != x0[target]).all()
