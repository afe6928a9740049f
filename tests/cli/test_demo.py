"""`diffuseq demo`: what it may replace, how it is stopped, and the command that it advises."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffuseq.cli import demo, main, watch
from diffuseq.cli.program import program
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.recipes import recipe
from diffuseq.registry import build
from diffuseq.training import run
from diffuseq.training.signals import TrainingStopped


@pytest.fixture
def trained(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were trained into. A model is copied in the place of a training, and no answer is scored."""
    folders: list[Path] = []

    def train(config: Any, data: str, out: Path, **options: Any) -> Path:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tiny_folder, out)
        folders.append(out)
        return out

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(demo, "_score", lambda *given: dict.fromkeys(SCORES, 0.5))
    return folders


SCORES = (
    "valid",
    "valid_candidates",
    "distinct_valid",
    "bleu",
    "copy_bleu",
    "self_bleu",
    "seconds",
    "forwards",
)


def status(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main(["demo", "--questions", "1", "--watched", "0", *map(str, words)])
    return int(left.value.code or 0)


def test_a_demo_replaces_a_demo_again_and_again(
    trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out in ([], ["--out", "here"], ["--out", tmp_path / "here"]):
        assert [status(*out) for _ in range(2)] == [0, 0]
    assert trained == [Path("runs/demo")] * 2 + [Path("here")] * 2 + [tmp_path / "here"] * 2
    (tmp_path / "runs" / "demo" / "demo.sha256").unlink()  # as a killed one leaves its own folder
    assert status() == 0


def test_what_is_no_demo_is_replaced_only_where_that_is_asked_for(
    trained: list[Path], tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny_folder, mine)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    for out in (mine, tmp_path / "notes"):
        assert status("--out", out) == 2
        assert f"{out} holds something else than an earlier demo" in capsys.readouterr().err
    assert status("--out", tmp_path / "notes" / "a.txt") == 2
    assert trained == [] and (tmp_path / "notes" / "a.txt").read_text() == "mine"
    assert status("--out", mine, "--reuse") == 0
    assert trained == []
    assert status("--out", mine, "--overwrite") == 0
    assert trained == [mine]


def test_a_demo_that_was_trained_on_is_a_run_of_ones_own(trained: list[Path], tmp_path: Path) -> None:
    assert status("--out", tmp_path / "run") == 0
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"0")
    assert status("--out", tmp_path / "run") == 2
    assert len(trained) == 1


def test_a_demo_that_was_interrupted_before_it_had_weights_may_be_replaced(
    trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(config: Any, data: str, out: Path, **options: Any) -> None:
        (out / "cache").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "train", interrupted)
        assert status("--out", tmp_path / "run") == 130
    assert status("--out", tmp_path / "run") == 0


@pytest.mark.parametrize("number", [2, 15])
def test_a_signal_leaves_with_its_status_and_advice_that_the_demo_can_follow(
    number: int,
    trained: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train = run.train

    def stopped(*arguments: Any, **options: Any) -> None:
        train(*arguments, **options)
        raise TrainingStopped(number, 17)

    monkeypatch.setattr(run, "train", stopped)
    assert status("--out", tmp_path / "run") == 128 + number
    told = capsys.readouterr().err
    assert "after step 17; --reuse shows" in told and "--resume" not in told and "Traceback" not in told
    assert status("--out", tmp_path / "run", "--reuse") == 0
    assert status("--out", tmp_path / "run") == 128 + number  # it may be replaced


def test_the_advice_names_the_program_as_it_was_called(
    trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "my bin" / "diffuseq"
    there.parent.mkdir()
    there.write_text("")
    there.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(there)])
    monkeypatch.setenv("PATH", "")
    assert program() == f"'{there}'"
    assert status("--out", tmp_path / "a [b]") == 0
    told = capsys.readouterr().out
    assert f"| '{there}' generate '{tmp_path}/a [b]' --watch" in told and "The model is in " in told
    monkeypatch.setenv("PATH", str(there.parent))
    assert program() == "diffuseq"
    monkeypatch.setattr(sys, "argv", ["/somewhere/diffuseq/__main__.py"])
    assert program() == f"{sys.executable} -m diffuseq"


def test_reuse_shows_any_kind_of_model(
    tiny_pipe: DiffuSeqPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = recipe("transformer-small")
    system = replace(config.system, encoder_layers=1, decoder_layers=1, width=32, heads=2)
    pipe = DiffuSeqPipeline(
        build(system, tiny_pipe.tokenizer.special), tiny_pipe.tokenizer, replace(config, system=system)
    )
    pipe.save_pretrained(tmp_path / "other")
    assert status("--out", tmp_path / "other", "--reuse", "--watched", "1") == 0
    shown = capsys.readouterr().out
    assert "chosen out of 1 candidate\n" in re.sub(" +\n", "\n", shown) and "nan" not in shown


def test_what_is_watched_has_the_seed_that_is_asked_for(
    trained: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(watch, "watch", lambda pipe, source, settings, **rest: seeds.append(settings.seed))
    assert status("--out", tmp_path / "here", "--watched", "1", "--seed", "5") == 0
    assert seeds == [5]
