"""Seeds, and what they seed."""

from __future__ import annotations

import torch

from diffuseq.training.chance import mix, seed_global


def test_the_global_generator_is_seeded_as_torch_would() -> None:
    seed = mix(1, 2, 3)
    seed_global(seed, torch.device("cpu"))
    found = torch.rand(5)
    torch.manual_seed(seed)
    assert torch.equal(found, torch.rand(5))


def test_seeds_differ_in_every_number_and_fit_a_generator() -> None:
    seeds = [mix(a, b) for a in range(-1, 9) for b in range(10)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 1 << 63 for seed in seeds)
