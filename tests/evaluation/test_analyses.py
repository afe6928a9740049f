"""The three analyses: their numbers by hand, and the whole of them on tiny random models."""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffuseq.answers import Answer
from diffuseq.baselines.configs import (
    AutoregressiveGeneration,
    CMLMConfig,
    IterativeGeneration,
    LevTConfig,
    TransformerConfig,
)
from diffuseq.cli import analyse, main
from diffuseq.config import Config, DiffuSeqConfig, DiffusionGeneration, TextConfig
from diffuseq.errors import InputError
from diffuseq.evaluation.analyses import Limits, diversity, speed, steps
from diffuseq.evaluation.analyses.drawing import Look
from diffuseq.evaluation.analyses.result import Analysis, Data, silent, write
from diffuseq.evaluation.analyses.subjects import HeldOut, Subject, open_subjects, read_test_set
from diffuseq.evaluation.fonts import FALLBACKS, FontWarning, fallbacks
from diffuseq.evaluation.plots import Figure, style
from diffuseq.metrics.bleu import pairwise_sentence_bleu
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.registry import build
from diffuseq.text.tokenizer import Tokenizer

SOURCES = [
    "how can the black cat sleep on the mat ?",
    "where does a dog run ?",
    "why is the sea so blue now ?",
]
REFERENCES = ["How does a black cat sleep on mats ?", "where do dogs run ?", "What makes the sea blue ?"]
SIZE = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "heads": 2,
    "width": 16,
    "feed_forward": 32,
    "max_length": 24,
}
SYSTEMS = {
    "ours": (
        DiffuSeqConfig(**SIZE, embedding_width=8, attention="all", token_wise=0.5),
        DiffusionGeneration(candidates=2, sampler="settle", steps=3, length_beam=2, length=9),
    ),
    "transformer": (
        TransformerConfig(**SIZE),
        AutoregressiveGeneration(strategy="beam", beams=2, max_length=8),
    ),
    "cmlm": (CMLMConfig(**SIZE), IterativeGeneration(steps=3, length=9)),
    "levt": (LevTConfig(**SIZE), IterativeGeneration(steps=3)),
}
LIMITS = Limits(candidates=4, temperatures=(0.7, 1.0), calls=(1, 2))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([*SOURCES, *REFERENCES], vocab_size=200)


def pipeline(name, tokenizer, **changes):
    system, generation = SYSTEMS[name]
    torch.manual_seed(0)
    config = Config(
        replace(system, **changes), TextConfig(max_source=24, max_target=24), generation=generation
    )
    return DiffuSeqPipeline(build(config.system, tokenizer.special), tokenizer, config)


@pytest.fixture(scope="module")
def subjects(tokenizer):
    return [Subject(name, pipeline(name, tokenizer)) for name in SYSTEMS]


@pytest.fixture(scope="module")
def test_set():
    return HeldOut("made up", SOURCES, REFERENCES).lower_cased()


# numbers


def test_a_word_settles_when_its_place_changes_no_more():
    drafts = [np.array([[5, 6, -1]]), np.array([[5, 7, 8]]), np.array([[5, 6, 8]]), np.array([[5, 6, 8]])]
    assert [row.tolist() for row in steps.settling_steps(drafts)] == [[1, 3, 2]]


def test_words_of_a_text_that_grows_settle_when_they_appear():
    drafts = [np.array([[5]]), np.array([[5, 6]]), np.array([[5, 6, 7]])]
    assert [row.tolist() for row in steps.settling_steps(drafts)] == [[1, 2, 3]]


def test_the_choice_from_one_candidate_is_the_first_and_agreement_decides_among_three():
    groups = [["a b c d e", "v w x y z", "v w x y u", "v w x y z"]]  # the last is the reference
    matrix = pairwise_sentence_bleu(groups)
    agreement, quality = matrix[:, :-1, :-1], matrix[:, :-1, -1]
    assert diversity.chosen_of_first(agreement, quality, 1)[0] == quality[0, 0] < 0.1
    assert diversity.chosen_of_first(agreement, quality, 3)[0] == quality[0, 1] == 1


def test_a_csv_leaves_empty_what_there_is_not():
    assert (
        Data("x", ("a", "b"), (("one, two", None), (1, 0.123456789))).csv()
        == 'a,b\n"one, two",\n1,0.123457\n'
    )


def test_answers_of_a_cased_model_are_compared_in_lower_case_beside_an_uncased_one(monkeypatch, tokenizer):
    subject = Subject("cased", pipeline("levt", tokenizer))
    test = HeldOut("made up", SOURCES, REFERENCES)
    answers = [Answer("", text, [text] * 4, [0.0] * 4, 0.1, 1) for text in REFERENCES]
    monkeypatch.setattr(subject.pipe, "answer_all", lambda *_: answers)
    for rows in (test, test.lower_cased()):
        assert rows.bleu(REFERENCES).tolist() == [1, 1, 1]
        measured = diversity.measure([subject], rows, LIMITS, silent)
        assert measured.single == {0: 1} and measured.samples[0].average == 1


# systems


def test_diversity_measures_every_model_at_every_temperature(subjects, test_set):
    measured = diversity.measure(subjects, test_set, LIMITS, silent)
    assert [(s.subject, s.temperature) for s in measured.samples] == [
        (i, t) for i in range(4) for t in (0.7, 1.0)
    ]
    assert all(len(s.bleu) == 4 for s in measured.samples)
    assert all(
        low <= value <= high
        for s in measured.samples
        for low, value, high in zip(s.low, s.bleu, s.high, strict=True)
    )
    assert set(measured.single) == {1, 2, 3}  # ours draws by its own settings already


def test_steps_end_at_the_answer_and_every_word_settles_on_the_way(subjects, test_set):
    courses = steps.measure(subjects, test_set, LIMITS, silent)
    settings = subjects[0].sampling(3, LIMITS.seed)
    answers = subjects[0].pipe.answer_all(test_set.sources, settings)
    flat = [text for answer in answers for text in answer.candidates]
    references = [reference for reference in test_set.references for _ in range(3)]
    expected = HeldOut("flat", flat, references).bleu(flat).mean()
    assert courses[0].bleu[-1] == pytest.approx(expected)
    assert courses[0].shares == pytest.approx((1 / 3, 2 / 3, 1))
    assert all(0 < share <= 1 for course in courses for share in course.settling if share is not None)


def test_a_model_of_short_or_empty_answers_is_left_out_of_what_cannot_be_measured(subjects, test_set):
    measured = steps.measure(subjects[:1], test_set, LIMITS, silent)[0]
    nothing = replace(measured, div4=(None,) * 3, settling=(None,) * 10, example=None)
    for courses, measurable in (
        ([nothing], {"steps-bleu"}),
        ([nothing, measured], {"steps-div4", "steps-settling"}),
    ):
        figures = steps.draw(courses)
        assert measurable <= {figure.name for figure in figures}
        for figure in figures:
            figure.drawing.canvas.draw()


def test_an_autoregressive_system_settles_from_left_to_right(subjects, test_set):
    transformer = steps.measure(subjects[1:2], test_set, LIMITS, silent)[0]
    known = [share for share in transformer.settling if share is not None]
    assert known == sorted(known)


def test_a_generation_of_many_steps_is_looked_at_some_fifty_times(tokenizer, test_set):
    pipe = pipeline("ours", tokenizer)
    pipe.config = replace(pipe.config, generation=replace(pipe.config.generation, steps=120))
    course = steps.measure([Subject("ours", pipe)], test_set, LIMITS, silent)[0]
    assert len(course.shares) == 50
    assert course.shares[-1] == 1


@pytest.mark.parametrize(
    ("div4", "settling", "names"),
    [
        ((None, None), (1.0,), ["steps-bleu", "steps-settling"]),
        ((None, None), (None,), ["steps-bleu"]),
        ((None, 0.5), (1.0,), ["steps-bleu", "steps-div4", "steps-settling"]),
    ],
)
def test_answers_too_short_for_a_figure_leave_it_out(div4, settling, names):
    def course(index, div4, settling):
        look = Look.of(index, "diffusion")
        return steps.Course(
            f"model {index}", look, (0.5, 1.0), (0.1, 0.2), div4, settling * steps.PARTS, None
        )

    empty = course(0, (None, None), (None,))
    assert [figure.name for figure in steps.draw([empty, course(1, div4, settling)])] == names


def test_words_and_names_may_have_dollar_signs():
    words = ("$\\frac$", "$5$")
    example = steps.Example("pay $5 or $6", words, (words,), (1.0, 1.0), (1.0,))
    course = steps.Course(
        "$x^2$", Look.of(0, "diffusion"), (1.0,), (0.1,), (0.2,), (1.0,) * steps.PARTS, example
    )
    drawn = [figure.svg() for figure in steps.draw([course])]
    assert all("$x^2$" in svg for svg in drawn[:-1])
    assert all(word in drawn[-1] for word in words)


def in_other_letters():
    words = ("你好", "🎉", "\u0378")  # the last is no letter of any font
    example = steps.Example("日本語 한국어", words, (words,), (1.0,) * 3, (1.0,))
    course = steps.Course(
        "模型", Look.of(0, "diffusion"), (1.0,), (0.1,), (0.2,), (1.0,) * steps.PARTS, example
    )
    return steps.draw([course])


def test_letters_that_no_font_has_are_told_in_one_line(tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        figures = in_other_letters()
        assert all("模型" in figure.svg() for figure in figures[:-1])
        assert not told  # a page shows them by the reader's fonts
        for figure in figures:
            figure.save(tmp_path)
    assert {each.category for each in told} == {FontWarning} and len(
        {str(each.message) for each in told}
    ) == 1
    assert "png files show boxes there" in str(told[0].message)


def test_a_font_that_has_the_letters_is_taken_where_there_is_one(monkeypatch):
    fonts = pytest.importorskip("matplotlib.font_manager")
    names = ["DejaVu Sans", FALLBACKS[0][3]]
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: ["new.ttf"])
    monkeypatch.setattr(fonts.fontManager, "get_font_names", lambda: names)
    monkeypatch.setattr(fonts.fontManager, "addfont", lambda path: names.append(FALLBACKS[0][1]))
    fallbacks.cache_clear()
    with style():
        family = __import__("matplotlib").rcParams["font.family"]
    fallbacks.cache_clear()
    assert family == ["sans-serif", FALLBACKS[0][1]]


def test_models_whose_names_differ_in_signs_alone_have_figures_of_their_own():
    words = ("a", "b")
    example = steps.Example("x", words, (words,), (1.0, 1.0), (1.0,))
    names = ("a/b", "a-b", "A b", "a-b-2", "/", "model")
    courses = [
        steps.Course(name, Look.of(0, "diffusion"), (1.0,), (0.1,), (0.2,), (1.0,) * steps.PARTS, example)
        for name in names
    ]
    found = [figure.name.removeprefix("steps-words-") for figure in steps.draw(courses)[3:]]
    assert found == ["a-b", "a-b-2", "A-b-3", "a-b-2-2", "model", "model-2"]


def test_names_and_texts_with_signs_break_no_markdown(tmp_path):
    class Drawing:
        def savefig(self, path, **options):
            path.write_text("")

    figure = Figure("f", "How [a|b] goes", "“<i>*x*\n`y`”", Drawing())
    write([Analysis("T", (figure,), (), ("a_b is left out",))], tmp_path, "Models: a*b*.")
    text = (tmp_path / "analyses.md").read_text()
    assert r"Models: a\*b\*." in text
    assert r"![How \[a\|b\] goes](f.svg)" in text
    assert r"“\<i\>\*x\* \`y\`”" in text
    assert r"- a\_b is left out" in text


def test_speed_has_every_sampler_of_ours_and_points_for_the_others(subjects, test_set):
    measured = speed.measure(subjects, test_set, LIMITS, silent)
    ours = {(p.sampler, p.calls) for p in measured.points if p.subject == 0}
    fitting = set(speed.SAMPLERS) - {"fixed-point"}  # its positions see all others
    assert ours == {(sampler, calls) for sampler in fitting for calls in (1, 2)}
    assert {p.sampler for p in measured.points if p.subject == 1} == {"greedy", "beam"}
    assert sum(p.subject == 2 for p in measured.points) == sum(p.subject == 3 for p in measured.points) == 1
    assert len(measured.notes) == 1 and "reads from left to right" in measured.notes[0]
    assert all(p.sentences_per_second > 0 for p in measured.points)


def test_a_sampler_that_a_model_refuses_is_noted_once_and_left_out(tokenizer, test_set):
    subject = Subject("ours", pipeline("ours", tokenizer, token_wise=1.0))
    measured = speed.measure([subject], test_set, LIMITS, silent)
    assert {p.sampler for p in measured.points} == {"settle"}
    assert len(measured.notes) == len(speed.SAMPLERS) - 1
    assert sum("token-wise noise alone" in note for note in measured.notes) == len(speed.SAMPLERS) - 2


# the command


@pytest.fixture(scope="module")
def models(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("ours", "levt"):
        pipeline(name, tokenizer).save_pretrained(folder / name)
    rows = (json.dumps({"src": s, "trg": t}) for s, t in zip(SOURCES, REFERENCES, strict=True))
    (folder / "test.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_the_command_writes_figures_their_data_and_captions(models, tmp_path, capsys):
    out = tmp_path / "out"
    few = ["--candidates", "3", "--temperatures", "1.0", "--calls", "1", "2"]
    status = analyse.main(
        [
            f"a model={models / 'ours'}",
            str(models / "levt"),
            "--data",
            str(models),
            "--out",
            str(out),
            *few,
        ]
    )
    assert status == 0
    drawn = {path.stem for path in out.glob("*.svg")}
    assert drawn == {path.stem for path in out.glob("*.png")}
    assert {
        "diversity-candidates",
        "diversity-div4",
        "diversity-self-bleu",
        "steps-bleu",
        "steps-div4",
    } <= drawn
    assert {"steps-settling", "steps-words-a-model", "steps-words-levt", "speed"} <= drawn
    with open(out / "diversity-candidates.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["candidates"]) for row in rows if row["model"] == "levt"] == [1, 2, 3]
    written = (out / "analyses.md").read_text()
    assert all(f"({name}.svg)" in written for name in drawn)
    assert "3 of" in written and "test.jsonl" in written
    assert "analyses.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "sped"], "Did you mean 'speed'"),
        (["--candidates", "1"], "at least 2"),
        (["--calls", "0"], "from 1 on"),
        (["--only", "steps,speed", "--candidates", "5"], "candidates is for diversity, which is not made"),
        (["--only", "diversity", "--calls", "5"], "calls is for speed, which is not made"),
        (["--rows", "0"], "from 1 on"),
        (["--out", "{models}/test.jsonl"], "is a file"),
        (["--data", "{models}/ours"], "has no valid.jsonl"),
    ],
)
def test_mistakes_end_with_one_sentence_and_nothing_written(models, tmp_path, flags, message, capsys):
    flags = [flag.format(models=models) for flag in flags]
    with pytest.raises(SystemExit) as left:
        main(["analyse", str(models / "ours"), "--data", str(models), "--out", str(tmp_path / "out"), *flags])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_models_of_one_name_are_told_apart_first(models, capsys):
    with pytest.raises(SystemExit):
        main(["analyse", str(models / "ours"), str(models / "ours"), "--data", str(models)])
    assert "tell them apart by NAME=PATH" in capsys.readouterr().err


def test_rows_that_cannot_be_read_are_skipped_where_that_is_asked_for(models, tmp_path, capsys):
    data, asked = tmp_path / "test.jsonl", ["--only", "speed", "--calls", "1", "--rows", "2"]
    data.write_text("no json\n" + (models / "test.jsonl").read_text())
    command = ["analyse", str(models / "ours"), "--data", str(data), "--out", str(tmp_path / "out"), *asked]
    with pytest.raises(SystemExit) as left:
        main(command)
    assert left.value.code == 2 and "pass --skip-bad-rows" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main([*command, "--skip-bad-rows"])
    assert not left.value.code and "skipped 1 row: the line is not JSON" in " ".join(
        capsys.readouterr().out.split()
    )


def test_test_rows_have_the_name_of_their_folder_also_from_within(models, monkeypatch):
    monkeypatch.chdir(models)
    assert read_test_set(Path("test.jsonl"), 1).name == f"{models.name}/test.jsonl"


def test_a_model_has_the_name_of_its_folder_also_from_within(models, monkeypatch):
    monkeypatch.chdir(models / "ours")
    assert [subject.name for subject in open_subjects([".", "same=../ours"], "cpu")] == ["ours", "same"]


def test_a_test_set_is_read_as_a_whole_where_no_number_of_rows_is_given_and_told_if_it_is_not_there(models):
    assert len(read_test_set(models, None).sources) > len(read_test_set(models, 1).sources) == 1
    with pytest.raises(
        InputError, match=r"There is no .*nowhere; give a jsonl file, or a folder with test\.jsonl"
    ):
        read_test_set(models / "nowhere", None)
