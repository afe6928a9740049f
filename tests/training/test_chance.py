"""Seeds, and what they seed."""

from __future__ import annotations

import pytest
import torch

from diffuseq.training.chance import mix, seed_global


def test_the_global_generator_is_seeded_as_torch_would() -> None:
    seed = mix(1, 2, 3)
    seed_global(seed, torch.device("cpu"))
    found = torch.rand(5)
    torch.manual_seed(seed)
    assert torch.equal(found, torch.rand(5))


@pytest.mark.parametrize(("device", "seeded"), [("cuda", 1), ("cuda:0", 0), ("cuda:1", 1)])
def test_of_several_gpus_the_generator_of_this_one_is_seeded(
    device: str, seeded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generators = [torch.Generator().manual_seed(number) for number in range(2)]
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    seed_global(77, torch.device(device))
    assert [generator.initial_seed() for generator in generators] == [
        77 if number == seeded else number for number in range(2)
    ]


def test_seeds_differ_in_every_number_and_fit_a_generator() -> None:
    seeds = [mix(a, b) for a in range(-1, 9) for b in range(10)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 1 << 63 for seed in seeds)
