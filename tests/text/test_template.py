from __future__ import annotations

import dataclasses

import pytest

from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.text.template import FREE, Template, one_template, parse_template
from diffuseq.text.tokenizer import Tokenizer


def test_each_slot_is_one_free_token_and_the_rest_is_encoded(tiny_pipe: DiffuSeqPipeline) -> None:
    tokenizer = tiny_pipe.tokenizer
    template = parse_template("what is [MASK] [MASK]*2 python", tokenizer)
    what_is, python = tokenizer.encode(["what is", "python"])
    assert template.runs == [[*what_is, FREE, FREE, FREE, *python]]


def test_text_behind_a_slot_goes_on_without_a_space(tiny_pipe: DiffuSeqPipeline) -> None:
    tokenizer = tiny_pipe.tokenizer
    ids = parse_template("why [MASK]?", tokenizer).runs[0]
    music = tokenizer.encode(["music"])[0]
    filled = [part for i in ids for part in (music if i == FREE else [i])]
    assert tokenizer.decode(filled) == "why music?"


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe"])
def test_glued_text_is_spelled_the_same_by_every_kind_of_tokenizer(algorithm: str) -> None:
    tokenizer = Tokenizer.train(["learning to cook, and cooking"] * 5, vocab_size=300, algorithm=algorithm)  # type: ignore[arg-type]
    for text in ("[MASK]ing", "[MASK], and", "[MASK] and"):
        ids = parse_template(text, tokenizer).runs[0]
        assert tokenizer.decode([*tokenizer.encode(["cook"])[0], *ids[1:]]) == text.replace("[MASK]", "cook")


def test_gaps_fill_up_to_the_length() -> None:
    template = Template([[1], [2], [3, 4]])
    filled = template.at_length(10, seeds=range(6))
    assert filled[0] == [1, FREE, FREE, FREE, 2, FREE, FREE, FREE, 3, 4]
    assert len(filled) == 6
    for ids in filled:
        assert len(ids) == 10
        assert [i for i in ids if i != FREE] == [1, 2, 3, 4]
    assert len(set(map(tuple, filled))) > 2  # candidates have the words in different places
    assert filled == template.at_length(10, seeds=range(6))


def test_a_single_gap_can_be_filled_in_one_way() -> None:
    assert Template([[1], [2]]).at_length(4, seeds=[1, 2, 3]) == [[1, FREE, FREE, 2]]


def test_every_gap_has_room_for_a_token_even_if_the_answer_gets_longer() -> None:
    assert len(Template([[1, 1, 1], [2]]).at_length(2, seeds=[0])[0]) == 5


def test_prefix_and_suffix_make_a_template() -> None:
    assert one_template(None, "What is", "?") == "What is [...]?"
    assert one_template(None, suffix="python") == "[...] python"
    assert one_template("a [MASK]") == "a [MASK]"
    assert one_template(None) is None


def test_prefixes_and_suffixes_are_kept_in_answers(tiny_pipe: DiffuSeqPipeline) -> None:
    for text in tiny_pipe("tea", prefix="what is", suffix="?").candidates:
        assert text.startswith("what is")
        assert text.endswith("?")


def test_required_words_are_in_every_candidate(tiny_pipe: DiffuSeqPipeline) -> None:
    answer = tiny_pipe("tea", template="[...] music [...] bread [...]", length=10, candidates=6)
    assert all(" music" in f" {text}" and " bread" in f" {text}" for text in answer.candidates)
    assert len(set(answer.candidates)) > 1


def test_sources_with_templates_of_different_lengths_are_answered_in_order(
    tiny_pipe: DiffuSeqPipeline,
) -> None:
    sources = ["tea", "why do people like music so much?", "coffee and bread"]
    together = tiny_pipe(sources, prefix="music")
    assert [answer.source for answer in together] == sources
    alone = [tiny_pipe(source, prefix="music").candidates for source in sources]
    assert [answer.candidates for answer in together] == alone


def test_a_source_that_is_longer_than_answers_may_be_takes_a_template(tiny_pipe: DiffuSeqPipeline) -> None:
    text = dataclasses.replace(tiny_pipe.config.text, max_target=5)
    config = dataclasses.replace(tiny_pipe.config, text=text)
    pipe = DiffuSeqPipeline(tiny_pipe.system, tiny_pipe.tokenizer, config)
    prompts = pipe.prepare(["why do people like music so much?"], pipe.settings(), "music [...]")
    assert [len(template) for template in prompts[0].templates] == [5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "no slots"}, "leaves nothing to write"),
        ({"template": "[MASK]*0"}, "give from 1"),
        ({"template": "日本 [MASK]"}, "cannot spell"),
        ({"template": "[MASK]*25"}, "writes up to 24"),
        ({"template": "[MASK]*5", "length": 6}, "length is 6"),
        ({"template": "what is [...]", "length": 1}, "has 2 tokens already"),
        ({"template": "what is [...]", "length": 2}, r"each \[...\] is one at least; ask for 3"),
        ({"template": "[MASK]", "prefix": "what"}, "put them into the template"),
        ({"prefix": "[MASK]"}, "has slots"),
    ],
)
def test_templates_without_sense_are_explained(
    tiny_pipe: DiffuSeqPipeline, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tiny_pipe("tea", **options)
