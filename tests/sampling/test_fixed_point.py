"""Fixed-point iteration: it gives the draw from left to right with the same noise, in fewer calls."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from diffuseq.sampling.fixed_point import Read, fixed_point
from diffuseq.sampling.noise import RowNoise
from diffuseq.sampling.realign import Drawn, realigned
from diffuseq.sampling.words import WordStep, draw_words, uniform

VOCAB, END, WINDOW = 7, 6, [9, 4, 12]


class Chain:
    """A language in which a word depends on the one before it, and words that are not known make all alike."""

    def __init__(self, sharpness: float = 2.0) -> None:
        generator = torch.Generator().manual_seed(1)
        self.table = (sharpness * torch.randn(VOCAB + 1, VOCAB, generator=generator)).log_softmax(-1)
        self.asked: list[Tensor] = []
        self.stale: list[Tensor] = []

    def read(self, tokens: Tensor, stale: Tensor, asked: Tensor) -> list[Tensor]:
        self.asked.append(asked)
        self.stale.append(stale)
        before = torch.nn.functional.pad(tokens[:, :-1], (1, 0), value=-1)
        return list(self.table[before][asked].split(5))


def run(read: Read, calls: int, seeds: list[int], window: list[int] = WINDOW, **options) -> list[WordStep]:
    embedding = torch.randn(12, 3)
    quantiles = uniform(RowNoise(seeds, window)(torch.empty(len(seeds), max(window), 1))[..., 0])
    return list(
        fixed_point(
            read, lambda ids: embedding[ids], torch.tensor(window), calls, quantiles=quantiles, **options
        )
    )


def one_after_the_other(
    chain: Chain, seed: int, window: int, end: int | None, temperature: float
) -> list[int]:
    """The same draws by hand."""
    quantiles, words = uniform(RowNoise([seed])(torch.empty(1, window, 1))[0, :, 0]), []
    for place in range(window):
        logits = chain.table[words[-1] if words else -1].clone()
        if place == 0 and end is not None:
            logits[end] = -torch.inf
        word = int(draw_words(logits, quantiles[place], temperature)[0])
        words.append(word)
        if word == end:
            break
    return words


@pytest.mark.parametrize("end", [None, END])
@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
def test_what_comes_to_rest_is_the_draw_from_left_to_right(end: int | None, temperature: float) -> None:
    for seed in range(0, 60, 3):
        chain, seeds = Chain(), [seed, seed + 1, seed + 2]
        last = run(chain.read, 13, seeds, end=end, temperature=temperature)[-1]
        for row, (number, window) in enumerate(zip(seeds, WINDOW, strict=True)):
            words = one_after_the_other(chain, number, window, end, temperature)
            assert last.tokens[row, : len(words)].tolist() == words
            is_ended = words[-1] == end
            assert (~last.padding[row]).sum() == len(words) - is_ended
            assert last.settled[row, : len(words)].all()
            before = [-1, *words[:-1]]
            exact = chain.table[before, words]
            if end is not None:  # the first word is none other than the end
                exact[0] -= torch.log1p(-chain.table[-1, end].exp())
            torch.testing.assert_close(last.text_log_p[row], exact.sum())


def test_a_call_settles_a_word_at_least_and_what_has_settled_stays() -> None:
    steps = run(Chain().read, 13, [1, 2, 3], end=END)
    for before, after in itertools.pairwise(steps):
        number = before.settled.int().cumprod(1).sum(1)
        assert (after.settled.int().cumprod(1).sum(1) >= (number + 1).clamp_max(torch.tensor(WINDOW))).all()
        for row, settled in enumerate(number.tolist()):
            assert torch.equal(before.tokens[row, :settled], after.tokens[row, :settled])


def test_words_that_hardly_depend_on_one_another_need_few_calls() -> None:
    calls = {}
    for sharpness in (0.01, 3.0):
        chain = Chain(sharpness)
        run(chain.read, 40, list(range(50)), [40] * 50)
        calls[sharpness] = len(chain.asked)
    assert calls[0.01] <= 5 < 10 < calls[3.0] <= 40


class Sentence:
    """A language of one sentence, 0 to 11: every word says the next one, and where none is known a draft stands."""

    def __init__(self, draft: list[int]) -> None:
        self.draft, self.calls = torch.tensor(draft), 0

    def read(self, tokens: Tensor, stale: Tensor, asked: Tensor) -> list[Tensor]:
        self.calls += 1
        before = torch.nn.functional.pad(tokens[:, :-1], (1, 0), value=-1)
        words = torch.where(before < 0, self.draft, (before + 1).clamp_max(11))
        return [20.0 * torch.nn.functional.one_hot(words[asked], 12).float().log_softmax(-1)]


@pytest.mark.parametrize(
    ("draft", "calls"),
    [
        (list(range(12)), 2),
        ([0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 11], 3),  # one is missing
        ([0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10], 4),  # one too many, and the last one is drawn anew
        ([0, 1, 2, 3, 9, 9, 4, 5, 6, 7, 8, 9], 5),  # two too many
    ],
)
def test_where_a_word_is_missing_or_one_too_many_the_others_move(draft: list[int], calls: int) -> None:
    sentence = Sentence(draft)
    *_, last = run(sentence.read, 12, [1], [12], temperature=0.0)
    assert last.tokens[0].tolist() == list(range(12))
    assert sentence.calls <= calls


def test_what_follows_in_the_draft_on_the_words_that_stand_is_next() -> None:
    sentence = Sentence([0] * 12)
    draft = torch.tensor([[0, 6, 7, 8, 9, 10, 11, 1, 2, 3, 4, 5]])
    *_, last = run(sentence.read, 12, [1], [12], temperature=0.0, draft=draft)
    assert last.tokens[0].tolist() == list(range(12))
    assert sentence.calls <= 4, "those from 6 on were left behind when 1 came, and are found again"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_decides_nothing_but_how_many_calls_it_takes(temperature: float) -> None:
    draft = torch.randint(-1, END + 1, (3, 12), generator=torch.Generator().manual_seed(4))
    for seed in range(0, 60, 3):
        chain, seeds = Chain(), [seed, seed + 1, seed + 2]
        last = run(chain.read, 13, seeds, end=END, temperature=temperature, draft=draft)[-1]
        for row, (number, window) in enumerate(zip(seeds, WINDOW, strict=True)):
            words = one_after_the_other(chain, number, window, END, temperature)
            assert last.tokens[row, : len(words)].tolist() == words


def test_words_that_are_given_keep_what_is_drafted_between_them_in_place() -> None:
    pinned = torch.full((1, 12), -1)
    pinned[0, 11] = 11
    sentence = Sentence([0] * 12)
    draft = torch.tensor([[0, 6, 7, 8, 9, 10, 11, 1, 2, 3, 4, 5]])
    steps = run(sentence.read, 12, [1], [12], temperature=0.0, draft=draft, pinned=pinned)
    assert all(step.tokens[0, 11] == 11 for step in steps)
    assert steps[-1].tokens[0].tolist() == list(range(12))


def test_what_is_behind_the_first_change_moves_only_if_the_word_there_is_ousted_and_never_what_is_given() -> (
    None
):
    before = Drawn(torch.tensor([[5, 1, 2, 3, 4, -1]]), torch.full((1, 6), -1.0))

    def moved(words: list[int], *, ousted: bool = True, window: int = 6) -> list[int]:
        drawn = Drawn(torch.tensor([words]), torch.full((1, 6), -2.0))
        place = torch.tensor([1]), torch.full((1, 6), ousted), torch.tensor([window])
        found = realigned(drawn, before, *place)
        assert torch.equal(found.log_p == 0, found.tokens == -1)
        return found.tokens[0].tolist()

    assert moved([5, 0, 2, 3, 4, 6]) == [5, 0, 1, 2, 3, 4], "0 was missing"
    assert moved([5, 0, 2, 3, 4, 6], ousted=False) == [5, 0, 2, 3, 4, 6], "0 took its place"
    assert moved([5, 3, 2, 7, 8, 6]) == [5, 3, 8, 6, -1, -1], "1 and 2 were too many"
    assert moved([5, 3, 2, 7, 8, 6], window=5) == [5, 3, 8, -1, -1, -1], (
        "nothing comes from beyond the window"
    )


def test_the_network_is_asked_for_what_may_still_move_and_for_nothing_once_all_rests() -> None:
    chain = Chain(1.0)
    steps = run(chain.read, 30, [4, 5, 6], end=END)
    assert len(steps) == 30 and len(chain.asked) < 13
    assert torch.equal(chain.asked[0], torch.arange(12) < torch.tensor(WINDOW)[:, None])
    for asked, step in zip(chain.asked[1:], steps, strict=False):
        final = step.settled.int().cumprod(1).bool()
        assert not asked[final].any(), "what is final"
        past = torch.arange(12) > (~step.padding).sum(1, keepdim=True)
        assert not asked[past].any(), "what lies past the end as it stands"


def test_what_the_first_call_drafts_changes_nothing_but_who_is_asked() -> None:
    few, all_of_them = Chain(), Chain()
    steps = run(few.read, 13, [1, 2, 3], end=END, drafted=torch.tensor([2, 4, 3]))
    last = run(all_of_them.read, 13, [1, 2, 3], end=END)[-1]
    assert few.asked[0].sum(1).tolist() == [2, 4, 3]
    assert torch.equal(steps[-1].padding, last.padding)
    assert torch.equal(steps[-1].tokens[~last.padding], last.tokens[~last.padding])
    for step in steps:
        assert (step.tokens[~step.padding] >= 0).all() and step.padding[:, 0].logical_not().all()


def test_draws_follow_the_chain_and_an_answer_has_a_word_at_least() -> None:
    chain, rows = Chain(1.0), 20_000
    *_, last = fixed_point(
        chain.read,
        lambda ids: ids[..., None].float(),
        torch.full((rows,), 3),
        4,
        quantiles=torch.rand(rows, 3, generator=torch.Generator().manual_seed(0)),
        end=END,
    )
    first = chain.table[-1].exp().clone()
    first[END] = 0
    first /= first.sum()
    found = torch.bincount(last.tokens[:, 0], minlength=VOCAB) / rows
    torch.testing.assert_close(found, first, atol=0.012, rtol=0)
    second = torch.bincount(last.tokens[:, 1], minlength=VOCAB) / rows
    torch.testing.assert_close(second, first @ chain.table[:-1].exp(), atol=0.012, rtol=0)
    assert torch.equal((~last.padding).sum(1) == 1, last.tokens[:, 1] == END)


def test_pinned_words_stay_and_are_known_from_the_first_call_on() -> None:
    pinned = torch.full((3, 12), -1)
    pinned[:, 2] = 4
    seen = []

    def read(tokens: Tensor, stale: Tensor, asked: Tensor) -> list[Tensor]:
        seen.append(tokens.clone())
        assert not asked[:, 2].any()
        return [torch.zeros(int(asked.sum()), VOCAB)]

    steps = run(read, 3, [7, 7, 7], [12] * 3, pinned=pinned)
    assert torch.equal(seen[0], pinned)
    assert all((step.tokens[:, 2] == 4).all() and step.settled[:, 2].all() for step in steps)


def test_no_word_stands_twice_in_a_row_unless_it_may() -> None:
    def read(tokens: Tensor, stale: Tensor, asked: Tensor) -> list[Tensor]:
        return [torch.tensor([9.0, 6.0, 3.0, 0.0, 0.0, 0.0, 0.0]).repeat(int(asked.sum()), 1)]

    pinned = torch.full((3, 12), -1)
    pinned[:, 6] = 0
    free, strict = (
        run(read, 13, [1, 2, 3], [12] * 3, temperature=0.0, repeats=repeats, pinned=pinned)[-1].tokens
        for repeats in (True, False)
    )
    assert (free == 0).all()
    assert (strict[:, 1:] != strict[:, :-1]).all()
    assert strict[0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]


def test_what_became_its_neighbour_in_the_last_call_is_left_out() -> None:
    left_out = 0
    for seed in range(0, 90, 3):
        last = run(Chain(4.0).read, 3, [seed, seed + 1, seed + 2], end=END, repeats=False)[-1]
        for tokens, padding, log_p, total in zip(
            last.tokens, last.padding, last.log_p, last.text_log_p, strict=True
        ):
            written = tokens.tolist()
            until = written.index(END) if END in written else int((~padding).nonzero().max()) + 1
            kept = [place for place in range(until) if place == 0 or written[place] != written[place - 1]]
            assert kept == (~padding).nonzero().squeeze(1).tolist()
            left_out += until - len(kept)
            has_end = until < len(written) and written[until] == END
            assert total == pytest.approx(float(log_p[kept + [until] * has_end].sum()), abs=1e-4)
    assert left_out > 0


def test_a_row_does_not_depend_on_the_others() -> None:
    together = run(Chain().read, 5, [1, 2, 3], end=END)[-1]
    for row, (seed, window) in enumerate(zip([1, 2, 3], WINDOW, strict=True)):
        alone = run(Chain().read, 5, [seed], [window], end=END)[-1]
        words = (~alone.padding).sum()
        assert torch.equal(alone.tokens[0, :words], together.tokens[row, :words])
        torch.testing.assert_close(alone.text_log_p[0], together.text_log_p[row])
