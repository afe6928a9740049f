"""Settings that do nothing are refused where somebody asked for them, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from diffuseq.baselines.configs import (
    AutoregressiveGeneration,
    CMLMConfig,
    GuidedGeneration,
    IterativeGeneration,
    LevTConfig,
    TransformerConfig,
)
from diffuseq.checks import check_changes, check_generation
from diffuseq.config import DiffuSeqConfig, DiffusionGeneration, PublishedConfig
from diffuseq.errors import InputError
from diffuseq.recipes import RECIPES, recipe

OURS = DiffusionGeneration(sampler="fixed-point")
WRITTEN = AutoregressiveGeneration(strategy="beam")


@pytest.mark.parametrize(
    ("system", "own", "changes", "message"),
    [
        (DiffuSeqConfig(), OURS, {"order_noise": 0.5}, "order_noise belongs to the sampler 'settle', but 'fixed-"),
        (DiffuSeqConfig(), OURS, {"churn": 0.5}, "choose 'ddim' or leave churn out"),
        (DiffuSeqConfig(), OURS, {"grid": "trailing"}, "'ddim' or 'ancestral' or 'dpm-solver', but"),
        (DiffuSeqConfig(), OURS, {"rescore": True}, "rescore belongs to the sampler 'settle'"),
        (DiffuSeqConfig(), OURS, {"length_beam": 1}, "leave length_beam out"),
        (DiffuSeqConfig(), OURS, {"sampler": "settle", "draft": "source"}, "draft belongs to the sampler 'fixed"),
        (DiffuSeqConfig(), OURS, {"sampler": "ddim", "repeats": True}, "repeats belongs to the sampler 'settle'"),
        (PublishedConfig(), DiffusionGeneration(), {"length_beam": 2}, "length_beam does nothing for a published"),
        (LevTConfig(), IterativeGeneration(), {"length_beam": 2}, "length_beam does nothing for a levt"),
        (TransformerConfig(), WRITTEN, {"temperature": 0.5}, "temperature belongs to the strategy 'sample', but"),
        (TransformerConfig(), WRITTEN, {"diversity": 0.1}, "belongs to the strategy 'diverse-beam'"),
        (TransformerConfig(), WRITTEN, {"strategy": "greedy", "beams": 3}, "or 'diverse-beam', but 'greedy'"),
    ],
)  # fmt: skip
def test_a_change_that_does_nothing_is_refused(system: Any, own: Any, changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_changes(system, own, replace(own, **changes))


@pytest.mark.parametrize(
    ("system", "own", "changes"),
    [
        (DiffuSeqConfig(), OURS, {"sampler": "settle", "order_noise": 0.5, "length_beam": 1}),
        (
            DiffuSeqConfig(),
            OURS,
            {"churn": 1.0, "stratified": False, "draft": "source"},
        ),  # churn is what it was
        (DiffuSeqConfig(), replace(OURS, order_noise=0.5, churn=0.5), {"steps": 3}),  # as it was stored
        (DiffuSeqConfig(), replace(OURS, draft="source"), {"sampler": "settle"}),
        (CMLMConfig(), IterativeGeneration(), {"length_beam": 3, "temperature": 0.5}),
        (TransformerConfig(), WRITTEN, {"strategy": "sample", "temperature": 0.5, "stratified": True}),
        (TransformerConfig(), WRITTEN, {"beams": 8, "length_penalty": 0.5}),
    ],
)
def test_what_counts_may_be_changed_and_what_is_stored_may_be_anything(
    system: Any, own: Any, changes: dict[str, Any]
) -> None:
    check_changes(system, own, replace(own, **changes))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AutoregressiveGeneration(beams=0), "beams is 0; give a whole number from 1 to 1000"),
        (AutoregressiveGeneration(beams=10**9), "beams is 1000000000; give"),
        (AutoregressiveGeneration(beam_groups=-1), "beam_groups is -1; give"),
        (GuidedGeneration(updates=10**9), "updates is 1000000000; give a whole number from 0"),
        (GuidedGeneration(update_rate=1e30), r"update_rate is 1e\+30; give a number from 0 to 1000"),
        (GuidedGeneration(fluency=-1.0), "fluency is -1.0; give"),
    ],
)
def test_numbers_that_would_never_end_or_overflow_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_generation(settings)


def test_an_unknown_sampler_is_told_before_what_belongs_to_it() -> None:
    settings = replace(OURS, sampler="setle", order_noise=0.5)  # type: ignore[arg-type]
    check_changes(DiffuSeqConfig(), OURS, settings)
    with pytest.raises(InputError, match="Did you mean 'settle'"):
        check_generation(settings)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_no_recipe_changes_what_does_nothing(name: str) -> None:
    config = recipe(name)
    check_changes(config.system, type(config.generation)(), replace(config.generation))
