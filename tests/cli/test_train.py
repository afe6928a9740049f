"""`diffuseq train`: options from the recipe, errors in one sentence, a run told in lines."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from diffuseq.checkpoint import find_model, load_config
from diffuseq.cli import main
from diffuseq.cli.train import Reporter, parse
from diffuseq.errors import InputError
from diffuseq.recipes import RECIPES, recipe
from diffuseq.training import run
from diffuseq.training.signals import TrainingStopped
from diffuseq.training.tracking import Event, duration


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = [
        {"src": f"what is the {w}", "trg": f"tell me the {w}"} for w in ("time", "way", "plan", "cost")
    ] * 5
    for split in ("train", "valid"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_the_default_of_its_own_options(name: str) -> None:
    options = parse(name, ["--data", "x"])
    config = recipe(name)
    assert (options.system, options.text) == (config.system, config.text)
    assert (options.training, options.generation) == (config.training, config.generation)


def test_any_field_of_the_config_is_an_option() -> None:
    options = parse("tiny", ["--system.width", "64", "--training.betas", "0.8", "0.9", "--text.no-lowercase"])
    assert options.system.width == 64
    assert options.training.betas == (0.8, 0.9)
    assert options.text.lowercase is False
    assert options.data == "grammar"


def test_a_setting_that_does_nothing_with_the_sampler_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    told = fails(["train", "qqp-small", "--data", "x", "--generation.order-noise", "0.5"], capsys)
    assert "order_noise belongs to the sampler 'settle', but 'fixed-point' is chosen" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--training.optimizer", "adamw", "--training.muon-learning-rate", "0.1"], "optimizer is not muon"),
        (["--training.teaching", "0.5"], "there are no training.teachers"),
        (
            ["--training.schedule", "constant", "--training.final-learning-rate", "0.1"],
            "schedule constant has",
        ),
        (["--text.vocab-size", "999", "--text.tokenizer", "qqp"], "the tokenizer is that of qqp"),
        (["--text.algorithm", "bpe", "--training.start-from", "grammar"], "the tokenizer is that of grammar"),
    ],
)
def test_a_setting_of_training_that_does_nothing_is_refused(options: list[str], said: str) -> None:
    with pytest.raises(InputError, match=f"but does nothing, for .*{said}"):
        parse("qqp", ["--data", "x", *options])


def test_a_path_that_is_no_model_is_told_as_one(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (data, data / "train.jsonl", data / "nowhere"):
        error = fails(["train", str(path), "--data", str(data)], capsys)
        assert (
            f"{path} is no model folder (there is no {path}/config.json), nor the name of a recipe" in error
        )


def test_a_folder_of_its_name_is_not_in_a_recipes_way(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    (data / "qqp").mkdir()
    assert parse("qqp", ["--data", "x"]).system == recipe("qqp").system


@pytest.mark.parametrize("given", [["--training.start-from", "grammar"], ["--training.start-from=grammar"]])
def test_a_model_to_go_on_from_gives_its_settings(given: list[str]) -> None:
    options, plain = parse("qqp", [*given, "--data", "x"]), recipe("qqp").training
    assert options.training == dataclasses.replace(plain, start_from="grammar")
    model = load_config(find_model("grammar"))
    assert (options.system, options.text) == (model.system, model.text)
    assert options.generation == model.generation


def test_a_budget_that_is_asked_for_wins_over_that_of_the_recipe() -> None:
    assert recipe("qqp").training.epochs is not None
    by_the_clock = parse("qqp", ["--training.minutes", "5", "--data", "x"]).training
    assert (by_the_clock.epochs, by_the_clock.minutes) == (None, 5.0)
    by_steps = parse("qqp", ["--training.steps", "5", "--data", "x"]).training
    assert (by_steps.epochs, by_steps.minutes, by_steps.steps) == (None, None, 5)
    assert recipe("tiny").training.minutes is not None
    assert parse("tiny", ["--training.steps=5"]).training.minutes is None
    both = parse("tiny", ["--training.steps", "5", "--training.minutes", "1"]).training
    assert (both.steps, both.minutes) == (5, 1.0)
    times = parse("tiny", ["--training.epochs=2.5"]).training
    assert (times.epochs, times.minutes) == (2.5, None)


def test_a_small_run_is_told_in_lines_and_leaves_a_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    small = ["--system.width", "16", "--system.heads", "2", "--system.feed-forward", "16"]
    short = ["--training.steps", "2", "--training.log-every", "1", "--training.evaluate-rows", "2"]
    with pytest.raises(SystemExit) as left:
        main(["train", "tiny", "--data", str(data), "--out", str(out), *small, *short])
    assert not left.value.code
    told = capsys.readouterr().err
    assert "step 1: loss " in told and "validation: valid_loss" in told and "trained 2 steps" in told
    assert (out / "model.safetensors").exists()
    assert parse(str(out), ["--data", "x"]).system.width == 16


def test_mistakes_are_one_sentence_with_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "Did you mean 'tiny'" in fails(["train", "tinny"], capsys)
    assert "--data" in fails(["train", "qqp"], capsys)
    assert "recipe comes first" in fails(["train", "--data", "x"], capsys)
    assert "training.steps" in fails(["train", "tiny", "--training.stepz", "3"], capsys)
    assert "There is no folder" in fails(["train", "qqp", "--data", "no", "--out", str(tmp_path)], capsys)


@pytest.mark.parametrize("number", [2, 15])
def test_a_signal_leaves_with_its_own_status(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*arguments: Any, **options: Any) -> None:
        raise TrainingStopped(number, 17)

    monkeypatch.setattr(run, "train", stopped)
    with pytest.raises(SystemExit) as left:
        main(["train", "tiny"])
    assert left.value.code == 128 + number
    assert "after step 17; go on with --resume" in capsys.readouterr().err


def test_a_terminal_gets_a_bar_and_a_file_gets_plain_lines() -> None:
    log = {"step": 50, "loss": 1.5, "pairs_per_second": 1200.0, "seconds": 30.0, "done": 0.25}
    told = {}
    for name, terminal, term in (("bar", True, "xterm"), ("dumb", True, "dumb"), ("pipe", False, "xterm")):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=120, _environ={"TERM": term})
        with Reporter(console) as reporter:
            reporter(Event("step", values={"step": 50, "done": 0.25, "pairs": 100}))
            reporter(Event("log", values=log))
            reporter(Event("warning", "[odd] text"))
        told[name] = out.getvalue()
    assert "25%" in told["bar"] and "1,200 pairs/s" in told["bar"]
    assert told["pipe"] == "step 50: loss 1.5000, 1,200 pairs/s, 1 min 30 s left\nwarning: [odd] text\n"
    assert "1 min 30 s left" in told["dumb"] and "25%" not in told["dumb"]


def test_a_terminal_that_draws_nothing_anew_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    log = {"step": 50, "loss": 1.5, "pairs_per_second": 1200.0, "seconds": 30.0, "done": 0.25}
    out = io.StringIO()
    with Reporter(Console(file=out, force_terminal=True, width=120)) as reporter:
        reporter(Event("log", values=log))
    assert out.getvalue() == "step 50: loss 1.5000, 1,200 pairs/s, 1 min 30 s left\n"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (200, "3 min 20 s"), (3900, "1 h 5 min")])
def test_times_are_told_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_documents_do_not_fill_the_terminal() -> None:
    out = io.StringIO()
    sample = {"source": "why " * 5000, "target": "so", "answer": "so " * 5000}
    with Reporter(Console(file=out)) as reporter:
        reporter(Event("evaluation", values={"step": 1, "samples": [sample, {"source": "a", "answer": "b"}]}))
    assert len(out.getvalue()) < 1000 and "why…\n    → so so" in out.getvalue()
    assert out.getvalue().endswith("  a\n    → b\n")


def test_control_characters_of_texts_are_told_as_escapes() -> None:
    out = io.StringIO()
    sample = {"source": "a\x1b[2J", "target": "so", "answer": "b\x07"}
    with Reporter(Console(file=out)) as reporter:
        reporter(Event("evaluation", values={"step": 1, "samples": [sample]}))
    assert out.getvalue().endswith("  a\\x1b[2J\n    → b\\x07\n")
