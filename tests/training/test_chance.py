"""Seeds, and what they seed."""

from __future__ import annotations

import pytest
import torch

from diffuseq.training.chance import mix, seed_apart, seed_global


def test_the_global_generator_is_seeded_as_torch_would() -> None:
    seed = mix(1, 2, 3)
    seed_global(seed, torch.device("cpu"))
    found = torch.rand(5)
    torch.manual_seed(seed)
    assert torch.equal(found, torch.rand(5))


def test_what_nobody_passes_on_is_drawn_apart_from_what_is_passed_on() -> None:
    """Or dropout would leave out what goes by the noise: correlations of .06 on a CPU, and more on a GPU."""
    left_out, noise = [], []
    for seed in range(100):
        generator = torch.Generator()
        seed_apart(seed, torch.device("cpu"), generator)
        left_out.append(torch.nn.functional.dropout(torch.ones(1000), 0.1) == 0)
        noise.append(torch.rand(2000, generator=generator)[::2])
    both = torch.stack((torch.stack(left_out).flatten().float(), torch.stack(noise).flatten()))
    assert abs(torch.corrcoef(both)[0, 1]) < 0.02


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
