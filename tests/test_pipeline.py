"""Text in, text out: one seed is one answer, input is checked, and nothing is a traceback."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffuseq
from diffuseq import DiffuSeqPipeline, InputError
from diffuseq.baselines.configs import AutoregressiveGeneration
from diffuseq.cli import main
from diffuseq.config import Config
from diffuseq.cuts import CutWarning
from diffuseq.data.grammar import build_corpus
from diffuseq.recipes import recipe
from diffuseq.registry import build
from diffuseq.text.tokenizer import Tokenizer

SAMPLERS = ("settle", "ddim", "ancestral", "dpm-solver")


class Table(list[str]):
    """As a DataFrame of pandas: what comes of it one after the other are the names of its columns."""

    ndim = 2


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return [row["src"] for row in build_corpus(0, 0, 7)["test"]]


@pytest.fixture(scope="module")
def pipe() -> DiffuSeqPipeline:
    rows = build_corpus(500, 0, 0)["train"]
    tokenizer = Tokenizer.train((row["src"] for row in rows), vocab_size=600)
    tiny: Config = recipe("tiny")
    small = dataclasses.replace(
        tiny.system,
        width=32,
        heads=2,
        feed_forward=32,
        embedding_width=16,
        encoder_layers=1,
        decoder_layers=1,
        attention="all",
        token_wise=0.5,  # so that every sampler may be asked for
    )
    config = dataclasses.replace(tiny, system=small)
    torch.manual_seed(0)
    return DiffuSeqPipeline(build(small, tokenizer.special), tokenizer, config)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_seed_is_one_answer_whatever_the_batch_size_and_the_order(
    pipe: DiffuSeqPipeline, sources: list[str], sampler: str
) -> None:
    settings = {"sampler": sampler, "candidates": 3, "steps": 3}
    together = pipe(sources, batch_size=7, **settings)
    for batch_size in (1, 3):
        alone = pipe(sources[::-1], batch_size=batch_size, **settings)[::-1]
        assert [a.candidates for a in alone] == [a.candidates for a in together]
    other = pipe(sources, seed=1, **settings)
    assert [a.candidates for a in other] != [a.candidates for a in together]


def test_answers_stand_in_the_order_of_the_sources(pipe: DiffuSeqPipeline, sources: list[str]) -> None:
    answers = pipe(sources, candidates=1, steps=2)
    assert [answer.source for answer in answers] == sources
    assert all(answer.forwards == 2 and answer.text in answer.candidates for answer in answers)


def test_a_stream_ends_with_the_answer(pipe: DiffuSeqPipeline, sources: list[str]) -> None:
    drafts = list(pipe.stream(sources[0], candidates=2, steps=4))
    assert [draft.index for draft in drafts] == [0, 1, 2, 3]
    assert drafts[-1].texts == pipe(sources[0], candidates=2, steps=4).candidates


def test_every_candidate_has_its_log_probability_and_the_choice_can_weigh_it(
    pipe: DiffuSeqPipeline, sources: list[str]
) -> None:
    settings = {"candidates": 4, "steps": 3, "temperature": 1.0}
    answers = pipe(sources, **settings)
    draft = list(pipe.stream(sources[0], **settings))[-1]
    sums = [sum(map(math.log, confidence)) for confidence in draft.all_confidence]
    assert answers[0].log_p == pytest.approx(draft.log_p, abs=1e-4)
    assert draft.log_p == pytest.approx(sums, abs=1e-4)
    assert len(set(answers[0].log_p)) > 1
    by_likelihood = pipe(sources, likelihood_weight=1000, **settings)
    for answer, likeliest in zip(answers, by_likelihood, strict=True):
        assert answer.candidates == likeliest.candidates
        assert likeliest.text == answer.candidates[max(range(4), key=answer.log_p.__getitem__)]


def test_a_saved_pipeline_gives_the_same_answers(
    pipe: DiffuSeqPipeline, sources: list[str], tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "model")
    loaded = DiffuSeqPipeline.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.config == pipe.config
    assert [a.candidates for a in loaded(sources)] == [a.candidates for a in pipe(sources)]


@pytest.mark.parametrize("text", ["", "   ", "\t\n"])
def test_an_empty_source_is_refused(pipe: DiffuSeqPipeline, text: str) -> None:
    with pytest.raises(InputError, match="Source 2 is empty"):
        pipe(["how are you ?", text])


@pytest.mark.parametrize(
    "text", ["如何学习吉他？", "как научиться играть?", "🎸🎸🎸", "a" * 5000, "<script>alert(1)</script>"]
)
def test_unusual_text_is_answered(pipe: DiffuSeqPipeline, text: str) -> None:
    assert isinstance(pipe(text, candidates=2, steps=2).text, str)


def test_ten_thousand_words_are_cut_with_a_warning_or_refused(pipe: DiffuSeqPipeline) -> None:
    text = "guitar " * 10_000
    with pytest.warns(UserWarning, match="cut to 32 tokens"):
        assert isinstance(pipe(text, candidates=1, steps=1).text, str)
    strict = dataclasses.replace(pipe.config, text=dataclasses.replace(pipe.config.text, overlong="refuse"))
    with pytest.raises(InputError, match="reads up to 32"):
        DiffuSeqPipeline(pipe.system, pipe.tokenizer, strict)(text)


def test_every_call_warns_of_its_own_overlong_sources_and_answers_tell_what_was_not_read(
    pipe: DiffuSeqPipeline,
) -> None:
    long, longer = "how " * 33, "how " * 40
    few = {"candidates": 1, "steps": 1}
    asked = [
        (long, "The source was cut to 32 tokens, the most that this model reads; it has 33."),
        (longer, "The source was cut to 32 tokens, the most that this model reads; it has 40."),
        (["how ?", long], "1 of 2 sources was cut to 32 tokens, .*; source 2 has 33."),
        ([longer, "how ?", long], "2 of 3 sources were cut to 32 .*; source 1, the first of them, has 40."),
    ]
    for source, message in [*asked, *asked]:
        with pytest.warns(CutWarning, match=message) as told:
            answers = pipe(source, **few)
        assert len(told) == 1
        assert told[0].filename == __file__
        expected = [max(0, text.count("how") - 32) for text in ([source], source)[isinstance(source, list)]]
        assert [answer.unread for answer in (answers if isinstance(answers, list) else [answers])] == expected
    with pytest.warns(CutWarning, match="it has 33"):
        assert [draft.unread for draft in pipe.stream(long, **few)] == [1]
    with pytest.warns(CutWarning, match="it has 33"):
        assert pipe(long, callback_on_step_end=lambda *_: None, **few).unread == 1


def test_a_repeated_call_is_warned_of_again_by_pythons_own_rules() -> None:
    code = (
        "import warnings\nfrom diffuseq.cuts import warn_of_cuts\n"
        "for lengths in ([5], [5]): warn_of_cuts(lengths, 4)\n"
        "warnings.simplefilter('ignore')\nwarn_of_cuts([5], 4)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert told.count("CutWarning: The source was cut to 4 tokens") == 2


def test_the_command_line_tells_of_a_cut_in_one_line_of_its_own(
    pipe: DiffuSeqPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "in.txt").write_text("how ?\n" + "guitar " * 33)
    for shown in ([], ["--trace", str(tmp_path / "trace.jsonl")]):
        few = ["--steps", "1", "--candidates", "1", "--device", "cpu", *shown]
        with pytest.raises(SystemExit) as left:
            main(["generate", str(tmp_path / "model"), "--input", str(tmp_path / "in.txt"), *few])
        assert left.value.code == 0
        told = capsys.readouterr().err
        assert "cut to 32 tokens, the most that this model reads; " in told
        assert told.count("diffuseq: ") == 1
        assert "Warning" not in told and ".py" not in told


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "The source is of the type NoneType; give a text"),
        (5, "The source is of the type int; give a text"),
        (b"abc", "The source is of the type bytes; give a text"),
        ({"how ?": 1}, "The source is of the type dict; give a text"),
        (np.array("how ?"), "The source is of the type ndarray; give a text"),
        (np.array([["how ?"]]), "The source is of the type ndarray; give a text"),
        (Table(["src", "trg"]), "The source is of the type Table; give a text"),
        (["hi", None], "Source 2 is of the type NoneType; give a text"),
        (["hi", b"hi"], "Source 2 is of the type bytes; give a text"),
    ],
)
def test_what_is_no_text_is_named(pipe: DiffuSeqPipeline, source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(source)


def test_one_where_several_belong_and_a_number_for_a_name_are_told(pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="The sources are one text, 'hi'; give a list of texts"):
        pipe.answer_all("hi", pipe.settings())
    with pytest.raises(InputError, match="The models of an ensemble are one, 'grammar'; give a list"):
        DiffuSeqPipeline.ensemble("grammar")
    with pytest.raises(InputError, match="The models of an ensemble are of the type NoneType; give a list"):
        DiffuSeqPipeline.ensemble(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Unknown precision 16; choose one of: auto, bf16, fp32"):
        DiffuSeqPipeline.from_pretrained("grammar", precision=16)  # type: ignore[arg-type]


def test_a_stream_is_of_one_text(pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="Source 1 is of the type list; give a text"):
        pipe.stream(["hi"])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["template", "prefix", "suffix"])
def test_given_words_that_are_no_text_are_named(pipe: DiffuSeqPipeline, name: str) -> None:
    for call in (pipe, pipe.stream):
        with pytest.raises(InputError, match=f"The {name} is of the type int; give a text"):
            call("how are you ?", **{name: 5})  # type: ignore[operator]


def test_numbers_and_texts_of_numpy_are_as_good_as_pythons_own(
    pipe: DiffuSeqPipeline, sources: list[str]
) -> None:
    plain = {"steps": 2, "candidates": 2, "sampler": "ddim", "temperature": 0.5, "copies": False, "seed": 3}
    of_numpy = {name: np.array([value])[0] for name, value in plain.items()}
    assert all(isinstance(value, np.generic) for value in of_numpy.values())
    given, expected = pipe(np.array(sources), **of_numpy), pipe(sources, **plain)
    assert [answer.candidates for answer in given] == [answer.candidates for answer in expected]
    assert {type(answer.source) for answer in given} == {str}
    assert pipe(np.str_(sources[0]), **plain).candidates == expected[0].candidates


@pytest.mark.parametrize("settings", [None, {}, "x", 3, AutoregressiveGeneration()])
def test_what_are_no_settings_of_the_model_is_named(pipe: DiffuSeqPipeline, settings: Any) -> None:
    told = f"The settings are of the type {type(settings).__name__}, but this model generates by a Diffusion"
    for ask in (pipe.answer_all, pipe.prepare, lambda *given: list(pipe.answer_batches(*given))):
        with pytest.raises(InputError, match=told):
            ask(["how are you ?"], settings)


def test_what_are_no_sources_is_named_however_it_is_given(pipe: DiffuSeqPipeline) -> None:
    for sources in (None, 3, {"src": "how are you ?"}):
        with pytest.raises(
            InputError, match=f"The source is of the type {type(sources).__name__}; give a text"
        ):
            pipe.answer_all(sources, pipe.settings())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="progress is of the type int; give a function"):
        pipe.answer_all(["how are you ?"], pipe.settings(), progress=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="The template is of the type int"):
        pipe.answer_all(["how are you ?"], pipe.settings(), template=3)  # type: ignore[arg-type]
    one_by_one = pipe.answer_all(iter(["how are you ?", "hi"]), pipe.settings(steps=1))  # type: ignore[arg-type]
    assert [answer.source for answer in one_by_one] == ["how are you ?", "hi"]


def test_a_length_beyond_what_the_model_writes_is_refused(pipe: DiffuSeqPipeline) -> None:
    """Its network may take more: nothing so long was ever learned."""
    text = dataclasses.replace(pipe.config.text, max_target=6)
    short = DiffuSeqPipeline(pipe.system, pipe.tokenizer, dataclasses.replace(pipe.config, text=text))
    assert len(list(short.stream("how are you ?", length=6))[-1].words) == 6
    with pytest.raises(InputError, match="length is 7; this model writes up to 6 tokens"):
        short("how are you ?", length=7)


def test_a_stream_that_nobody_finished_ends_with_the_program_in_silence(
    pipe: DiffuSeqPipeline, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "model")
    code = (
        "from diffuseq import DiffuSeqPipeline\n"
        f"pipe = DiffuSeqPipeline.from_pretrained({str(tmp_path / 'model')!r}, 'cpu')\n"
        "drafts = pipe.stream('how are you ?')\nprint(next(drafts).total)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == str(pipe.config.generation.steps)
    assert ended.stderr == ""


def test_an_unknown_setting_suggests_the_right_one(pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match="Did you mean 'candidates'"):
        pipe("how are you ?", candidate=3)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"candidates": 0}, {"temperature": -1.0}, {"churn": 2.0}])
def test_settings_that_make_no_sense_are_refused(pipe: DiffuSeqPipeline, bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        pipe("how are you ?", **bad)


def test_a_sampler_that_the_training_never_met_is_refused(pipe: DiffuSeqPipeline) -> None:
    config = dataclasses.replace(pipe.config.system, token_wise=1.0)
    other = DiffuSeqPipeline(build(config, pipe.tokenizer.special), pipe.tokenizer, pipe.config)
    with pytest.raises(InputError, match="use settle"):
        other("how are you ?", sampler="ddim")


@pytest.mark.parametrize("seeds", [[1, 2], [], 3, "1", ["1"], [1.5], [True]])
def test_seeds_that_are_not_one_a_source_are_refused(pipe: DiffuSeqPipeline, seeds: Any) -> None:
    with pytest.raises(InputError, match="seeds"):
        pipe.prepare(["what is music"], pipe.settings(), seeds=seeds)
    (prompt,) = pipe.prepare(["what is music"], pipe.settings(), seeds=np.array([7]))
    assert prompt.seed == 7


def test_a_device_weights_a_recipe_and_a_listener_of_another_type_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no device '3.5'"):
        DiffuSeqPipeline.from_pretrained("grammar", device=3.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="weights is of the type float; give a list"):
        DiffuSeqPipeline.ensemble(["grammar"], weights=1.0, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Unknown recipe"):
        diffuseq.recipe([])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_event is of the type int; give a function"):
        diffuseq.train(diffuseq.recipe("tiny"), "grammar", tmp_path, on_event=3)  # type: ignore[arg-type]
