"""CMLM: masks, lengths, mask-predict."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from memorise import SPECIAL, answer, memorise, pairs, request, rows, share_right, texts

from diffuseq.baselines.cmlm import CMLM, mask_uniformly
from diffuseq.baselines.configs import CMLMConfig, IterativeGeneration
from diffuseq.errors import InputError

TINY = CMLMConfig(
    encoder_layers=1,
    decoder_layers=1,
    heads=4,
    width=64,
    feed_forward=128,
    dropout=0.0,
    label_smoothing=0.0,
    max_length=12,
)
BATCH = pairs(longest=6)


@pytest.fixture(scope="module")
def trained() -> tuple[CMLM, list[float]]:
    torch.manual_seed(0)
    system = CMLM(TINY, SPECIAL)
    return system, memorise(system, BATCH, steps=200, learning_rate=5e-3)


@pytest.fixture
def fresh() -> CMLM:
    torch.manual_seed(1)
    return CMLM(TINY, SPECIAL)


def test_it_learns_64_pairs_by_heart_and_reproduces_them(trained: tuple[CMLM, list[float]]) -> None:
    system, losses = trained
    assert losses[-1] < 0.03 * losses[0]
    assert share_right(answer(system, request(BATCH, IterativeGeneration(steps=4))), BATCH) == 1.0


def test_the_number_of_masks_is_uniform_from_one_to_all() -> None:
    padding = (torch.arange(6) >= 4).expand(8000, 6)
    masked = mask_uniformly(padding, torch.Generator().manual_seed(0))
    assert not masked[padding].any()
    share = torch.bincount(masked.sum(1), minlength=5) / 8000
    torch.testing.assert_close(share, torch.tensor([0, 0.25, 0.25, 0.25, 0.25]), atol=0.02, rtol=0)
    places = masked[:, :4].float().mean(0)
    torch.testing.assert_close(places, torch.full((4,), 2.5 / 4), atol=0.02, rtol=0)


def test_there_is_a_draft_a_round_and_each_is_one_decoder_call(fresh: CMLM) -> None:
    drafts = list(fresh.generate(request(rows(BATCH, slice(8)), IterativeGeneration(steps=5), candidates=2)))
    assert [draft.index for draft in drafts] == list(range(5))
    assert [draft.forwards for draft in drafts] == [1, 2, 3, 4, 5]
    for draft in drafts:
        assert draft.tokens.shape[0] == 16
        assert draft.confidence is not None
        assert ((draft.confidence > 0) & (draft.confidence <= 1)).all()
        assert not torch.isin(draft.tokens[~draft.padding], torch.tensor([0, 1, 2, 4])).any()


def test_the_masks_decay_linearly(fresh: CMLM) -> None:
    """From one round to the next at most N·(T − t)/T words change."""
    settings = IterativeGeneration(steps=4, length=8, temperature=3.0)
    drafts = list(fresh.generate(request(BATCH, settings)))
    for round_, (one, two) in enumerate(itertools.pairwise(drafts), start=1):
        assert (one.tokens != two.tokens).sum(1).max() <= 8 * (4 - round_) // 4


def test_an_answer_does_not_depend_on_its_batch(trained: tuple[CMLM, list[float]]) -> None:
    system, _ = trained
    for settings, candidates in (
        (IterativeGeneration(steps=3, temperature=2.0, length_beam=3), 4),
        (IterativeGeneration(steps=3, temperature=2.0, length_beam=3), 2),
    ):
        together = texts(answer(system, request(BATCH, settings, candidates)))
        assert len({tuple(text) for text in together}) > 64
        for i in (0, 17, 63):
            alone = texts(answer(system, request(rows(BATCH, slice(i, i + 1)), settings, candidates)))
            assert alone == together[i * candidates : (i + 1) * candidates]


def test_candidates_are_spread_over_the_likeliest_lengths(fresh: CMLM) -> None:
    settings = IterativeGeneration(steps=2, length_beam=3)
    lengths = (~answer(fresh, request(BATCH, settings, candidates=6)).padding).sum(1).view(64, 6)
    assert all(len(set(row[:3])) == 3 for row in lengths.tolist())
    assert torch.equal(lengths[:, :3], lengths[:, 3:])


def test_one_candidate_is_the_best_text_of_the_length_beam(fresh: CMLM) -> None:
    settings = IterativeGeneration(steps=3, length_beam=4)
    every = answer(fresh, request(BATCH, settings, candidates=4))
    one = answer(fresh, request(BATCH, settings))
    assert every.confidence is not None and one.confidence is not None

    def score(draft: object) -> torch.Tensor:
        log_p = draft.confidence.log().masked_fill(draft.padding, 0.0)  # type: ignore[attr-defined]
        return log_p.sum(1) / (~draft.padding).sum(1)  # type: ignore[attr-defined]

    torch.testing.assert_close(score(one), score(every).view(64, 4).max(1).values)


def test_the_length_of_an_answer_is_the_likeliest(trained: tuple[CMLM, list[float]]) -> None:
    """A template whose words leave it open has it."""
    system, _ = trained
    found = system.answer_length(BATCH.source, BATCH.source_padding)
    assert not torch.equal(found, (~BATCH.source_padding).sum(1))
    assert torch.equal(found, (~answer(system, request(BATCH, IterativeGeneration(steps=1))).padding).sum(1))


def test_pinned_words_stay_in_every_draft(trained: tuple[CMLM, list[float]]) -> None:
    system, _ = trained
    template = torch.full((64, 6), -1)
    template[:, 0], template[:, 4] = 7, 9
    asked = request(BATCH, IterativeGeneration(steps=4, temperature=1.0), candidates=2, template=template)
    for draft in system.generate(asked):
        assert not draft.padding.any() and draft.tokens.shape == (128, 6)
        assert (draft.tokens[:, 0] == 7).all() and (draft.tokens[:, 4] == 9).all()


def test_settings_that_cannot_be_served_are_refused(fresh: CMLM) -> None:
    for change in ({"steps": 0}, {"length": 13}, {"length": 0}, {"length_beam": 13}, {"temperature": -1.0}):
        with pytest.raises(InputError):
            answer(fresh, request(BATCH, replace(IterativeGeneration(), **change)))
    with pytest.raises(InputError, match="max_length"):
        CMLM(replace(TINY, max_length=4), SPECIAL)(BATCH)
