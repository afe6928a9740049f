"""Numbers that make no sense are refused by every benchmark that takes them, before anything is done."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import choosing
import counting
import pytest

from diffuseq.errors import InputError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("ablations", "--seeds 0", "--seeds: '0' is not possible; give a whole number from 1"),
        ("choice", "x --weights nan", "--weights: 'nan' is not possible; give a number of at least 0"),
        ("choice", "x --source-weights inf", "--source-weights: 'inf' is not possible; give a number."),
        ("distil", "--models a b --data d --out o --best 0", "--best: '0' is not possible"),
        (
            "equal_budget",
            "--data d --out o --rows 0",
            "--rows: '0' is not possible; give a whole number from 1",
        ),
        (
            "equal_budget",
            "--data d --out o --minutes 0",
            "--minutes: '0' is not possible; give a number above 0",
        ),
        ("fuzz", "--cases 0", "--cases: '0' is not possible"),
        ("fuzz_api", "--examples 0", "--examples: '0' is not possible"),
        ("gpu", "--out o --rows 0", "--rows: '0' is not possible"),
        ("gpu", "--out o --minutes -1", "--minutes: '-1' is not possible; give a number above 0"),
        ("grammar_systems", "--questions 0", "--questions: '0' is not possible"),
        ("kills", "--steps 0", "--steps: '0' is not possible"),
        ("metrics_speed", "--subset 0", "--subset: '0' is not possible"),
        ("onnx_speed", "--repeats 0", "--repeats: '0' is not possible"),
        ("pinned_words", "m d --rows 0", "--rows: '0' is not possible"),
        ("pinned_words", "m d --pins -1", "--pins: '-1' is not possible; give a whole number from 0"),
        ("scaling", "--repeats 0", "--repeats: '0' is not possible"),
        ("scaling", "--processes 2,4", "--processes: '2,4' does not begin with 1"),
        ("serve_load", "--clients 0", "--clients: '0' is not possible"),
        ("serve_load", "--clients 1 --requests 1", "--clients 1 with --requests 1 is one answer"),
        ("store_memory", "--pairs 0", "--pairs: '0' is not possible"),
        ("store_memory", "--words 6 2", "--words has the longest first"),
        ("tasks", "--data d --rows two", "--rows: 'two' is not possible; give a whole number from 1"),
    ],
)
def test_counts_that_make_no_sense_are_refused(
    script: str, arguments: str, message: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_numbers_that_make_sense_are_read() -> None:
    assert counting.count("3") == 3 and counting.whole(0)("0") == 0
    assert counting.positive("0.5") == 0.5 and counting.not_negative("0") == 0
    assert counting.number("-0.3") == -0.3


def test_names_are_taken_once_and_there_has_to_be_one() -> None:
    assert choosing.chosen("b, a,b", ["a", "b", "c"], "system") == ["b", "a"]
    assert choosing.chosen(None, ["a", "b"], "system") == ["a", "b"]
    with pytest.raises(InputError, match="',' names no system; choose some of: a, b"):
        choosing.chosen(",", ["a", "b"], "system")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("fuzz", "--case 3", "are of one target; name it with --targets"),
        ("fuzz", "--engine atheris --targets traces,pairs", "are of one target; name it with --targets"),
        pytest.param(
            "fuzz", "--engine atheris --targets traces", "atheris is not installed",
            marks=pytest.mark.skipif(importlib.util.find_spec("atheris") is not None, reason="it is"),
        ),
        ("fuzz_api", "--schemathesis no/such", "There is no program no/such; install schemathesis"),
        ("gpu", "--data no/such --out o", "There is no folder no/such; give --data"),
        ("gpu", "--data . --out o", "has no train.jsonl"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_one_sentence(script: str, arguments: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "qqp").mkdir()
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.stderr and "Traceback" not in done.stderr
