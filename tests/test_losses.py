import math

import pytest
import torch
from torch import Tensor

from diffuseq.losses import (
    absorbing_norm,
    masked_mean,
    paper_objective,
    published_objective,
    word_cross_entropy,
)

ROWS, LENGTH, WIDTH, WORDS = 3, 6, 4, 9
TARGET = torch.tensor([[False] * 2 + [True] * 4] * ROWS)


def inputs(first: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise, estimate = torch.randn(3, ROWS, LENGTH, WIDTH, generator=generator)
    return {
        "estimate": estimate,
        "x0": clean + 0.1 * noise,
        "clean": clean,
        "logits": torch.randn(ROWS, LENGTH, WORDS, generator=generator),
        "ids": torch.randint(WORDS, (ROWS, LENGTH), generator=generator),
        "first": torch.full((ROWS,), first),
    }


def test_a_perfect_estimate_leaves_the_rounding_and_the_prior() -> None:
    given = inputs() | {"estimate": inputs()["x0"]}
    terms = published_objective(**given, alpha_last=0.5)
    assert terms.reconstruction.tolist() == [0.0] * ROWS
    assert torch.equal(terms.total, terms.rounding + terms.prior)
    assert terms.prior.tolist() == pytest.approx((0.25 * given["x0"].square().mean((1, 2))).tolist())


def test_at_the_first_time_the_goal_is_the_clean_embedding() -> None:
    given = inputs(first=True) | {"estimate": inputs()["clean"]}
    assert published_objective(**given, alpha_last=0.0).reconstruction.tolist() == [0.0] * ROWS
    later = given | {"first": torch.zeros(ROWS, dtype=torch.bool)}
    assert (published_objective(**later, alpha_last=0.0).reconstruction > 0).all()


def test_the_released_loss_counts_the_source_and_the_papers_does_not() -> None:
    given = inputs()
    moved = given["estimate"].clone()
    moved[:, 0] += 1.0  # a source position
    elsewhere = given | {"estimate": moved}
    released = [published_objective(**g, alpha_last=0.0).total for g in (given, elsewhere)]
    paper = [paper_objective(**g, alpha_last=0.0, target=TARGET).total for g in (given, elsewhere)]
    assert not torch.allclose(*released)
    assert torch.equal(*paper)


def test_with_everything_target_both_forms_agree() -> None:
    everything = torch.ones_like(TARGET)
    released = published_objective(**inputs(), alpha_last=0.3)
    paper = paper_objective(**inputs(), alpha_last=0.3, target=everything)
    assert torch.equal(released.total, paper.total)


def test_rounding_of_uniform_logits_is_the_logarithm_of_the_vocabulary() -> None:
    nll = word_cross_entropy(
        torch.zeros(2, 5, WORDS), torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5).bool()
    )
    assert nll.tolist() == pytest.approx([math.log(WORDS)] * 2)


def test_a_mean_counts_only_what_it_is_told_to() -> None:
    values = torch.tensor([[1.0, 2.0, 30.0], [4.0, 5.0, 6.0]])
    counted = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(values, counted).tolist() == [1.5, 0.0]


def test_the_absorbing_norm_is_euclidean() -> None:
    assert float(absorbing_norm(torch.tensor([3.0, 4.0]))) == 5.0
