from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from diffuseq.checks import COLDEST, check_generation
from diffuseq.config import DiffusionGeneration
from diffuseq.diffusion.schedule import LogLinearSchedule
from diffuseq.errors import InputError
from diffuseq.model.denoiser import Level
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.recipes import RECIPES
from diffuseq.registry import SYSTEMS, build
from diffuseq.sampling.noise import RowNoise, mix_seed
from diffuseq.system import Draft

SOURCES = ["how do i learn to cook rice?", "why do people like music so much?", "tea"]
SAMPLERS: dict[str, dict[str, Any]] = {
    "settle": {"sampler": "settle"},
    "ddim": {"sampler": "ddim", "churn": 0.5},
    "ancestral": {"sampler": "ancestral"},
    "dpm-solver": {"sampler": "dpm-solver"},
    "dpm-solver-sde": {"sampler": "dpm-solver", "stochastic": True},
    "first-order": {"sampler": "dpm-solver", "order": 1},
    "fixed-point": {"sampler": "fixed-point"},
}


@pytest.fixture
def pipe(sampler: str, tiny_pipe: DiffuSeqPipeline, ordered_pipe: DiffuSeqPipeline) -> DiffuSeqPipeline:
    """A model that the sampler fits."""
    return ordered_pipe if sampler == "fixed-point" else tiny_pipe


def last_draft(pipe: DiffuSeqPipeline, source: str, template: str | None = None, **changes: Any) -> Draft:
    settings = pipe.settings(**changes)
    *_, last = pipe.run(pipe.prepare([source], settings, template), settings)
    return last


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_pinned_words_stand_exactly_where_they_were_put(pipe: DiffuSeqPipeline, sampler: str) -> None:
    settings = pipe.settings(**SAMPLERS[sampler])
    prompts = pipe.prepare(SOURCES, settings, "what is [MASK]*3 to learn [MASK]?")
    given = torch.tensor(prompts[0].templates[0])
    for draft in pipe.run(prompts, settings):
        assert draft.tokens.shape == (9, len(given))
        assert (draft.tokens == given)[:, given >= 0].all()
        assert draft.confidence is not None
        assert (draft.confidence[:, given >= 0] == 1).all()
        assert (draft.confidence[:, given < 0] < 1).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_pinned_words_change_what_the_network_says_of_the_others(
    pipe: DiffuSeqPipeline, sampler: str
) -> None:
    one, other = (
        last_draft(pipe, SOURCES[0], f"{word} [MASK]*5", steps=1, **SAMPLERS[sampler])
        for word in ("music", "bread")
    )
    assert one.tokens.shape == other.tokens.shape
    assert one.confidence is not None and other.confidence is not None
    assert not torch.allclose(one.confidence[:, -5:], other.confidence[:, -5:])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(pipe: DiffuSeqPipeline, sampler: str) -> None:
    together = pipe(SOURCES, **SAMPLERS[sampler])
    alone = [pipe(source, **SAMPLERS[sampler]) for source in SOURCES]
    assert [answer.candidates for answer in together] == [answer.candidates for answer in alone]


@pytest.mark.parametrize("template", [None, "what is [MASK]*3 to learn [MASK]?"])
def test_settled_words_are_computed_once_more_and_then_kept(
    tiny_pipe: DiffuSeqPipeline, template: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, counts = tiny_pipe.system.denoiser, []  # type: ignore[attr-defined]
    compute = denoiser.decode_slots

    def count(hidden: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        counts.append(hidden.shape[1])
        return compute(hidden, *rest, **more)

    monkeypatch.setattr(denoiser, "decode_slots", count)
    length = {} if template else {"length": 10}
    settings = tiny_pipe.settings(**SAMPLERS["settle"], steps=5, **length)
    drafts = list(tiny_pipe.run(tiny_pipe.prepare(SOURCES, settings, template), settings))
    # of ten, two settle in every call; of the template's four open ones, one, until none is left
    assert counts == ([drafts[0].tokens.shape[1], 4, 3, 2] if template else [10, 10, 8, 6, 4])


def test_without_the_cache_everything_is_computed_anew(tiny_pipe: DiffuSeqPipeline) -> None:
    """The first call has nothing to keep, so that the words that settle in it are the same."""
    kept, anew = (
        [draft.tokens.tolist() for draft in tiny_pipe.run(tiny_pipe.prepare(SOURCES, settings), settings)]
        for settings in (tiny_pipe.settings(cache=on, temperature=0) for on in (True, False))
    )
    assert kept[0] == anew[0]
    assert len(kept) == len(anew)
    in_one_call = (tiny_pipe(SOURCES, steps=1, cache=on) for on in (True, False))
    assert len({str([answer.candidates for answer in answers]) for answers in in_one_call}) == 1


@pytest.mark.parametrize("template", [None, "what is [MASK]*3 to learn [MASK]?"])
def test_in_order_an_answer_is_computed_as_it_would_be_in_training(
    ordered_pipe: DiffuSeqPipeline, template: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass over the finished answer, in the order in which it settled, gives the confidence of every word."""
    system: Any = ordered_pipe.system
    scale, features, modulation = system.clean_or_noise()
    unread = Level(scale * torch.tensor([[1.0], [0.0]]), features, modulation)  # the draws of noise differ
    monkeypatch.setattr(system, "clean_or_noise", lambda: unread)
    settings = ordered_pipe.settings(steps=24, repeats=True)  # a word a call
    prompts = ordered_pipe.prepare(SOURCES[:1], settings, template)
    drafts = list(ordered_pipe.run(prompts, settings))
    last, settled_in = drafts[-1], torch.zeros_like(drafts[-1].tokens)
    for draft in reversed(drafts):  # confidence does not change any more once a word has settled
        settled_in[draft.confidence == last.confidence] = draft.index  # type: ignore[operator]
    given = torch.tensor(prompts[0].templates[0]) >= 0 if template else torch.zeros(1, dtype=torch.bool)
    settled_in.masked_fill_(given, -1)
    place = torch.arange(settled_in.shape[1]) / 100
    rank = (settled_in + place).masked_fill(last.padding, torch.inf)
    source = torch.tensor([prompts[0].ids])
    encoded = system.denoiser.encode(source, torch.zeros_like(source, dtype=torch.bool)).repeat(3)
    words, length = system.with_end(last.tokens, last.padding)
    rank = torch.nn.functional.pad(rank, (0, 1), value=torch.inf).scatter(1, length[:, None], -2.0)
    noise = system.noise_for(words, torch.Generator().manual_seed(0))
    hidden = system.states_by_rank(words, length, encoded, rank, noise)[:, :-1]
    everywhere = torch.ones_like(last.padding)
    chances = system.denoiser.distribution(hidden, encoded, everywhere).view(*last.tokens.shape, -1)
    special = ordered_pipe.tokenizer.special
    chances[..., [special.pad, special.start, special.end, special.mask]] = 0  # they have no text
    found = (chances / chances.sum(-1, keepdim=True)).gather(2, last.tokens[..., None])[..., 0]
    free = ~last.padding & ~given
    torch.testing.assert_close(found[free], last.confidence[free], rtol=1e-4, atol=1e-6)  # type: ignore[index]


def reading(pipe: DiffuSeqPipeline, source: str, draft: Draft) -> torch.Tensor:
    """Log-probability of every text of a draft and its end, each word given those before it, by the same noise."""
    system: Any = pipe.system
    (prompt,) = pipe.prepare([source], pipe.settings())
    ids = torch.tensor([prompt.ids])
    words, length = system.with_end(draft.tokens, draft.padding)
    rank = torch.arange(words.shape[1]).float().expand(words.shape)
    seeds = [mix_seed(prompt.seed, prompt.source, candidate) for candidate in range(len(words))]
    noise = RowNoise(seeds)(torch.empty(*draft.tokens.shape, system.config.embedding_width))
    noise = torch.nn.functional.pad(noise, (0, 0, 0, 1))
    with torch.no_grad():
        encoded = system.denoiser.encode(ids, torch.zeros_like(ids, dtype=torch.bool)).repeat(len(words))
        return system.log_p_by_rank(words, length, encoded, rank, noise).sum(1)


def test_the_last_call_reads_every_candidate_from_left_to_right(ordered_pipe: DiffuSeqPipeline) -> None:
    """Where the length is given, a word a call from the left is the same reading, but for tokens without text."""
    settings = {"settle_first": "leftmost", "repeats": True, "length_beam": 3}
    drawn, read = (
        last_draft(ordered_pipe, SOURCES[0], steps=steps, rescore=steps > 24, **settings)
        for steps in (24, 25)
    )
    assert (read.forwards, read.index, read.total) == (drawn.forwards + 1, 24, 25)
    torch.testing.assert_close(read.tokens, drawn.tokens)
    torch.testing.assert_close(read.log_p, reading(ordered_pipe, SOURCES[0], read), rtol=0.01, atol=0)
    given = last_draft(ordered_pipe, SOURCES[0], steps=25, rescore=True, length=5, **settings)
    plain = last_draft(ordered_pipe, SOURCES[0], steps=24, length=5, **settings)
    torch.testing.assert_close(given.log_p, plain.log_p, rtol=0.02, atol=0)


def with_ends(pipe: DiffuSeqPipeline) -> DiffuSeqPipeline:
    """The same, its answers ending after some words, and no other token without text in them."""
    pipe = copy.deepcopy(pipe)
    special, system = pipe.tokenizer.special, pipe.system
    with torch.no_grad():
        system.denoiser.word_bias[special.end] += 3  # type: ignore[attr-defined]
        system.denoiser.word_bias[[special.pad, special.start, special.mask]] = -50  # type: ignore[attr-defined]
    return pipe


def test_at_the_fixed_point_a_text_has_the_probability_of_its_reading(ordered_pipe: DiffuSeqPipeline) -> None:
    """Though words and end have come to rest call by call, and most were computed in few of them."""
    settings = {"sampler": "fixed-point", "repeats": True, "candidates": 20}
    pipe = with_ends(ordered_pipe)
    draft = last_draft(pipe, SOURCES[0], steps=24, **settings)
    lengths = (~draft.padding).sum(1)
    assert lengths.min() >= 1 and len(lengths.unique()) > 5
    ended = lengths < draft.tokens.shape[1]
    empty = reading(pipe, SOURCES[0], dataclasses.replace(draft, padding=torch.ones_like(draft.padding)))
    expected = reading(pipe, SOURCES[0], draft) - torch.log1p(-empty.exp())  # there is a word at least
    assert ended.sum() > 10
    torch.testing.assert_close(draft.log_p[ended], expected[ended], rtol=1e-3, atol=0)
    one = last_draft(pipe, SOURCES[0], steps=1, **settings)
    assert not torch.equal(one.tokens, draft.tokens[:, : one.tokens.shape[1]])


def test_a_row_that_rests_is_not_computed_any_more(
    ordered_pipe: DiffuSeqPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, counts = with_ends(ordered_pipe), []
    denoiser: Any = pipe.system.denoiser  # type: ignore[attr-defined]
    compute = denoiser.decode_slots

    def count(hidden: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        counts.append(hidden.shape[:2])
        return compute(hidden, *rest, **more)

    monkeypatch.setattr(denoiser, "decode_slots", count)
    last_draft(pipe, SOURCES[0], sampler="fixed-point", steps=30, candidates=8)
    rows, places = zip(*counts, strict=True)
    assert rows[0] == 8 and rows[-1] <= 4
    assert len(counts) < 30, "all rest in the end"
    assert places[-1] < places[0]


def test_fixed_point_needs_a_network_that_reads_in_order(tiny_pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="or train with --system"):
        tiny_pipe(SOURCES[0], sampler="fixed-point")


def test_rescoring_is_the_last_of_the_calls_and_does_not_depend_on_the_batch(
    ordered_pipe: DiffuSeqPipeline,
) -> None:
    drafts = list(ordered_pipe.stream(SOURCES[0], steps=4, rescore=True))
    assert [draft.forwards for draft in drafts] == [1, 2, 3, 4]
    assert drafts[-1].texts == drafts[-2].texts
    assert drafts[-1].log_p != drafts[-2].log_p
    for alone in ({"steps": 1}, {"candidates": 1}):
        read, plain = (ordered_pipe(SOURCES[0], rescore=on, **alone) for on in (True, False))
        assert (read.candidates, read.log_p, read.forwards) == (plain.candidates, plain.log_p, plain.forwards)
    together = ordered_pipe(SOURCES, rescore=True)
    for source, answer in zip(SOURCES, together, strict=True):
        alone = ordered_pipe(source, rescore=True)
        assert alone.candidates == answer.candidates
        assert alone.log_p == pytest.approx(answer.log_p, abs=1e-4)


def test_what_is_read_last_does_not_depend_on_how_long_others_of_the_batch_take(
    ordered_pipe: DiffuSeqPipeline,
) -> None:
    """Alone an answer may have come to rest some calls before the last, and draws no more noise."""
    pipe = copy.deepcopy(ordered_pipe)
    pipe.system.schedule = LogLinearSchedule(3.0, -1.0)  # type: ignore[assignment]  # so that noise matters
    together = pipe(SOURCES, rescore=True, steps=20, sure_enough=0.05)
    for source, answer in zip(SOURCES, together, strict=True):
        alone = pipe(source, rescore=True, steps=20, sure_enough=0.05)
        assert alone.candidates == answer.candidates
        assert alone.log_p == pytest.approx(answer.log_p, abs=1e-3)


def test_candidates_with_templates_of_their_own_are_read_as_well(ordered_pipe: DiffuSeqPipeline) -> None:
    ask = {"template": "[...] tea [...]", "steps": 4}
    drawn, read = (ordered_pipe(SOURCES[0], rescore=on, **ask) for on in (False, True))
    assert (drawn.forwards, read.forwards) == (4, 4)
    assert read.log_p != drawn.log_p
    alone = last_draft(ordered_pipe, SOURCES[0], "[...] tea [...]", steps=3)
    assert [read.candidates] == ordered_pipe.texts(alone, 1)


def test_rescoring_leaves_a_network_that_sees_all_as_it_is(tiny_pipe: DiffuSeqPipeline) -> None:
    plain, read = (
        last_draft(tiny_pipe, SOURCES[0], sampler="settle", steps=4, rescore=on) for on in (False, True)
    )
    assert (read.forwards, read.log_p.tolist()) == (plain.forwards, plain.log_p.tolist())


def test_in_order_what_has_settled_is_never_computed_anew(
    ordered_pipe: DiffuSeqPipeline,
) -> None:
    with_cache, without = (
        [answer.candidates for answer in ordered_pipe(SOURCES, cache=cache)] for cache in (True, False)
    )
    assert with_cache == without
    together = [answer.candidates for answer in ordered_pipe(SOURCES)]
    assert together == [ordered_pipe(source).candidates for source in SOURCES]


def test_with_a_word_a_call_leftmost_first_is_from_left_to_right(ordered_pipe: DiffuSeqPipeline) -> None:
    settings = ordered_pipe.settings(steps=10, length=10, settle_first="leftmost")
    *before, last = ordered_pipe.run(ordered_pipe.prepare(SOURCES[:1], settings), settings)
    for turn, draft in enumerate(before, start=1):
        assert torch.equal(draft.tokens[:, :turn], last.tokens[:, :turn])


@pytest.mark.parametrize("change", [{"token_wise": 0.5}, {"self_condition": 0.5}])
def test_what_needs_positions_that_see_all_is_told_so(
    ordered_pipe: DiffuSeqPipeline, change: dict[str, float]
) -> None:
    config = dataclasses.replace(ordered_pipe.config.system, **change)
    with pytest.raises(InputError, match="which need positions that see all others"):
        build(config, ordered_pipe.tokenizer.special)


def test_another_seed_gives_other_candidates(tiny_pipe: DiffuSeqPipeline) -> None:
    assert tiny_pipe(SOURCES[0], seed=1).candidates != tiny_pipe(SOURCES[0], seed=2).candidates


def test_a_length_that_is_asked_for_is_kept(tiny_pipe: DiffuSeqPipeline) -> None:
    assert last_draft(tiny_pipe, SOURCES[0], length=7).tokens.shape == (3, 7)


@pytest.mark.parametrize("temperature", [5.0, 100.0])
@pytest.mark.parametrize("sampler", ["settle", "ddim", "fixed-point"])
def test_no_answer_has_tokens_without_text(pipe: DiffuSeqPipeline, sampler: str, temperature: float) -> None:
    """However hot: the words of such a temperature are drawn as if all were equally likely."""
    draft = last_draft(
        pipe, SOURCES[0], temperature=temperature, candidates=50, length=20, **SAMPLERS[sampler]
    )
    special = pipe.tokenizer.special
    silent = torch.tensor([special.pad, special.start, special.end, special.mask])
    assert not torch.isin(draft.tokens[~draft.padding], silent).any()


def test_candidates_have_the_likeliest_lengths_in_proportion_to_their_probability(
    tiny_pipe: DiffuSeqPipeline,
) -> None:
    pipe = copy.deepcopy(tiny_pipe)
    head = pipe.system.length_head  # type: ignore[attr-defined]
    with torch.no_grad():
        head.offset.weight.zero_()
        head.offset.bias.fill_(-100.0)
        head.offset.bias[head.max_length - 1 : head.max_length + 2] = torch.tensor([3.0, 1.0, 2.0]).log()
    lengths = (~last_draft(pipe, SOURCES[0], candidates=6, length_beam=3).padding).sum(1)
    one = (~last_draft(pipe, SOURCES[0], candidates=6, length_beam=1).padding).sum(1)
    assert lengths.bincount().sort().values[-3:].tolist() == [1, 2, 3]
    assert (one == lengths.mode().values).all()


def test_guidance_of_one_is_the_conditional_network_and_others_call_it_twice(
    tiny_pipe: DiffuSeqPipeline,
) -> None:
    plain, guided = (last_draft(tiny_pipe, SOURCES[0], sampler="ddim", guidance=g) for g in (1.0, 3.0))
    assert (plain.forwards, guided.forwards) == (4, 8)
    assert plain.confidence is not None and guided.confidence is not None
    assert not torch.allclose(plain.confidence, guided.confidence)
    assert ((guided.confidence >= 0) & (guided.confidence <= 1)).all()


def test_guidance_of_zero_does_not_see_the_source(tiny_pipe: DiffuSeqPipeline) -> None:
    settings = tiny_pipe.settings(sampler="ddim", guidance=0.0, length=5)
    prompts = [
        dataclasses.replace(prompt, source="the same seeds")
        for prompt in tiny_pipe.prepare(SOURCES, settings)
    ]
    *_, last = tiny_pipe.run(prompts, settings)
    assert torch.equal(last.tokens[:3], last.tokens[3:6])
    assert torch.equal(last.tokens[:3], last.tokens[6:])


def test_guidance_is_refused_where_no_source_was_ever_dropped(tiny_pipe: DiffuSeqPipeline) -> None:
    from diffuseq.systems.diffuseq import DiffuSeq

    config = dataclasses.replace(tiny_pipe.config.system, source_dropout=0.0)
    system = DiffuSeq(config, tiny_pipe.tokenizer.special)
    with pytest.raises(InputError, match="has not learned to write without a source"):
        DiffuSeqPipeline(system, tiny_pipe.tokenizer, tiny_pipe.config)("tea", guidance=2.0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_temperature_zero_needs_no_luck(pipe: DiffuSeqPipeline, sampler: str) -> None:
    answer = pipe(SOURCES[0], temperature=0.0, **SAMPLERS[sampler])
    assert len(answer.candidates) == 3


def test_clamped_estimates_are_words(tiny_pipe: DiffuSeqPipeline) -> None:
    plain = last_draft(tiny_pipe, SOURCES[0], sampler="ddim", churn=0.0)
    clamped = last_draft(tiny_pipe, SOURCES[0], sampler="ddim", churn=0.0, clamp_from=0.0)
    late = last_draft(tiny_pipe, SOURCES[0], sampler="ddim", churn=0.0, clamp_from=0.9)
    assert plain.confidence is not None and clamped.confidence is not None and late.confidence is not None
    assert not torch.equal(plain.confidence, clamped.confidence)
    assert torch.equal(plain.confidence, late.confidence)  # only the last estimate was rounded


def test_truncated_noise_gives_another_way(tiny_pipe: DiffuSeqPipeline) -> None:
    one, other = (last_draft(tiny_pipe, SOURCES[0], sampler="ddim", truncate=t) for t in (None, 0.5))
    assert one.confidence is not None and other.confidence is not None
    assert not torch.equal(one.confidence, other.confidence)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "settle", "truncate": 1.0}, "clamp_from and truncate are for ddim"),
        ({"sampler": "settle", "clamp_from": 0.5}, "clamp_from and truncate are for ddim"),
        ({"sampler": "fixed-point"}, "fixed-point reads from left to right"),
        ({"length": 25}, "writes up to 24"),
        ({"candidates": 0}, "candidates is 0; give a whole number from 1"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 10_001}, "steps is 10001"),
        ({"steps": 2.5}, "steps is 2.5; give a whole number"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 1e-45}, r"temperature is 1e-45; give 0 .* or a number from 1e-06 to 100"),
        ({"sampler": "ddim", "churn": 1.5}, "churn is 1.5"),
        ({"sampler": "dimm"}, "Did you mean 'ddim'"),
        ({"sampler": "settle", "eta": 0.5}, "eta belongs to the sampler 'ddim'"),
        ({"sampler": "ddim", "stochastic": True}, "stochastic belongs to the sampler 'dpm-solver'"),
        ({"sampler": "dpm-solver", "order": 3}, "Unknown order '3'"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_without_sense_are_explained(
    tiny_pipe: DiffuSeqPipeline, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tiny_pipe(SOURCES[0], **changes)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_lowest_temperature_takes_the_likeliest_words_as_0_does(
    pipe: DiffuSeqPipeline, sampler: str
) -> None:
    cold, coldest = (
        last_draft(pipe, SOURCES[0], **SAMPLERS[sampler], temperature=temperature)
        for temperature in (0, COLDEST)
    )
    assert torch.equal(cold.tokens, coldest.tokens)
    assert coldest.log_p.isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize("name", ["length_penalty", "diversity"])
def test_numbers_of_a_beam_that_measure_nothing_are_refused(name: str, value: float) -> None:
    settings = dataclasses.replace(SYSTEMS["transformer"].generation(), **{name: value})
    with pytest.raises(InputError, match=f"{name} is"):
        check_generation(settings)


def test_the_settings_that_we_ship_pass_the_check() -> None:
    for recipe in RECIPES.values():
        check_generation(recipe().generation)
    for entry in SYSTEMS.values():
        check_generation(entry.generation())
    check_generation(DiffusionGeneration())


@pytest.mark.parametrize("sampler", ["settle", "fixed-point"])
def test_candidates_depend_on_how_many_there_are_only_where_they_share_out_the_quantiles(
    ordered_pipe: DiffuSeqPipeline, sampler: str
) -> None:
    def candidates(count: int, stratified: bool) -> list[str]:
        changes = {"sampler": sampler, "length": 5, "steps": 5, "stratified": stratified}
        return ordered_pipe(SOURCES[0], candidates=count, **changes).candidates

    assert candidates(8, False)[:3] == candidates(3, False)
    assert candidates(8, True)[:3] != candidates(3, True)
    assert candidates(1, True) == candidates(1, False)
