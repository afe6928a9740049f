"""The Transformer against torch's own layers, and what its search shares."""

from __future__ import annotations

import math

import pytest
import torch
from autoregressive_cases import SPECIAL, pairs, request, system
from torch import Tensor, nn

from diffuseq.baselines.autoregressive import opened
from diffuseq.baselines.configs import TransformerConfig
from diffuseq.baselines.transformer import Layer, Transformer, sinusoids
from diffuseq.recipes import recipe
from diffuseq.system import SpecialTokens


def copy_layer(ours: Layer, theirs: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) -> None:
    """Put the weights of our layer into torch's."""

    def put(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
        linear.weight.data, linear.bias.data = weight, bias

    attention = theirs.self_attn
    attention.in_proj_weight.data, attention.in_proj_bias.data = (
        ours.attention.read.weight,
        ours.attention.read.bias,
    )
    put(attention.out_proj, ours.attention.write.weight, ours.attention.write.bias)
    if ours.cross is not None:
        cross = theirs.multihead_attn
        cross.in_proj_weight.data = torch.cat([ours.cross.ask.weight, ours.cross.read.weight])
        cross.in_proj_bias.data = torch.cat([ours.cross.ask.bias, ours.cross.read.bias])
        put(cross.out_proj, ours.cross.write.weight, ours.cross.write.bias)
    put(theirs.linear1, ours.feed_forward[0].weight, ours.feed_forward[0].bias)
    put(theirs.linear2, ours.feed_forward[2].weight, ours.feed_forward[2].bias)
    for index, norm in enumerate(ours.norms, start=1):
        getattr(theirs, f"norm{index}").load_state_dict(norm.state_dict())


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_every_layer_computes_what_torchs_does(norm: str) -> None:
    torch.manual_seed(0)
    config = TransformerConfig(heads=4, width=32, feed_forward=64, dropout=0.0, norm=norm)
    x, encoded = torch.randn(3, 5, 32), torch.randn(3, 6, 32)
    padding = torch.arange(6) >= torch.tensor([6, 2, 4])[:, None]
    size = {"d_model": 32, "nhead": 4, "dim_feedforward": 64, "dropout": 0.0}
    encoder, decoder = Layer(config, decoder=False), Layer(config, decoder=True)
    for layer in (encoder, decoder):
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.2)
    their_encoder = nn.TransformerEncoderLayer(**size, batch_first=True, norm_first=norm == "pre")
    their_decoder = nn.TransformerDecoderLayer(**size, batch_first=True, norm_first=norm == "pre")
    copy_layer(encoder, their_encoder)
    copy_layer(decoder, their_decoder)
    visible = ~padding[:, None, None]

    ours = encoder(encoded, lambda y: encoder.attention(y, visible))
    theirs = their_encoder(encoded, src_key_padding_mask=padding)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

    look = decoder.looking_at(decoder.memory(encoded), visible)
    ours = decoder(x, lambda y: decoder.attention(y, causal=True), look)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    theirs = their_decoder(x, encoded, tgt_mask=causal, memory_key_padding_mask=padding)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_position_table_is_that_of_the_paper() -> None:
    table = sinusoids(9, 8)
    for position, rate in ((0, 0), (3, 0), (8, 2), (5, 3)):
        angle = position / 10_000 ** (rate / 3)
        assert float(table[position, rate]) == pytest.approx(math.sin(angle), abs=1e-6)
        assert float(table[position, 4 + rate]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_later_tokens_do_not_reach_back() -> None:
    built = system("transformer")
    batch = pairs(3)
    inputs, padding = opened(batch.target, batch.target_padding, SPECIAL.start)
    changed = inputs.clone()
    changed[:, 3:] = 7
    with torch.no_grad():
        before, after = (
            built.decode(batch.source, batch.source_padding, x, padding) for x in (inputs, changed)
        )
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_candidates_share_one_encoded_source() -> None:
    built = system("transformer")
    assert isinstance(built, Transformer)
    with torch.no_grad():
        state = built.begin(request(pairs(3)), copies=50, room=4)
    assert all(len(key) == 3 and len(value) == 3 for key, value in state.memory)
    assert all(len(key) == 150 for key, _ in state.cache)


def test_the_base_size_is_that_of_the_paper() -> None:
    with torch.device("meta"):
        base = Transformer(TransformerConfig(), SpecialTokens(37_000, 0, 1, 2, 3, 4))
    # Table 3 of the paper says 65 million for a shared vocabulary of about 37,000.
    assert base.num_parameters() / 1e6 == pytest.approx(63, abs=2)


def test_the_medium_one_has_the_budget_of_qqp() -> None:
    ours, theirs = recipe("qqp").training, recipe("transformer-medium").training
    for name in ("batch_size", "minutes", "both_directions", "weight_decay", "ema", "cuda_graphs"):
        assert getattr(ours, name) == getattr(theirs, name), name
