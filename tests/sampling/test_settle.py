"""The settle sampler: what it settles stays, rows are alone, and a perfect network gives the text back."""

from __future__ import annotations

import torch
from torch import Tensor

from diffuseq.sampling.noise import RowNoise, word_quantiles
from diffuseq.sampling.settle import settle
from diffuseq.sampling.words import draw_words

VOCAB, WIDTH, LENGTHS = 12, 8, [5, 3, 7]


def table() -> Tensor:
    return torch.nn.functional.normalize(
        torch.randn(VOCAB, WIDTH, generator=torch.Generator().manual_seed(3)), dim=-1
    )


def padding_of(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]


def run(predict, lengths: list[int], seeds: list[int], calls: int, **options):
    padding = padding_of(lengths)
    noise = RowNoise(seeds, lengths)
    words = table()
    start = noise(torch.empty(*padding.shape, WIDTH))
    options = {"quantiles": word_quantiles(noise, start, seeds), **options}
    return list(settle(predict, lambda ids: words[ids], start, padding, calls, noise=noise, **options))


def knows(target: Tensor):
    """A network that knows the answer, surer of the later positions."""

    def predict(x: Tensor, is_open: Tensor) -> list[Tensor]:
        sure = torch.linspace(3, 12, target.shape[1])[None, :, None]
        return list((torch.nn.functional.one_hot(target, VOCAB) * sure)[is_open].split(3))

    return predict


def test_a_perfect_network_gives_the_text_back_for_every_number_of_calls() -> None:
    target = torch.randint(0, VOCAB, (3, 7), generator=torch.Generator().manual_seed(0))
    for calls in (1, 2, 5, 7, 20):
        last = run(knows(target), LENGTHS, [1, 2, 3], calls, temperature=0.0)[-1]
        real = ~padding_of(LENGTHS)
        assert torch.equal(last.tokens[real], target[real])
        torch.testing.assert_close(last.x[real], table()[target[real]])


def test_chance_in_the_order_lets_others_settle_first_and_loses_no_word() -> None:
    target = torch.randint(0, VOCAB, (3, 7), generator=torch.Generator().manual_seed(0))
    real = ~padding_of(LENGTHS)

    def first_settled(order_noise: float, seed: int) -> tuple[int, ...]:
        seeds = [seed, seed + 1, seed + 2]
        steps = run(knows(target), LENGTHS, seeds, 7, temperature=0.0, order_noise=order_noise)
        assert torch.equal(steps[-1].tokens[real], target[real])
        return tuple((steps[0].settled & real).int().argmax(1).tolist())

    surest = {first_settled(0.0, seed) for seed in range(0, 30, 3)}
    assert surest == {tuple(length - 1 for length in LENGTHS)}
    some, many = ({first_settled(noise, seed) for seed in range(0, 30, 3)} for noise in (2.0, 100.0))
    assert len(some) > 1 and len(many) > 5
    assert first_settled(2.0, 3) == first_settled(2.0, 3)


def test_the_leftmost_word_settles_in_every_call_and_the_surest_beside_it_where_two_are_due() -> None:
    target = torch.randint(0, VOCAB, (3, 7), generator=torch.Generator().manual_seed(0))
    settled = [
        [
            sorted(row)
            for row in ((step.settled & ~padding_of(LENGTHS))[i].nonzero().flatten().tolist() for i in (1, 2))
        ]
        for step in run(knows(target), LENGTHS, [1, 2, 3], 4, leftmost_first=True)
    ]
    # three words in four calls, seven in four
    assert [row for row, _ in settled] == [[0], [0, 1], [0, 1, 2], [0, 1, 2]]
    assert [row for _, row in settled] == [[0, 6], [0, 1, 5, 6], [0, 1, 2, 4, 5, 6], list(range(7))]


def test_words_that_are_sure_enough_do_not_wait_for_their_turn() -> None:
    target = torch.arange(7).expand(3, 7)
    real = ~padding_of(LENGTHS)
    steps = run(knows(target), LENGTHS, [1, 2, 3], 7, temperature=0.0, sure_enough=0.99)
    logits = torch.linspace(3, 12, 7)
    sure = logits.exp() / (logits.exp() + VOCAB - 1) > 0.99
    assert 0 < sure.sum() < 6
    assert torch.equal(steps[0].settled[2], sure)
    assert torch.equal(steps[-1].tokens[real], target[real])
    slow = run(knows(target), LENGTHS, [1, 2, 3], 7, temperature=0.0)
    assert (slow[0].settled & real).sum(1).tolist() == [1, 1, 1]


def test_the_surest_words_settle_first_and_stay_and_all_are_settled_at_the_end() -> None:
    target = torch.randint(0, VOCAB, (3, 7), generator=torch.Generator().manual_seed(0))
    steps = run(knows(target), LENGTHS, [1, 2, 3], 4)
    before, tokens = padding_of(LENGTHS), None
    for step in steps:
        assert (step.settled | ~before).all()
        if tokens is not None:
            assert torch.equal(step.tokens[before], tokens[before])
        before, tokens = step.settled, step.tokens
    assert before.all()
    first = steps[0].settled & ~padding_of(LENGTHS)
    assert first[2].nonzero().flatten().tolist() == [5, 6]  # a quarter of seven, rounded up: the surest two


def test_the_network_is_asked_for_open_positions_alone_and_the_others_are_clean() -> None:
    asked, seen = [], []

    def predict(x: Tensor, is_open: Tensor) -> list[Tensor]:
        asked.append(is_open.clone())
        seen.append(x.clone())
        return [torch.zeros(int(is_open.sum()), VOCAB)]

    steps = run(predict, LENGTHS, [1, 2, 3], 3)
    assert torch.equal(asked[0], ~padding_of(LENGTHS))
    for is_open, x, step in zip(asked[1:], seen[1:], steps, strict=False):
        assert torch.equal(is_open, ~step.settled)
        torch.testing.assert_close(x[step.settled], table()[step.tokens[step.settled]])


def test_pinned_words_stay() -> None:
    pinned = torch.full((3, 7), -1)
    pinned[:, 1] = 4
    steps = run(
        lambda x, is_open: [torch.zeros(int(is_open.sum()), VOCAB)], [7, 7, 7], [1, 2, 3], 3, pinned=pinned
    )
    assert all((step.tokens[:, 1] == 4).all() for step in steps)


def test_no_word_stands_twice_in_a_row_unless_it_may() -> None:
    """By a network that likes one word everywhere, and another next best."""
    likes = torch.tensor([0.0, 9.0, 6.0, 3.0] + [0.0] * (VOCAB - 4))

    def predict(x: Tensor, is_open: Tensor) -> list[Tensor]:
        return [likes.repeat(int(is_open.sum()), 1)]

    for calls in (7, 20):
        free, strict = (
            run(predict, LENGTHS, [1, 2, 3], calls, temperature=0.0, repeats=repeats)[-1].tokens
            for repeats in (True, False)
        )
        for row, length in enumerate(LENGTHS):
            assert (free[row, :length] == 1).all()
            words = strict[row, :length]
            assert (words[1:] != words[:-1]).all()
            assert (words <= 3).all() and (words == 1).sum() >= length // 3


def test_a_row_gets_the_same_words_alone_and_in_a_batch() -> None:
    def predict(x: Tensor, is_open: Tensor) -> list[Tensor]:
        return [(x @ table().T)[is_open]]

    together = run(predict, LENGTHS, [5, 6, 7], 3)[-1].tokens
    for i, length in enumerate(LENGTHS):
        alone = run(predict, [length], [5 + i], 3)[-1].tokens
        assert torch.equal(together[i, :length], alone[0])


def test_the_highest_quantile_never_lands_on_an_impossible_word() -> None:
    """Whatever rounding leaves of the sum of all probabilities."""
    for seed in range(40):
        logits = torch.randn(1, 1000, generator=torch.Generator().manual_seed(seed)) * 3
        logits[:, 900:] = -1e30
        for temperature in (1.0, 0.5):
            assert draw_words(logits, torch.tensor([1.0]), temperature)[0] < 900


def test_words_are_drawn_from_the_distribution() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 1, 3)
    quantile = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0))
    ids, log_p = draw_words(logits, quantile, 1.0)
    share = torch.bincount(ids.flatten(), minlength=3) / 20_000
    torch.testing.assert_close(share, torch.tensor([0.5, 0.3, 0.2]), atol=0.015, rtol=0)
    torch.testing.assert_close(log_p, logits.gather(-1, ids[..., None]).squeeze(-1))
    sharp, _ = draw_words(logits, quantile, 0.25)
    assert (sharp == 0).float().mean() > 0.85
