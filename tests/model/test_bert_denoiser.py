import math
from dataclasses import replace

import torch

from diffuseq.model.bert_denoiser import BertDenoiser, BertShape, sinusoidal_time

TINY = BertShape(
    30, layers=2, heads=2, width=16, feed_forward=32, embedding_width=8, time_width=8, max_positions=12
)


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = BertDenoiser(BertShape(vocab_size=30_522))
    assert sum(p.numel() for p in network.parameters()) == 91_225_274


def test_the_head_is_tied_to_the_embedding() -> None:
    network = BertDenoiser(TINY)
    assert network.lm_head.weight is network.word_embedding.weight


def test_the_state_has_the_published_names() -> None:
    names = set(BertDenoiser(TINY).state_dict())
    assert {"position_ids", "LayerNorm.weight", "time_embed.2.bias", "output_down_proj.2.weight"} <= names
    assert "input_transformers.layer.1.attention.output.LayerNorm.weight" in names
    assert "mean_embed" not in names
    assert "mean_embed" in BertDenoiser(replace(TINY, absorbing=True)).state_dict()


def test_every_position_attends_to_every_other() -> None:
    network = BertDenoiser(TINY).eval()
    x = torch.randn(1, 10, 8, requires_grad=True)
    network(x, torch.tensor([500.0]))[0, 3].sum().backward()
    assert x.grad is not None
    assert (x.grad[0].abs().sum(-1) > 0).all()


def test_the_estimate_depends_on_time_and_position() -> None:
    network = BertDenoiser(TINY).eval()
    x = torch.ones(2, 5, 8)
    out = network(x, torch.tensor([0.0, 900.0]))
    assert not torch.allclose(out[0], out[1])
    assert not torch.allclose(out[0, 0], out[0, 1])


def test_time_becomes_cosines_then_sines() -> None:
    waves = sinusoidal_time(torch.tensor([0.0, 2.0]), 5)
    assert waves[0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    expected = [math.cos(2), math.cos(0.02), math.sin(2), math.sin(0.02), 0.0]
    torch.testing.assert_close(waves[1], torch.tensor(expected))


def test_dropout_acts_in_training_only() -> None:
    network = BertDenoiser(replace(TINY, dropout=0.5))
    x, time = torch.randn(1, 5, 8), torch.tensor([3.0])
    assert not torch.equal(network(x, time), network(x, time))
    network.eval()
    assert torch.equal(network(x, time), network(x, time))
