"""A few cases of every target of benchmarks/fuzz.py, drawn and shrunk by hypothesis."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import pytest
import torch
from commands import COMMANDS, VERBS
from guarded import run_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS, Payload, graph_files

from diffuseq import cli

SECONDS = 60.0
FAST = 25
SLOW = 4


@pytest.mark.parametrize("name", [*TARGETS, *COMMANDS])
def test_hostile_input_is_refused_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {**TARGETS, **COMMANDS}[name]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if name == "onnx_graphs":
        graph_files()  # once, and not in the time of a case: a slow machine needs a minute

    @settings(
        max_examples=FAST if target.share >= 8 else SLOW,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def judge(draw: random.Random) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run_case(target.case, draw, tmp_path / "case", SECONDS, target.names_outputs)
        assert result.outcome != "finding", f"{result.signature}\n{result.detail}"

    judge()


def test_every_verb_is_fuzzed() -> None:
    assert set(VERBS) == set(cli.VERBS)


def test_the_guard_notices_a_command_that_is_run(tmp_path: Path) -> None:
    def case(draw: random.Random, folder: Path) -> None:
        path = folder / "weights.pt"
        torch.save(Payload(os.system, "echo harmless"), path)
        torch.load(path, weights_only=False)

    result = run_case(case, random.Random(0), tmp_path / "case", SECONDS)
    assert result.outcome == "finding" and "os.system" in result.signature


def test_the_guard_notices_a_file_that_is_written_elsewhere(tmp_path: Path) -> None:
    def case(draw: random.Random, folder: Path) -> None:
        (folder / ".." / "elsewhere").write_text("x")

    result = run_case(case, random.Random(0), tmp_path / "case", SECONDS)
    assert result.outcome == "finding" and "outside" in result.signature
    assert not (tmp_path / "elsewhere").exists()


def test_the_guard_ends_a_case_that_takes_too_long(tmp_path: Path) -> None:
    def case(draw: random.Random, folder: Path) -> None:
        while True:
            pass

    assert run_case(case, random.Random(0), tmp_path / "case", 0.1).signature.startswith("CaseTimeoutError")
