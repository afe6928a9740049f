"""Searches over a toy language whose every text can be listed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuseq.baselines.configs import AutoregressiveGeneration
from diffuseq.baselines.search import Rules, draw, rows, search
from diffuseq.system import Draft

START, END, WORDS = 0, 1, (2, 3, 4)
VOCABULARY, LENGTH = 5, 4


@dataclass(frozen=True)
class Toy:
    """A language model that is a table: the logits after each prefix of each source."""

    table: Tensor  # [b prefixes v]
    sources: Tensor  # [n]
    prefix: Tensor  # [n]

    @property
    def device(self) -> torch.device:
        return self.table.device

    def select(self, index: Tensor) -> Toy:
        assert torch.equal(self.sources[index], self.sources)
        return Toy(self.table, self.sources, self.prefix[index])

    @staticmethod
    def begin(table: Tensor, copies: int) -> Toy:
        sources = torch.arange(len(table)).repeat_interleave(copies)
        return Toy(table, sources, torch.zeros_like(sources))

    def step(self, tokens: Tensor) -> tuple[Tensor, Toy]:
        prefix = self.prefix * VOCABULARY + tokens
        return self.table[self.sources, prefix], Toy(self.table, self.sources, prefix)


def language(sources: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(sources, VOCABULARY ** (LENGTH + 1), VOCABULARY, generator=generator)


def run(table: Tensor, width: int = 1, template: Tensor | None = None, **settings: Any) -> Iterator[Draft]:
    generation = AutoregressiveGeneration(candidates=width, **settings)
    rules = Rules(START, END, START, (START,), LENGTH, template)
    seeds = list(range(len(table) * width))
    state = Toy.begin(table, rows(generation, width))
    return search(lambda t, s: s.step(t), state, len(table), width, rules, generation, seeds)


def found(
    table: Tensor, width: int = 1, template: Tensor | None = None, **settings: Any
) -> list[list[tuple]]:
    *_, draft = run(table, width, template, **settings)
    texts = [tuple(row[~hidden].tolist()) for row, hidden in zip(draft.tokens, draft.padding, strict=True)]
    return [texts[i : i + width] for i in range(0, len(texts), width)]


def log_probability(table: Tensor, tokens: tuple[int, ...]) -> float:
    prefix, total = 0, 0.0
    for word in tokens:
        total += float(table[prefix].log_softmax(-1)[word])
        prefix = prefix * VOCABULARY + word
    return total


def every_text(table: Tensor, length_penalty: float) -> list[tuple[int, ...]]:
    """All texts of one source, the best first: those that end, and those as long as is allowed."""
    scored = []
    for length in range(LENGTH + 1):
        for words in itertools.product(WORDS, repeat=length):
            tokens = (*words, END) if length < LENGTH else words
            scored.append((log_probability(table, tokens) / len(tokens) ** length_penalty, words))
    return [words for _, words in sorted(scored, reverse=True)]


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_a_wide_beam_finds_what_an_exhaustive_search_finds(length_penalty: float) -> None:
    table = language()
    best = found(table, 10, strategy="beam", beams=125, length_penalty=length_penalty)
    assert best == [every_text(source, length_penalty)[:10] for source in table]


@pytest.mark.parametrize("strategy", ["beam", "diverse-beam"])
def test_a_beam_of_one_is_greedy(strategy: str) -> None:
    table = language(sources=40)
    assert found(table, strategy=strategy, beams=1, beam_groups=1) == found(table)


def test_greedy_takes_the_likeliest_word_each_time() -> None:
    table = language()
    for source, (text,) in zip(table, found(table), strict=True):
        prefix = 0
        for word in (*text, END)[:LENGTH]:
            assert word == int(source[prefix][1:].argmax()) + 1
            prefix = prefix * VOCABULARY + word


def test_a_wider_beam_is_better_on_average() -> None:
    table = language(sources=60)

    def mean(width: int) -> float:
        total = 0.0
        for source, (text,) in zip(table, found(table, strategy="beam", beams=width), strict=True):
            tokens = (*text, END)[:LENGTH]
            total += log_probability(source, tokens) / len(tokens)
        return total / len(table)

    assert mean(1) < mean(2) < mean(8)


def test_candidates_of_a_beam_are_distinct_and_the_best_comes_first() -> None:
    table = language()
    for source, texts in zip(table, found(table, 6, strategy="beam", beams=6), strict=True):
        scores = [log_probability(source, (*t, END)[:LENGTH]) / len((*t, END)[:LENGTH]) for t in texts]
        assert len(set(texts)) == 6
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("strategy", "width"), [("greedy", 1), ("sample", 5), ("beam", 4), ("diverse-beam", 4)]
)
def test_the_log_probability_of_a_text_has_its_end_in_it(strategy: str, width: int) -> None:
    table = language()
    *_, draft = run(table, width, strategy=strategy, beams=4, beam_groups=2)
    for row, (tokens, gone) in enumerate(zip(draft.tokens, draft.padding, strict=True)):
        text = (*tokens[~gone].tolist(), END)[:LENGTH]
        expected = log_probability(table[row // width], text)
        assert float(draft.log_p[row]) == pytest.approx(expected, abs=1e-4)


def test_groups_without_diversity_are_so_many_equal_beams() -> None:
    table = language()
    together = found(table, 6, strategy="diverse-beam", beams=6, beam_groups=3, diversity=0.0)
    alone = found(table, 2, strategy="beam", beams=2)
    assert together == [[pair[0]] * 3 + [pair[1]] * 3 for pair in alone]


def test_strong_diversity_makes_every_group_begin_differently() -> None:
    table = language(sources=20)
    table[:, :, END] -= 1e4
    for texts in found(table, 3, strategy="diverse-beam", beams=3, beam_groups=3, diversity=1e3):
        assert {text[0] for text in texts} == set(WORDS)


def test_a_group_that_is_finished_makes_no_word_dearer_for_the_next() -> None:
    table = torch.full((1, VOCABULARY ** (LENGTH + 1), VOCABULARY), -9.0)
    table[0, 0, [2, 3]] = torch.tensor([3.0, 2.0])  # the first group begins with 2, the second with 3
    table[0, 2, [END, 4]] = torch.tensor([5.0, 3.0])  # 2 is a text, and would go on with 4
    table[0, 3, [4, 2]] = torch.tensor([3.0, 2.0])
    table[0, [3 * VOCABULARY + 2, 3 * VOCABULARY + 4], END] = 5.0
    texts = found(table, 2, strategy="diverse-beam", beams=2, beam_groups=2, diversity=5.0)
    assert texts == [[(2,), (3, 4)]]


def test_the_first_group_is_a_plain_beam() -> None:
    table = language(sources=20)
    diverse = found(table, 1, strategy="diverse-beam", beams=6, beam_groups=3, diversity=5.0)
    assert diverse == found(table, 1, strategy="beam", beams=2)


def test_every_draft_of_a_beam_is_its_best_so_far() -> None:
    table = language()
    for position, draft in enumerate(run(table, 1, strategy="beam", beams=125, length_penalty=1.0)):
        for source, row, hidden in zip(table, draft.tokens, draft.padding, strict=True):
            candidates = []
            for length in range(position + 2):
                for words in itertools.product(WORDS, repeat=length):
                    tokens = (*words, END) if length <= position else words
                    candidates.append((log_probability(source, tokens) / len(tokens), words))
            assert tuple(row[~hidden].tolist()) == max(candidates)[1]


def test_a_beam_obeys_its_template() -> None:
    table = language()
    template = torch.tensor([[-1, 3, -1, 2], [4, 4, 4, 4], [-1, -1, -1, -1]])
    for source, pins, (text,) in zip(
        table, template.tolist(), found(table, 1, template, strategy="beam", beams=125), strict=True
    ):
        allowed = [WORDS if pin < 0 else (pin,) for pin in pins]
        assert text == max(itertools.product(*allowed), key=lambda words: log_probability(source, words))


@pytest.mark.parametrize("strategy", ["beam", "diverse-beam"])
def test_a_beam_wider_than_there_are_texts_repeats_them_from_the_best_on(strategy: str) -> None:
    options = {"strategy": strategy, "beam_groups": 1 if strategy == "beam" else 2}
    pinned = torch.tensor([[2, 3, 4, 2], [2, -1, 4, 2]])
    *_, draft = run(language(2), 8, pinned, beams=8, **options)
    assert draft.log_p.min() > -100
    one, three = draft.tokens[:8].tolist(), draft.tokens[8:].tolist()
    assert one == [[2, 3, 4, 2]] * 8
    assert len({tuple(text) for text in three}) == 3 and all(text[::2] == [2, 4] for text in three)
    table = language(1)
    (texts,) = found(table, 200, strategy="beam", beams=200)
    assert len(set(texts)) == len(every_text(table[0], 1.0)) and texts[len(set(texts)) :][0] == texts[0]


def test_samples_follow_the_model() -> None:
    table = language(sources=1).expand(3000, -1, -1)
    texts = [text for (text,) in found(table, 1, strategy="sample")]
    probs = table[0, 0].masked_fill(torch.arange(VOCABULARY) == START, -torch.inf).softmax(-1)
    first = torch.tensor([(*text, END)[0] for text in texts]).bincount(minlength=VOCABULARY) / len(texts)
    torch.testing.assert_close(first, probs, atol=0.04, rtol=0.0)


def test_stratified_samples_share_out_the_first_word() -> None:
    """Each word comes as often as its probability says: at most one more or less at either end of its share."""
    table, width = language(sources=5), 40
    probs = table[:, 0].masked_fill(torch.arange(VOCABULARY) == START, -torch.inf).softmax(-1)
    for texts, p in zip(found(table, width, strategy="sample", stratified=True), probs, strict=True):
        count = torch.tensor([(*text, END)[0] for text in texts]).bincount(minlength=VOCABULARY)
        assert ((count - width * p).abs() < 2).all()


def test_a_low_temperature_is_greedy() -> None:
    table = language(sources=30)
    assert found(table, strategy="sample", temperature=1e-4) == found(table)


def test_inversion_gives_each_word_its_share_of_the_quantiles() -> None:
    scores = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(10, 4)
    quantiles = (torch.arange(10) + 0.5) / 10
    assert draw(scores, quantiles).tolist() == [0, 1, 1, 1, 1, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"top_k": 2}, {1, 3}),
        ({"top_k": 1}, {1}),
        ({"top_k": 9}, {0, 1, 2, 3}),
        ({"top_p": 0.4}, {1}),
        ({"top_p": 0.41}, {1, 3}),
        ({"top_p": 0.69}, {1, 3}),
        ({"top_p": 0.71}, {1, 2, 3}),
        ({"top_p": 0.5, "top_k": 3}, {1, 3}),
    ],
)
def test_top_k_and_top_p_keep_the_likeliest_words(filters: dict, kept: set[int]) -> None:
    scores = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(1000, 4)
    assert set(draw(scores, torch.arange(1000) / 1000, **filters).tolist()) == kept


def test_the_highest_quantile_never_lands_on_an_impossible_word() -> None:
    scores = torch.full((2, 1000), -torch.inf)
    scores[:, 3:7] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    almost_one = torch.nextafter(torch.ones(2), torch.zeros(2))
    assert draw(scores, almost_one).tolist() == [6, 6]
    assert draw(scores, torch.zeros(2)).tolist() == [3, 3]
