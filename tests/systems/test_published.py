from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffuseq.config import DiffusionGeneration, PublishedConfig
from diffuseq.data.batch import Batch, pad
from diffuseq.errors import InputError
from diffuseq.sampling.noise import mix_seed
from diffuseq.system import Draft, Request, SpecialTokens
from diffuseq.systems.published import PublishedDiffuSeq

SPECIAL = SpecialTokens(24, pad=0, start=1, end=2, unknown=3, mask=4)
TINY = PublishedConfig(
    layers=1,
    heads=2,
    width=16,
    feed_forward=32,
    embedding_width=8,
    time_width=8,
    sequence_length=16,
    max_positions=16,
    diffusion_steps=20,
)
SOURCES = [[10, 11, 12], [13], [14, 15]]
ALL_STEPS = DiffusionGeneration(steps=20, sampler="ancestral", clamp_from=0.0)


def build(config: PublishedConfig = TINY) -> PublishedDiffuSeq:
    torch.manual_seed(0)
    return PublishedDiffuSeq(config, SPECIAL)


def batch() -> Batch:
    return Batch(*pad(SOURCES, 0), *pad([[20, 21], [22], [23, 20]], 0))


def request(
    settings: DiffusionGeneration,
    sources: list[list[int]] = SOURCES,
    candidates: int = 2,
    template: Tensor | None = None,
) -> Request:
    seeds = [mix_seed(settings.seed, str(source), k) for source in sources for k in range(candidates)]
    return Request(*pad(sources, 0), candidates, seeds, settings, template)


def answer(system: PublishedDiffuSeq, asked: Request) -> Draft:
    *_, last = system.generate(asked)
    return last


def words(draft: Draft) -> list[list[int]]:
    return [row[~outside].tolist() for row, outside in zip(draft.tokens, draft.padding, strict=True)]


# training


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("objective", ["published", "paper"])
def test_one_batch_is_learned(version: int, objective: str) -> None:
    config = replace(TINY, version=version, objective=objective, dropout=0.0, time_sampling="uniform")
    system = build(config)
    optimizer = torch.optim.AdamW(system.parameters(), lr=2e-2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(40):
        loss = system(batch(), generator).value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_the_generator_decides_the_loss() -> None:
    system = build().eval()
    values = [system(batch(), torch.Generator().manual_seed(seed)).value.item() for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_the_history_grows_in_training_and_not_in_validation() -> None:
    system = build()
    system.eval()(batch())
    assert sum(map(len, system.state()["times"]["history"])) == 0
    system.train()(batch())
    system.after_step()
    assert sum(map(len, system.state()["times"]["history"])) == len(SOURCES)


def test_two_looks_at_the_validation_set_ask_at_the_same_times() -> None:
    """Whatever training has learned of the losses in between."""
    system = build().eval()
    first = system(batch(), torch.Generator().manual_seed(0))
    times = torch.arange(20).repeat(10)
    system.times.update(times, 1.0 + times)
    again = system(batch(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.value, first.value, rtol=0, atol=0)


def test_the_state_resumes_the_time_sampler() -> None:
    system, resumed = build(), build()
    system(batch())
    resumed.load_state(system.state())
    assert resumed.state() == system.state()


def test_the_objective_is_chosen_by_name() -> None:
    values = {
        name: build(replace(TINY, objective=name))
        .eval()(batch(), torch.Generator().manual_seed(0))
        .value.item()
        for name in ("published", "paper")
    }
    assert values["published"] != values["paper"]


def test_v2_adds_the_weighted_norm_of_the_absorbing_state() -> None:
    plain, regular = (build(replace(TINY, version=2, regularize=weight)).eval() for weight in (0.0, 2.0))
    difference = [s(batch(), torch.Generator().manual_seed(0)).value.item() for s in (plain, regular)]
    assert plain.denoiser.mean_embed is not None
    expected = 2 * plain.denoiser.mean_embed.norm().item()
    assert difference[1] - difference[0] == pytest.approx(expected, abs=1e-5)


def test_noise_leaves_the_source_bit_equal() -> None:
    system = build(replace(TINY, version=2))
    x0 = torch.randn(2, 16, 8)
    target = torch.arange(16).expand(2, -1) >= 6
    x_t = system.noised(
        x0, target, torch.tensor([3, 19]), torch.randn_like(x0), torch.Generator().manual_seed(0)
    )
    assert torch.equal(x_t[:, :6], x0[:, :6])
    assert (x_t[:, 6:] != x0[:, 6:]).all()


def test_a_sequence_longer_than_the_position_table_is_refused() -> None:
    with pytest.raises(InputError, match="max_positions is 8"):
        build(replace(TINY, max_positions=8))


# generation


@pytest.mark.parametrize(
    "settings",
    [
        ALL_STEPS,
        DiffusionGeneration(steps=4, sampler="ancestral", grid="uniform-log-snr"),
        DiffusionGeneration(steps=4, sampler="ddim", churn=0.5, truncate=1.0),
        DiffusionGeneration(steps=4, sampler="ddim", eta=1.0, grid="trailing", clamp_from=0.5),
        DiffusionGeneration(steps=4, sampler="dpm-solver"),
        DiffusionGeneration(steps=4, sampler="dpm-solver", stochastic=True, order=1),
        DiffusionGeneration(steps=4, sampler="dpm-solver", published_v2=True),
    ],
    ids=lambda s: f"{s.sampler}-{s.grid}-{s.steps}",
)
def test_every_sampler_gives_a_draft_a_call(settings: DiffusionGeneration) -> None:
    drafts = list(build(replace(TINY, version=2)).generate(request(settings)))
    assert [draft.index for draft in drafts] == list(range(settings.steps))
    assert [draft.forwards for draft in drafts] == list(range(1, settings.steps + 1))
    for draft in drafts:
        assert draft.tokens.shape == draft.padding.shape == (6, 16 - 5)
        assert draft.confidence is not None
        assert ((draft.confidence >= 0) & (draft.confidence <= 1)).all()


@pytest.mark.parametrize("settings", [ALL_STEPS, DiffusionGeneration(steps=5, churn=1.0)])
def test_an_answer_does_not_depend_on_its_batch(settings: DiffusionGeneration) -> None:
    system = build()
    together = words(answer(system, request(settings)))
    alone = [row for source in SOURCES for row in words(answer(system, request(settings, [source])))]
    assert together == alone


def test_another_seed_or_candidate_gives_another_answer() -> None:
    system = build()
    first, other = (words(answer(system, request(replace(ALL_STEPS, seed=seed)))) for seed in (0, 1))
    assert first != other
    assert first[0] != first[1]


def test_an_answer_ends_before_its_first_end_token() -> None:
    system = build()
    with torch.no_grad():
        system.denoiser.lm_head.bias[SPECIAL.end] = 4.0
    draft = answer(system, request(ALL_STEPS, candidates=8))
    assert draft.padding.any()
    for row in words(draft):
        assert SPECIAL.end not in row
    assert (draft.tokens[draft.padding] == SPECIAL.pad).all()
    assert (draft.padding.int().diff(dim=1) >= 0).all()


@pytest.mark.parametrize(("bias", "is_empty"), [(2.0, False), (4.0, True)])
def test_the_end_counts_in_the_log_probability(bias: float, is_empty: bool) -> None:
    """Or an empty answer would be certain, and win every choice by likelihood."""
    system = build()
    with torch.no_grad():
        system.denoiser.lm_head.bias[SPECIAL.end] = bias
    draft = answer(system, request(ALL_STEPS, candidates=8))
    lengths = (~draft.padding).sum(1)
    assert ((lengths == 0) == is_empty).all()
    expected = [row[: n + 1].log().sum() for row, n in zip(draft.confidence, lengths, strict=True)]
    torch.testing.assert_close(draft.log_p, torch.stack(expected))


def test_a_trained_model_answers_what_it_has_learned() -> None:
    """Two pairs by heart: the whole way from loss to answer."""
    system = build(replace(TINY, dropout=0.0))
    pairs = Batch(*pad([[10, 11, 12], [13]], 0), *pad([[20, 21], [22, 23, 20]], 0))
    optimizer = torch.optim.AdamW(system.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    many = pairs.map(lambda side: side.repeat(8, 1))
    for _ in range(120):
        optimizer.zero_grad()
        system(many, generator).value.backward()
        optimizer.step()
    found = words(answer(system, request(ALL_STEPS, [[10, 11, 12], [13]], candidates=3)))
    assert found == [[20, 21]] * 3 + [[22, 23, 20]] * 3


def test_pinned_words_stay_and_the_answer_has_the_length_of_the_template() -> None:
    template = torch.tensor([[20, -1, -1, 21], [-1, 22, -1, -1], [-1, -1, -1, -1]])
    for draft in build().generate(request(ALL_STEPS, template=template)):
        repeated = template.repeat_interleave(2, 0)
        assert not draft.padding.any()
        assert torch.equal(draft.tokens[repeated >= 0], repeated[repeated >= 0])
        free = draft.tokens[repeated < 0].tolist()
        assert not {SPECIAL.pad, SPECIAL.start, SPECIAL.end} & set(free)


def test_pinned_words_change_the_others() -> None:
    system = build()
    settings = DiffusionGeneration(steps=4, churn=0.0)
    one, other = (
        answer(system, request(settings, template=torch.tensor([[word, -1, -1]] * 3))).confidence
        for word in (20, 21)
    )
    assert one is not None
    assert other is not None
    assert not torch.equal(one[:, 1:], other[:, 1:])


def test_a_given_length_is_kept() -> None:
    draft = answer(build(), request(replace(ALL_STEPS, length=5)))
    assert [len(row) for row in words(draft)] == [5] * 6


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (DiffusionGeneration(sampler="settle"), "token-wise noise"),
        (DiffusionGeneration(guidance=2.0), "guidance is 2.0"),
        (DiffusionGeneration(temperature=0.5), "temperature is 0.5"),
        (DiffusionGeneration(sampler="ancestral", steps=21), "1 to 20"),
        (DiffusionGeneration(length=40), "1 to 10"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(settings: DiffusionGeneration, says: str) -> None:
    with pytest.raises(InputError, match=says):
        answer(build(), request(settings))
