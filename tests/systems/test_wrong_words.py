"""Words of a target that others are given wrongly, in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from diffuseq.checks import check_system
from diffuseq.config import DiffuSeqConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.model.word_losses import word_losses
from diffuseq.recipes import recipe
from diffuseq.system import SpecialTokens
from diffuseq.systems.diffuseq import DiffuSeq

SPECIAL = SpecialTokens(vocab_size=40, pad=0, start=2, end=3, unknown=1, mask=4)
CONFIG = DiffuSeqConfig(
    encoder_layers=1, decoder_layers=2, heads=2, width=32, feed_forward=32, embedding_width=16,
    dropout=0.0, left_to_right=1.0, length_first=0.0, max_length=16,
)  # fmt: skip
BATCH = Batch(*pad([[5, 6, 7], [8, 9]], 0), *pad([[10, 11], [12, 13, 14, 15]], 0))


def given_words(share: float, monkeypatch: pytest.MonkeyPatch, training: bool = True) -> torch.Tensor:
    """The words that the network is given, of many draws: [draws b l+1]."""
    system, seen = DiffuSeq(replace(CONFIG, wrong_words=share), SPECIAL).train(training), []
    inner = system.states_by_rank

    def watch(words: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        seen.append(words)
        return inner(words, *rest)

    monkeypatch.setattr(system, "states_by_rank", watch)
    for seed in range(200):
        system(BATCH, torch.Generator().manual_seed(seed))
    return torch.stack(seen)


def test_a_share_of_the_words_is_wrong_and_no_end_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.tensor([[10, 11, 3, 3, 3], [12, 13, 14, 15, 3]])
    assert (given_words(0.0, monkeypatch) == right).all()
    assert (given_words(0.5, monkeypatch, training=False) == right).all()
    given = given_words(0.5, monkeypatch)
    wrong = given != right
    # half are drawn from all places: 4 of 10 are ends, 1 of 10 the word itself
    assert wrong[:, right != 3].float().mean().item() == pytest.approx(0.5 * 0.5, abs=0.03)
    assert (given[:, right != 3] != SPECIAL.end).all()


def test_what_is_asked_for_stays_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    system, asked = DiffuSeq(replace(CONFIG, wrong_words=1.0), SPECIAL), []

    def watch(*given: Any, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(given[3])
        return word_losses(*given, **named)

    monkeypatch.setattr("diffuseq.systems.diffuseq.word_losses", watch)
    system(BATCH, torch.Generator().manual_seed(0))
    assert asked[0].tolist() == [[10, 11, 3, 3, 3], [12, 13, 14, 15, 3]]


def test_a_share_is_from_0_to_1() -> None:
    config = recipe("qqp")
    check_system(config.system)
    with pytest.raises(InputError, match="wrong_words"):
        check_system(replace(config.system, wrong_words=1.5))
