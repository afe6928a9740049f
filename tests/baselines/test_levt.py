"""The Levenshtein Transformer: its policies, its rounds and its stop rule."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
import torch
from memorise import SPECIAL, answer, memorise, pairs, request, rows, share_right, texts

from diffuseq.baselines.configs import IterativeGeneration, LevTConfig
from diffuseq.baselines.levt import LevT, Text
from diffuseq.errors import InputError

TINY = LevTConfig(
    encoder_layers=1,
    decoder_layers=1,
    heads=4,
    width=64,
    feed_forward=128,
    dropout=0.0,
    label_smoothing=0.0,
    max_insertions=10,
    max_length=12,
    norm="pre",
    roll_in_noise=0.4,
)
BATCH = pairs(longest=5)


@pytest.fixture(scope="module")
def trained() -> tuple[LevT, list[float]]:
    torch.manual_seed(0)
    system = LevT(TINY, SPECIAL)
    return system, memorise(system, BATCH, steps=250, learning_rate=5e-3)


@pytest.fixture
def fresh() -> LevT:
    torch.manual_seed(1)
    return LevT(TINY, SPECIAL)


def test_it_learns_64_pairs_by_heart_and_reproduces_them(trained: tuple[LevT, list[float]]) -> None:
    system, losses = trained
    assert sum(losses[-10:]) < 0.1 * sum(losses[:10])
    assert share_right(answer(system, request(BATCH, IterativeGeneration(steps=9))), BATCH) == 1.0


def test_it_stops_by_itself_when_nothing_changes(trained: tuple[LevT, list[float]]) -> None:
    drafts = list(trained[0].generate(request(BATCH, IterativeGeneration(steps=9))))
    assert len(drafts) < 9
    assert texts(drafts[-1]) == texts(drafts[-2])


def test_forwards_counts_every_call_of_the_decoder(trained: tuple[LevT, list[float]]) -> None:
    system, _ = trained
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = system.network.decoder_layers[0].register_forward_hook(count)
    for draft in system.generate(request(BATCH, IterativeGeneration(steps=5, temperature=1.0))):
        assert draft.forwards == calls
    handle.remove()
    assert calls >= 4


def test_deletion_finds_the_wrong_words_and_spares_the_right_ones(trained: tuple[LevT, list[float]]) -> None:
    system, _ = trained
    system.eval()
    goal, padding = system._bounded(BATCH.target, BATCH.target_padding)
    tokens = goal.clone()
    tokens[:, 2] = torch.where(goal[:, 2] == 9, 10, 9)
    with torch.no_grad():
        encoded = system.encode(BATCH.source, BATCH.source_padding)
        after = system._delete(Text(tokens, padding, torch.ones(tokens.shape)), encoded)
    expected = torch.cat((tokens[:, :2], tokens[:, 3:]), dim=1)
    width = min(after.tokens.shape[1], expected.shape[1])
    assert (after.tokens[:, :width] == expected[:, :width]).all(1).float().mean() > 0.6


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_insertion_is_taught_on_every_number_of_kept_tokens_and_more_often_on_none(
    fresh: LevT, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(fresh, "config", dataclasses.replace(fresh.config, from_empty=share))
    goal, padding = fresh._bounded(BATCH.target[:1], BATCH.target_padding[:1])
    length = int((~padding).sum()) - 2
    shortened, gone = fresh._shorten(
        goal.expand(6000, -1), padding.expand(6000, -1), torch.Generator().manual_seed(0)
    )
    kept = (~gone).sum(1) - 2
    expected = torch.full((length + 1,), (1 - share) / (length + 1))
    expected[0] += share
    found = torch.bincount(kept, minlength=length + 1) / 6000
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    assert (shortened[:, 0] == SPECIAL.start).all()
    assert (shortened.gather(1, kept[:, None] + 1) == SPECIAL.end).all()


def test_an_answer_does_not_depend_on_its_batch(trained: tuple[LevT, list[float]]) -> None:
    system, _ = trained
    settings = IterativeGeneration(steps=4, temperature=2.0)
    together = texts(answer(system, request(BATCH, settings, candidates=3)))
    assert len({tuple(text) for text in together}) > 64
    for i in (0, 17, 63):
        alone = texts(answer(system, request(rows(BATCH, slice(i, i + 1)), settings, candidates=3)))
        assert alone == together[i * 3 : i * 3 + 3]


def test_a_candidate_at_rest_does_not_move_again_in_the_company_of_others(fresh: LevT) -> None:
    """What it draws anew may be what stood there: then it is at rest, as it would be alone."""
    with torch.no_grad():
        fresh.deletion_head.weight.mul_(20)
        fresh.placeholder_head.weight.mul_(5)
        fresh.network.embedding.weight.mul_(3)
    settings = IterativeGeneration(steps=12, temperature=0.3)
    many = texts(answer(fresh, request(BATCH, settings, candidates=5)))
    few = texts(answer(fresh, request(BATCH, settings, candidates=2)))
    assert len({tuple(text) for text in few}) > 20
    assert few == [text for i, text in enumerate(many) if i % 5 < 2]


def test_the_number_of_words_counts_in_the_log_probability(fresh: LevT) -> None:
    """Else a text without words would be certain."""
    with torch.no_grad():
        fresh.placeholder_head.bias[0] = 2.0
    asked = request(BATCH, IterativeGeneration(steps=1))
    empty = answer(fresh, asked)
    assert empty.padding.all() and (empty.log_p < 0).all()
    with torch.no_grad():
        start = fresh._empty(len(BATCH))
        encoded = fresh.encode(BATCH.source, BATCH.source_padding)
        logits = fresh._placeholder_logits(fresh.read(start.tokens, start.padding, encoded))
    torch.testing.assert_close(empty.log_p, logits.log_softmax(-1)[:, 0, 0])
    with torch.no_grad():
        fresh.placeholder_head.bias[3] = 9.0
    written = answer(fresh, asked)
    assert (~written.padding).sum(1).tolist() == [3] * len(BATCH)
    assert (written.log_p < written.confidence.log().sum(1)).all()


def test_a_text_never_outgrows_max_length(fresh: LevT) -> None:
    with torch.no_grad():
        fresh.placeholder_head.bias[7] = 100.0
    for draft in fresh.generate(request(BATCH, IterativeGeneration(steps=4))):
        assert (~draft.padding).sum(1).max() <= 12
    assert (~draft.padding).sum(1).min() >= 7


def test_pinned_positions_and_lengths_are_refused(fresh: LevT) -> None:
    with pytest.raises(InputError, match="pin"):
        answer(fresh, request(BATCH, IterativeGeneration(), template=torch.full((64, 4), -1)))
    with pytest.raises(InputError, match="length"):
        answer(fresh, request(BATCH, IterativeGeneration(length=5)))
    with pytest.raises(InputError, match="max_length"):
        LevT(replace(TINY, max_length=4), SPECIAL)(BATCH)
