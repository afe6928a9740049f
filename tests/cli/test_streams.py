"""Standard streams that are closed, full, broken or poor in letters end no command in a traceback."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from diffuseq.cli import main
from diffuseq.evaluation.predictions import Prediction, write_predictions

COMMAND = [sys.executable, "-m", "diffuseq"]


class Refusing(io.RawIOBase):
    """A stream that refuses every byte, as a full disk and a broken pipe do."""

    def __init__(self, number: int) -> None:
        self.number = number

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        raise OSError(self.number, os.strerror(self.number))  # which makes a BrokenPipeError of EPIPE


def refusing(number: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(Refusing(number)), "utf-8")


def status(*words: str) -> Any:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    return left.value.code or 0


def run_unread(*words: str) -> tuple[int, bytes]:
    """The status and what is told of a command whose output nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    return ended.returncode, ended.stderr


@pytest.fixture
def sources(tmp_path: Path) -> str:
    (tmp_path / "in.txt").write_text("why tea?\n")
    return str(tmp_path / "in.txt")


COMMANDS = [
    ["--help"],
    ["--version"],
    ["train", "--help"],
    ["generate", "grammar", "--help"],
    ["generate", "grammar"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_full_disk_is_told_in_one_line(
    words: list[str], sources: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", refusing(errno.ENOSPC))
    assert status(*words, *(["--input", sources] if words[-1] == "grammar" else [])) == 2
    told = capsys.readouterr().err
    assert told == (
        "diffuseq: The output cannot be written (No space left on device); free some space, or send it elsewhere.\n"
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_reader_that_has_left_is_no_error(
    words: list[str], sources: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", refusing(errno.EPIPE))
    assert status(*words, *(["--input", sources] if words[-1] == "grammar" else [])) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words", [["--help"], ["train", "--help"], ["generate", "grammar", "--help"]], ids=" ".join
)
def test_a_real_pipe_without_a_reader_ends_a_command_quietly(words: list[str]) -> None:
    assert run_unread(*words) == (0, b"")


def test_scores_are_written_though_the_reader_of_the_table_has_left(tmp_path: Path) -> None:
    rows = [Prediction(f"s {i}", ("a b",), ("a b", "c"), None) for i in range(3)]
    write_predictions(tmp_path / "predictions.jsonl", rows)
    words = [str(tmp_path), "--bootstrap", "0"]
    assert run_unread("evaluate", *words, "--json", str(tmp_path / "scores.json")) == (0, b"")
    assert json.loads((tmp_path / "scores.json").read_text())["sources"] == 3
    assert run_unread("compare", *words, "--out", str(tmp_path / "report")) == (0, b"")
    assert (tmp_path / "report" / "report.html").is_file()


def test_watching_ends_with_its_reader(sources: str) -> None:
    assert run_unread("generate", "grammar", "--watch", "--input", sources) == (0, b"")


def test_a_message_that_cannot_be_written_leaves_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", refusing(errno.ENOSPC))
    assert status("nothing") == 2


def test_closed_streams_are_empty_and_no_file_gets_their_number(tmp_path: Path) -> None:
    """As `diffuseq generate <&-` has them."""
    told = tmp_path / "told"
    for closed, expected in (("<&-", 2), ("<&- >&-", 2), ("--version >&-", 0), ("2>&- <&-", 2)):
        line = (
            f'"$0" -m diffuseq generate grammar {closed}'
            if "--" not in closed
            else f'"$0" -m diffuseq {closed}'
        )
        with told.open("w") as file:
            ended = subprocess.run(["sh", "-c", line, sys.executable], stderr=file, check=False)
        assert ended.returncode == expected
        text = told.read_text()
        assert "Traceback" not in text
        if expected and "2>" not in closed:
            assert (
                text
                == "diffuseq: Standard input holds no source; give one a line, or a file of them with --input.\n"
            )


GREEK = "ένα τσάι"


@pytest.mark.parametrize(
    "words",
    [["generate", "grammar", "--help"], ["evaluate", ".", "--metrics", "bleu"], ["replay", "trace.jsonl"]],
    ids=" ".join,
)
def test_letters_that_a_stream_lacks_are_written_as_escapes(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_predictions(tmp_path / "predictions.jsonl", [Prediction(GREEK, (GREEK,), (GREEK,), None)])
    frame = {"index": 0, "total": 1, "forwards": 1, "seconds": 0.1, "rows": [[[GREEK, 0.5, "new"]]]}
    trace = [{"source": GREEK, "settings": {}}, frame]
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in trace))
    monkeypatch.chdir(tmp_path)
    content = io.BytesIO()
    out = io.TextIOWrapper(content, "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert status(*words) == 0
    assert b"\\u" in content.getvalue()


def test_a_training_whose_terminal_closes_is_saved(tmp_path: Path) -> None:
    outside, inside = pty.openpty()
    training = subprocess.Popen(
        [*COMMAND, "train", "tiny", "--out", str(tmp_path), "--training.save-every", "100000"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # its own terminal, which can hang up
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.close(inside)
    told = b""
    while b"pairs/s" not in told:
        told += os.read(outside, 4096)
    os.close(outside)
    assert training.wait(60) == 128 + signal.SIGHUP
    assert list((tmp_path / "resume").glob("step-*"))
