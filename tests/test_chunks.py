"""A part of the positions at a time: the same as all at once."""

from __future__ import annotations

import pytest
import torch

from diffuseq import chunks
from diffuseq.chunks import parts
from diffuseq.model.denoiser import Denoiser
from diffuseq.sampling.words import draw_apart, draw_words

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_parts_are_all_positions_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "SCORES", 100)
    assert list(parts(7, 40, CPU)) == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    assert list(parts(2, 1000, CPU)) == [slice(0, 1), slice(1, 2)]
    assert list(parts(7, 40, GPU)) == [slice(0, 7)]
    assert list(parts(0, 40, CPU)) == [slice(0, 0)] == list(parts(0, 40, GPU))


@pytest.mark.parametrize("copy", [True, False])
def test_words_are_as_likely_in_parts(copy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = Denoiser(
        40, width=32, heads=2, feed_forward=32, encoder_layers=1, decoder_layers=1, embedding_width=16,
        dropout=0.0, copy=copy, self_conditioned=False,
    ).eval()  # fmt: skip
    encoded = network.encode(torch.randint(5, 40, (3, 5)), torch.zeros(3, 5, dtype=torch.bool))
    hidden, where = torch.randn(3, 7, 32), torch.rand(3, 7) < 0.6
    with torch.no_grad():
        whole = network.distribution(hidden, encoded)
        assert whole.shape == (21, 40)
        torch.testing.assert_close(whole.sum(-1), torch.ones(21))
        monkeypatch.setattr(chunks, "SCORES", 160)
        assert [len(part) for part in network.distributions(hidden, encoded)] == [4, 4, 4, 4, 4, 1]
        torch.testing.assert_close(network.distribution(hidden, encoded), whole)
        torch.testing.assert_close(network.distribution(hidden, encoded, where), whole[where.flatten()])
        assert network.distribution(hidden, encoded, torch.zeros_like(where)).shape == (0, 40)


@pytest.mark.parametrize("temperature", [0.0, 0.65, 1.0])
def test_draws_are_the_same_in_parts(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 40, generator=generator)
    quantile = torch.rand(50, generator=generator)
    never = [torch.randint(-1, 40, (50,), generator=generator) for _ in range(2)]
    ruled_out = logits.clone()
    for words in never:
        ruled_out[words >= 0, words[words >= 0]] = -torch.inf
    ids, log_p = draw_words(ruled_out, quantile, temperature)
    in_parts = draw_apart(logits.clone().split(7), never, quantile, temperature)
    assert torch.equal(in_parts[0], ids)
    torch.testing.assert_close(in_parts[1], log_p)
    assert all((ids != words).all() for words in never)
