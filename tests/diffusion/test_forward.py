import pytest
import torch

from diffuseq.diffusion.forward import absorb, absorbing_noise, add_noise, partial_noise


def test_every_position_can_have_a_level_of_its_own():
    x0, noise = torch.ones(2, 3, 4), torch.full((2, 3, 4), 10.0)
    alpha = torch.tensor([[1.0, 0.6, 0.0], [0.8, 1.0, 0.6]])
    x_t = add_noise(x0, alpha, (1 - alpha**2).sqrt(), noise)
    torch.testing.assert_close(x_t[..., 0], torch.tensor([[1.0, 8.6, 10.0], [6.8, 1.0, 8.6]]))


def test_float64_levels_do_not_change_the_dtype_of_the_data():
    x0 = torch.ones(1, 2, 3)
    assert partial_noise(x0, torch.ones(1, 2).bool(), torch.ones(1).double(), 0.5, x0).dtype == torch.float32


def test_pure_noise_with_an_absorbing_state_gathers_around_it():
    noise = torch.randn(1, 50_000, 2, generator=torch.Generator().manual_seed(0))
    m = torch.tensor([3.0, -2.0])
    x_t = absorbing_noise(torch.zeros(1, 50_000, 2), torch.ones(1, 50_000).bool(), 0.0, 1.0, noise, m)
    torch.testing.assert_close(x_t.mean((0, 1)), m, atol=0.03, rtol=0)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_target_positions_become_the_absorbing_state_at_the_given_rate(sigma):
    x_t, m = torch.zeros(1, 40_000, 2), torch.ones(2)
    target = torch.arange(40_000)[None] % 2 == 0
    absorbed = absorb(x_t, target, sigma, m, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(absorbed[~target], x_t[~target])
    assert float(absorbed[target].mean()) == pytest.approx(0.5 * sigma, abs=0.015)
    assert set(absorbed.unique().tolist()) == {0.0, 1.0}


def test_without_noise_nothing_is_absorbed():
    x_t = torch.randn(2, 50, 2, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.0, 1.0])
    absorbed = absorb(x_t, torch.ones(2, 50).bool(), sigma, torch.ones(2), 1.0, torch.Generator())
    assert torch.equal(absorbed[0], x_t[0]) and (absorbed[1] == 1).all()
