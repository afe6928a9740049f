from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from diffuseq.cli import main
from diffuseq.evaluation.predictions import Prediction, write_predictions
from diffuseq.names import shown, visible, word

TURNED = "runs\u202egpj\x1b[31m"


def test_what_a_terminal_would_obey_is_shown_as_escapes_and_letters_stay() -> None:
    assert shown(Path(TURNED)) == "runs\\u202egpj\\x1b[31m"
    letters = "می\u200cخواهم 👩\u200d🔬 שלום"  # joiners are part of how words are spelled
    assert visible(letters) == letters


@pytest.mark.parametrize("name", ["runs/a", "a b", "it's", TURNED, "\\'\u202e", "a\nb"])
def test_a_word_of_a_command_is_read_by_a_shell_as_it_was(name: str) -> None:
    told = word(name)
    assert visible(told) == told
    environment = {"LC_ALL": "C.UTF-8"}
    said = subprocess.run(
        ["bash", "-c", f"printf %s {told}"], env=environment, capture_output=True, check=True
    )
    assert said.stdout.decode() == name


def test_commands_tell_names_and_paths_with_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_predictions(Path(TURNED) / "predictions.jsonl", [Prediction("a b", ("b a",), ("b a", "a a"))])
    for command in (
        ["evaluate", TURNED, "--metrics", "bleu", "--bootstrap", "0", "--json", f"{TURNED}.json"],
        ["compare", TURNED, f"{TURNED}2={TURNED}", "--bootstrap", "0"],
        ["combine", TURNED, TURNED, "--output", f"{TURNED}.jsonl"],
        ["evaluate", f"{TURNED}3"],
    ):
        with pytest.raises(SystemExit):
            main(command)
        told = "".join(capsys.readouterr())
        assert "\\u202e" in told and visible(told.replace("\n", "")) == told.replace("\n", "")
