"""Diffusion-LM: the language model, the classifier of noisy texts, and what guidance does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from memorise import SPECIAL, answer, memorise, request, rows, texts

from diffuseq.baselines.configs import DiffusionLMConfig, GuidedGeneration
from diffuseq.baselines.diffusion_lm import DiffusionLM
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.system import Draft

TINY = DiffusionLMConfig(
    layers=2,
    heads=2,
    width=32,
    feed_forward=64,
    embedding_width=12,
    time_width=16,
    sequence_length=5,
    dropout=0.0,
    diffusion_steps=40,
    classifier_layers=1,
    classifier_heads=2,
    classifier_width=32,
    classifier_feed_forward=64,
)
GUIDED = GuidedGeneration(steps=20, update_rate=0.3)


def translation(count: int = 64) -> Batch:
    """Three words; the target has the translation of each (its id + 12), in rising order."""
    draw = random.Random(0)
    sources = [draw.sample(range(5, 17), 3) for _ in range(count)]
    targets = [sorted(word + 12 for word in source) for source in sources]
    return Batch(*pad(sources, 0), *pad(targets, 0))


BATCH = translation()


def share_translated(draft: Draft) -> float:
    """Share of the target's words that are in the answer."""
    found = [
        len(set(text) & set(goal)) for text, goal in zip(texts(draft), BATCH.target.tolist(), strict=True)
    ]
    return sum(found) / (3 * len(found))


@pytest.fixture(scope="module")
def trained() -> tuple[DiffusionLM, list[float]]:
    torch.manual_seed(0)
    system = DiffusionLM(TINY, SPECIAL)
    return system, memorise(system, BATCH, steps=200, learning_rate=1e-2)


@pytest.fixture
def fresh() -> DiffusionLM:
    torch.manual_seed(1)
    return DiffusionLM(TINY, SPECIAL)


def test_the_language_model_reads_the_words_out_of_noise(trained: tuple[DiffusionLM, list[float]]) -> None:
    system, losses = trained
    system.eval()
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    ids = system._sequences(BATCH)
    index = 6
    with torch.no_grad():
        clean = system.denoiser.embed(ids)
        alpha_bar = float(system.schedule.alpha_bar[index])
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        x = alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise
        read = system.denoiser.logits(system._denoise(x, index).x0).argmax(-1)
    assert (read == ids).float().mean() > 0.9


def test_guided_answers_are_about_the_source_and_unguided_ones_are_not(
    trained: tuple[DiffusionLM, list[float]],
) -> None:
    system, _ = trained
    guided = answer(system, request(BATCH, GUIDED))
    unguided = answer(system, request(BATCH, replace(GUIDED, guidance=0.0)))
    assert share_translated(unguided) < 0.4
    assert share_translated(guided) > 0.65


def test_guidance_raises_the_classifiers_probability_along_the_chain(
    trained: tuple[DiffusionLM, list[float]],
) -> None:
    system, _ = trained
    system.eval()
    chains = []
    for guidance in (1.0, 0.0):
        asked = request(BATCH, replace(GUIDED, guidance=guidance))
        chain = []
        with torch.no_grad():
            for step in list(system.steps(asked, asked.settings))[:-1]:
                # the state after a step has the level that the next one is called with
                index = torch.full((64,), step.time - TINY.diffusion_steps / GUIDED.steps)
                chain.append(system.log_likelihood(step.x, index, asked.source, asked.source_padding).mean())
        chains.append(torch.stack(chain))
    guided, unguided = chains
    assert (guided > unguided).all()
    assert guided[-1] > guided[0] + 1  # nats; all there is to gain is about 2.5
    assert guided[-1] > unguided[-1] + 1


def test_the_classifier_is_a_distribution_over_words(fresh: DiffusionLM) -> None:
    fresh.eval()
    x = torch.randn(1, 5, 12).expand(SPECIAL.vocab_size, -1, -1)
    every_word = torch.arange(SPECIAL.vocab_size)[:, None]
    with torch.no_grad():
        log_p = fresh.log_likelihood(
            x,
            torch.full((SPECIAL.vocab_size,), 9.0),
            every_word,
            torch.zeros_like(every_word, dtype=torch.bool),
        )
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))


def test_the_classifier_teaches_the_language_model_nothing(fresh: DiffusionLM) -> None:
    loss = fresh(BATCH, torch.Generator().manual_seed(0))
    assert loss.logs["classifier"] > 0
    other = Batch(BATCH.source.flip(0), BATCH.source_padding, BATCH.target, BATCH.target_padding)
    gradients = []
    for batch in (BATCH, other):
        fresh.zero_grad()
        fresh(batch, torch.Generator().manual_seed(0)).value.backward()
        gradients.append([p.grad.clone() for p in fresh.denoiser.parameters() if p.grad is not None])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


def test_the_source_matters_to_guided_answers_only(trained: tuple[DiffusionLM, list[float]]) -> None:
    system, _ = trained
    for guidance, same in ((0.0, True), (1.0, False)):
        asked = request(rows(BATCH, slice(8)), replace(GUIDED, guidance=guidance))
        other = replace(asked, source=asked.source.flip(0))
        assert (texts(answer(system, asked)) == texts(answer(system, other))) == same


def test_generation_leaves_no_gradients_and_counts_every_call(fresh: DiffusionLM) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    for network in (fresh.denoiser, fresh.classifier):
        network.register_forward_hook(count)
    drafts = 0
    for draft in fresh.generate(request(rows(BATCH, slice(2)), replace(GUIDED, steps=4))):
        assert draft.forwards == calls
        drafts += 1
    assert drafts == 4
    assert all(p.grad is None for p in fresh.parameters())


def test_what_ends_an_answer_counts_in_its_log_probability(fresh: DiffusionLM) -> None:
    with torch.no_grad():
        fresh.denoiser.lm_head.bias[SPECIAL.pad] = 4.0
    *_, draft = fresh.generate(request(rows(BATCH, slice(0, 8)), GUIDED))
    lengths = (~draft.padding).sum(1)
    assert (lengths == 0).any() and (draft.log_p < 0).all()
    ended = lengths < draft.tokens.shape[1]
    expected = [row[: n + 1].log().sum() for row, n in zip(draft.confidence, lengths, strict=True)]
    torch.testing.assert_close(draft.log_p[ended], torch.stack(expected)[ended])


def test_an_answer_does_not_depend_on_its_batch(trained: tuple[DiffusionLM, list[float]]) -> None:
    system, _ = trained
    settings = replace(GUIDED, steps=8)
    together = texts(answer(system, request(rows(BATCH, slice(8)), settings, candidates=3)))
    assert len({tuple(text) for text in together}) > 8
    for i in (0, 5):
        alone = texts(answer(system, request(rows(BATCH, slice(i, i + 1)), settings, candidates=3)))
        assert alone == together[i * 3 : i * 3 + 3]


def test_pinned_words_and_the_length_hold_in_every_draft(trained: tuple[DiffusionLM, list[float]]) -> None:
    system, _ = trained
    template = torch.full((8, 2), -1)
    template[:, 1] = 20
    asked = request(rows(BATCH, slice(8)), replace(GUIDED, steps=5), candidates=2, template=template)
    for draft in system.generate(asked):
        assert draft.tokens.shape == (16, 2) and not draft.padding.any()
        assert (draft.tokens[:, 1] == 20).all()
        assert (draft.confidence[:, 1] == 1).all()
        torch.testing.assert_close(draft.log_p, draft.confidence[:, 0].log())
    fixed = answer(system, request(rows(BATCH, slice(8)), replace(GUIDED, steps=5, length=1)))
    assert fixed.tokens.shape == (8, 1) and not fixed.padding.any()


def test_what_cannot_be_served_is_refused(fresh: DiffusionLM) -> None:
    for change in ({"guidance": -1.0}, {"steps": 0}, {"steps": 41}, {"length": 4}, {"clamp_from": 2.0}):
        with pytest.raises(InputError):
            answer(fresh, request(BATCH, replace(GUIDED, **change)))
    with pytest.raises(InputError, match="sequence_length"):
        DiffusionLM(replace(TINY, sequence_length=4), SPECIAL)(BATCH)
