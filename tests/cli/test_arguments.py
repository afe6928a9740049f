"""What holds for the options of all verbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffuseq.cli import main


@pytest.mark.parametrize(
    "words",
    [
        ["train", "tiny", "--out", ""],
        ["train", "tiny", "--out="],
        ["demo", "--out", ""],
        ["generate", "grammar", "--output", ""],
        ["ensemble", "qqp", "qqp", "--out", ""],
        ["replay", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_working_directory(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert "the path is empty" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_the_help_of_an_option_breaks_lines_where_the_terminal_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main(["generate", "grammar", "--help"])
    assert "settle (confident tokens become clean first; for systems" in capsys.readouterr().out


def test_training_has_options_alone_and_no_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "tiny", "--help"])
    told = capsys.readouterr().out
    assert "--system.pretrained" in told
    assert "bert-sizes" not in told
