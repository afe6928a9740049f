"""The GRU with attention."""

from __future__ import annotations

import torch
from autoregressive_cases import pairs, request, system

from diffuseq.baselines.gru import Gru


def built_gru(**changes: int) -> Gru:
    built = system("gru", **changes)
    assert isinstance(built, Gru)
    return built


def test_both_directions_read_a_short_source_as_if_it_were_alone() -> None:
    built = built_gru(layers=2)
    batch = pairs(4)
    with torch.no_grad():
        together = built.encode(batch.source, batch.source_padding)
        for row in range(4):
            length = int((~batch.source_padding[row]).sum())
            alone = built.encode(
                batch.source[row : row + 1, :length], batch.source_padding[row : row + 1, :length]
            )
            torch.testing.assert_close(alone.memory[0], together.memory[row, : length + 1])
            torch.testing.assert_close(alone.hidden[:, 0], together.hidden[:, row])


def test_attention_is_luongs_general_score() -> None:
    built = built_gru()
    batch = pairs(3)
    torch.manual_seed(0)
    hidden = torch.randn(3, 2, 32)
    with torch.no_grad():
        state = built.encode(batch.source, batch.source_padding)
        attended = built.attended(hidden, state)
        score = torch.einsum("bte,bse->bts", hidden @ built.score.weight.T, state.memory) / 32**0.5
        weights = score.masked_fill(~state.visible, -torch.inf).softmax(-1)
        expected = built.attend(torch.cat([weights @ state.memory, hidden], -1)).tanh()
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=1e-4)


def test_candidates_share_one_encoded_source() -> None:
    built = built_gru()
    with torch.no_grad():
        state = built.begin(request(pairs(3)), copies=20, room=4)
    assert len(state.memory) == 3
    assert state.hidden.shape == (1, 60, 32)
