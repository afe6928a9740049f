"""`diffuseq generate`: what cannot end well is refused before a model is asked."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffuseq.answers import Answer
from diffuseq.checks import check_changes, check_fit
from diffuseq.cli import generate, main
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.recipes import recipe

Refused = Callable[..., str]


@pytest.fixture
def refused(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """The message that options are refused with, before the model's weights are read."""

    def opened(*arguments: object, **options: object) -> None:
        raise AssertionError("the model was opened")

    def refused(*options: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["generate", str(tiny_folder), "--input", str(tmp_path / "in.txt"), *options])
        assert left.value.code == 2
        return capsys.readouterr().err

    (tmp_path / "in.txt").write_text("why tea?\nwhy rice?\n")
    monkeypatch.setattr(DiffuSeqPipeline, "from_pretrained", opened)
    monkeypatch.chdir(tmp_path)
    return refused


@pytest.mark.parametrize("option", ["--output", "--trace"])
def test_a_pipe_and_a_folder_stay_what_they_are(refused: Refused, tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert "pipe is a pipe, which a file cannot replace; " in refused(option, "pipe")
    assert "folder is a folder, which a file cannot replace; " in refused(option, "folder")
    assert "'.' is no name for something new" in refused(option, ".")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "in.txt", "pipe"]


def test_a_stream_as_output_is_told_where_answers_go_without_one(refused: Refused) -> None:
    told = refused("--output", "/dev/stdout")
    assert "/dev/stdout is a stream" in told and "without --output the answers go to standard output" in told


def test_the_file_of_settings_is_looked_at_too(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "answers.settings.json").mkdir()
    assert "answers.settings.json is a folder" in refused("--output", "answers.jsonl")


def test_what_is_read_is_not_written_over(refused: Refused, tmp_path: Path) -> None:
    assert "is what is read" in refused("--output", "in.txt")
    assert "is what is read" in refused("--trace", str(tmp_path / "in.txt"))
    assert (tmp_path / "in.txt").read_text() == "why tea?\nwhy rice?\n"
    assert "--output and --trace are both" in refused(
        "--output", "x.jsonl", "--trace", str(tmp_path / "x.jsonl")
    )


def test_a_setting_that_does_nothing_with_the_sampler_is_refused(refused: Refused) -> None:
    assert "churn belongs to the sampler 'ddim', but 'settle'" in refused("--churn", "0.5")


@pytest.mark.parametrize("limit", ["0", "-3"])
def test_no_fewer_than_one_source_is_answered(refused: Refused, limit: str) -> None:
    assert f"--limit is {limit}; give a number of at least 1" in refused(f"--limit={limit}")


@pytest.mark.parametrize("terminal", [True, False])
def test_control_characters_are_shown_to_a_terminal_and_kept_elsewhere(
    terminal: bool, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    text = "a\x1b[2Jb\x9bc\x07 é"
    answer = Answer("why?", text, (text,), (0.0,), 0.1, 1, 0)
    monkeypatch.setattr(generate, "_answer", lambda *given: [answer])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    (tmp_path / "in.txt").write_text("why?\n")
    assert generate.main([str(tiny_folder), "--input", str(tmp_path / "in.txt")]) == 0
    shown = "a\\x1b[2Jb\\x9bc\\x07 é" if terminal else text
    assert capsys.readouterr().out == f"{shown}\n"


def test_the_examples_of_the_help_fit_the_recipe_that_they_name() -> None:
    config = recipe("qqp")
    lines = [line for line in generate._EXAMPLES.splitlines() if "generate runs/qqp" in line]
    assert len(lines) == 3
    for line in lines:
        _, settings = generate._parse(shlex.split(line)[2:], config.generation)
        check_changes(config.system, config.generation, settings)
        check_fit(config.system, settings)
