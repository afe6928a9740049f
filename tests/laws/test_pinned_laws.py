"""What holds for every template, sampler, seed and batch: a pinned token stands where it was pinned."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.prompts import Prompt
from diffuseq.text.template import FREE, Template

SAMPLERS: list[dict[str, Any]] = [
    {"sampler": "settle"},
    {"sampler": "settle", "temperature": 0.0, "guidance": 2.0},
    {"sampler": "ddim", "churn": 0.5},
    {"sampler": "ddim", "eta": 1.0, "clamp_from": 0.0},
    {"sampler": "ancestral", "guidance": 1.5},
    {"sampler": "dpm-solver", "truncate": 0.5},
]
LAW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@LAW
@given(data=st.data())
def test_pinned_tokens_appear_exactly(tiny_pipe: DiffuSeqPipeline, data: st.DataObject) -> None:
    special, tokenizer = tiny_pipe.tokenizer.special, tiny_pipe.tokenizer
    silent = {special.pad, special.start, special.end, special.mask}
    words = [token for token in range(tokenizer.vocab_size) if token not in silent]
    length = data.draw(st.integers(1, 12))
    num_rows = data.draw(st.integers(1, 3))
    ids = st.one_of(st.just(FREE), st.sampled_from(words))
    templates = data.draw(
        st.lists(st.lists(ids, min_size=length, max_size=length), min_size=num_rows, max_size=num_rows)
    )
    changes = data.draw(st.sampled_from(SAMPLERS))
    steps, seed, candidates = (data.draw(st.integers(1, most)) for most in (5, 1000, 3))
    chosen = tiny_pipe.settings(steps=steps, candidates=candidates, **changes)
    source = tokenizer.encode(["how do i learn to cook rice?"])[0]
    prompts = [Prompt("rice", source, seed + row, [template]) for row, template in enumerate(templates)]

    given_ids = torch.tensor(templates).repeat_interleave(candidates, 0)
    drafts = list(tiny_pipe.run(prompts, chosen))
    assert len(drafts) == steps
    for draft in drafts:
        assert draft.tokens.shape == given_ids.shape
        assert not draft.padding.any()
        assert (draft.tokens == given_ids)[given_ids != FREE].all()
        assert not {*draft.tokens[given_ids == FREE].tolist()} & silent  # and what is written has text


@LAW
@given(data=st.data())
def test_given_words_are_in_every_candidate_in_their_order(
    tiny_pipe: DiffuSeqPipeline, data: st.DataObject
) -> None:
    words = ["music", "rice", "what is", "to cook", "tea, coffee", "python"]
    given_words = data.draw(st.lists(st.sampled_from(words), min_size=1, max_size=3))
    marks = st.sampled_from(["[MASK]", "[MASK]*2", "[...]"])
    parts = [data.draw(marks)]
    for word in given_words:
        parts += [word, data.draw(marks)]
    answer = tiny_pipe("tea", template=" ".join(parts), seed=data.draw(st.integers(0, 99)), steps=2)
    for text in answer.candidates:
        rest = f" {text} "
        for word in given_words:
            assert word in rest, (text, parts)
            rest = rest.partition(word)[2]


@LAW
@given(
    sizes=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    length=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_filling_gaps_keeps_the_runs_and_gives_all_candidates_one_length(
    sizes: list[int], length: int, seed: int
) -> None:
    runs = [[10 * i + j for j in range(size)] for i, size in enumerate(sizes)]
    filled = Template(runs).at_length(length, seeds=range(seed, seed + 4))
    kept = [token for run in runs for token in run]
    assert {tuple(i for i in ids if i != FREE) for ids in filled} == {tuple(kept)}
    least = len(kept) + len(runs) - 1
    assert {len(ids) for ids in filled} == {len(kept) if len(runs) == 1 else max(length, least)}
