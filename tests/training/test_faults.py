"""Full disks, places that cannot be written, vanished data, two runs in one folder: one sentence, nothing lost."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_runs as tiny

from diffuseq.cli import main
from diffuseq.errors import InputError
from diffuseq.evaluation.unfinished import unfinished
from diffuseq.training import state
from diffuseq.training.run import train
from diffuseq.training.state import load_newest
from diffuseq.training.tracking import Event

NOWHERE = Path("/sys/diffuseq")
"""A file system that takes no new folders, not even from root."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.write_data(tmp_path / "pairs")


def at(step: int, act: Callable[[], object]) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        if event.kind == "step" and event.values["step"] == step:
            act()

    return on_event


def test_a_disk_that_is_full_at_a_checkpoint_keeps_the_one_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(evaluate_rows=0)
    train(config, data, tmp_path / "undisturbed")
    write, calls = state.write_tensors, iter(range(100))

    def fills_up(path: Path, tensors: state.Tensors) -> None:
        if next(calls) == 5:  # in the second checkpoint
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, tensors)

    monkeypatch.setattr(state, "write_tensors", fills_up)
    with pytest.raises(InputError, match="No space left on device; free some space and start again"):
        train(config, data, tmp_path / "out")
    monkeypatch.undo()
    newest = load_newest(tmp_path / "out" / "resume")
    assert newest is not None and (newest[0], newest[3]) == (4, [])
    train(config, data, tmp_path / "out", resume=True)
    assert tiny.same_weights(tmp_path / "out", tmp_path / "undisturbed")


def diffuseq(*arguments: object, largest_file: int) -> subprocess.CompletedProcess[str]:
    """The command where the operating system takes no file of more bytes."""
    return subprocess.run(
        [sys.executable, "-m", "diffuseq", *map(str, arguments)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY)),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )


def test_generate_on_a_disk_that_takes_no_more_goes_on_after_what_is_there(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, output = tmp_path / "sources.txt", tmp_path / "answers.jsonl"
    sources.write_text("".join(f"why {n} times {n}?\n" for n in range(12)))
    command = ["generate", tiny_folder, "--input", sources, "--output", output, "--batch-size", 2]
    refused = diffuseq(*command, largest_file=1500)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "free some space and repeat the command, which goes on after the" in refused.stderr
    assert not output.exists()
    kept = Path(f"{output}.unfinished").read_text()
    whole = [json.loads(line) for line in kept[: kept.rfind("\n") + 1].splitlines()[1:]]
    assert 0 < len(whole) < 12
    with pytest.raises(SystemExit) as left:
        main(list(map(str, command)))
    assert not left.value.code
    assert f"Going on after {len(whole)} of 12 answers" in capsys.readouterr().err
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(answers) == 12
    assert all(answers[row["row"]]["seconds"] == row["seconds"] for row in whole)


@pytest.mark.skipif(not NOWHERE.parent.is_dir(), reason="there is no /sys")
@pytest.mark.parametrize("verb", ["train", "generate"])
def test_output_that_cannot_be_written_is_one_sentence(
    verb: str, data: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {
        "train": ["tiny", "--data", str(data), "--out", str(NOWHERE)],
        "generate": [
            str(tiny_folder),
            "--input",
            str(data / "valid.jsonl"),
            "--output",
            f"{NOWHERE}/a.jsonl",
        ],
    }
    with pytest.raises(SystemExit) as left:
        main([verb, *arguments[verb]])
    assert left.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("diffuseq: Cannot write")


def test_a_training_does_not_need_the_data_file_any_more_and_a_new_start_names_it(
    data: Path, tmp_path: Path
) -> None:
    config = tiny.config(evaluate_rows=0)
    train(config, data, tmp_path / "undisturbed")
    train(config, data, tmp_path / "out", on_event=at(3, (data / "train.jsonl").unlink))
    assert tiny.same_weights(tmp_path / "out", tmp_path / "undisturbed")
    with pytest.raises(InputError, match=r"has no train\.jsonl"):
        train(tiny.config(evaluate_rows=0, steps=20), data, tmp_path / "out", resume=True)


def test_a_second_run_into_the_same_folder_is_refused(data: Path, tmp_path: Path) -> None:
    refusals: list[str] = []

    def second() -> None:
        with pytest.raises(InputError) as refused:
            train(tiny.config(), data, tmp_path / "out", resume=True)
        refusals.append(str(refused.value))

    train(tiny.config(steps=2, evaluate_rows=0), data, tmp_path / "out", on_event=at(1, second))
    assert len(refusals) == 1 and refusals[0].startswith("Another run (process ")


def test_a_second_generate_into_the_same_file_is_refused(tmp_path: Path) -> None:
    with (
        unfinished(tmp_path / "a.jsonl", "same"),
        pytest.raises(InputError, match="Another process is generating"),
        unfinished(tmp_path / "a.jsonl", "same"),
    ):
        pass
