"""`diffuseq train` and `diffuseq generate` as torchrun and `accelerate launch` start them."""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import launch
import pytest
import torch
from safetensors.torch import load_file

from diffuseq.cli.shards import Team
from diffuseq.errors import InputError
from diffuseq.training.state import load_newest

WORDS = ("tea", "rice", "bread", "music", "python", "coffee", "time", "way")
PROGRAM = ("-m", "diffuseq")
ALONE = [sys.executable, *PROGRAM]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    rows = [{"src": f"what is the {a} {b}", "trg": f"tell me the {b} {a}"} for a in WORDS for b in WORDS]
    for split in ("train", "valid"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def training(data: Path, out: Path, steps: int = 4, *more: str) -> list[str]:
    """The arguments of a training of our system in tiny, with dropout."""
    network = {"width": 16, "heads": 2, "feed-forward": 16, "embedding-width": 8, "dropout": 0.1}
    loop = {"steps": steps, "batch-size": 16, "log-every": 1, "save-every": 4, "evaluate-rows": 0}
    arguments = ["train", "tiny", "--data", str(data), "--out", str(out), "--text.vocab-size", "128"]
    for name, value in network.items():
        arguments += [f"--system.{name}", f"{value}"]
    for name, value in {**loop, "precision": "fp32"}.items():
        arguments += [f"--training.{name}", f"{value}"]
    return [*arguments, *more]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_seconds(path: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(path)]


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a launcher, in two micro-batches."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    launch.run([*ALONE, *training(data, out), "--training.accumulate", "2"])
    return out


@pytest.mark.parametrize("launcher", [launch.torchrun, launch.accelerate_launch])
def test_every_way_of_starting_gives_the_same_run(
    data: Path, plain: Path, tmp_path: Path, launcher: Callable[..., list[str]]
) -> None:
    told = launch.run(launcher(2, *PROGRAM, *training(data, tmp_path)))
    assert told.count("trained 4 steps") == 1  # by the first process alone
    assert_same_run(tmp_path, plain)


def assert_same_run(out: Path, other: Path) -> None:
    """The same weights and losses, to rounding."""
    weights, expected = (load_file(folder / "model.safetensors") for folder in (out, other))
    for name, value in expected.items():
        if not name.endswith("read.bias"):  # with the keys' bias, whose gradient is rounding alone
            torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=1e-5, msg=name)
    losses = [
        [row["loss"] for row in rows(folder / "metrics.jsonl") if "loss" in row] for folder in (out, other)
    ]
    torch.testing.assert_close(*map(torch.tensor, losses))


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_and_ends_all_processes_within_seconds(
    data: Path, tmp_path: Path, processes: int
) -> None:
    """As the schedulers of pre-emptible machines send it; torchrun passes it on."""
    arguments = training(data, tmp_path / "out", 100_000)
    command = [*ALONE, *arguments] if processes == 1 else launch.torchrun(processes, *PROGRAM, *arguments)
    with launch.started(command) as group:
        wait_for(tmp_path / "out" / "resume" / "step-4")
        group.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        status = group.wait(60)
        assert time.monotonic() - asked < 20
    assert status == 143 or processes > 1  # torchrun has a status of its own
    newest = load_newest(tmp_path / "out" / "resume")
    assert newest is not None and newest[0] > 4 and not newest[3]
    assert newest[2]["progress"]["step"] == newest[0]


def test_when_one_process_dies_the_others_end_too(data: Path, tmp_path: Path) -> None:
    arguments = training(data, tmp_path / "out", 100_000)
    with launch.started(launch.torchrun(2, *PROGRAM, *arguments)) as group:
        wait_for(tmp_path / "out" / "resume" / "step-4")
        launch.workers(group)[1].kill()
        assert group.wait(60) != 0
    newest = load_newest(tmp_path / "out" / "resume")
    assert newest is not None and not newest[3]


def test_two_launchers_are_two_machines(data: Path, plain: Path, tmp_path: Path) -> None:
    arguments = training(data, tmp_path / "out")
    port = launch.free_port()
    with (
        launch.started(launch.machine(0, port, *PROGRAM, *arguments)) as first,
        launch.started(launch.machine(1, port, *PROGRAM, *arguments)) as second,
    ):
        assert (first.wait(launch.PATIENCE), second.wait(launch.PATIENCE)) == (0, 0)
    assert_same_run(tmp_path / "out", plain)


def test_generate_on_several_processes_gives_the_answers_of_one(tiny_folder: Path, tmp_path: Path) -> None:
    command = generating(tiny_folder, tmp_path, "--batch-size", "2")
    launch.run([*ALONE, *command, "--output", str(tmp_path / "one.jsonl")])
    launch.run(launch.torchrun(2, *PROGRAM, *command, "--output", str(tmp_path / "two.jsonl")))
    assert without_seconds(tmp_path / "two.jsonl") == without_seconds(tmp_path / "one.jsonl")
    assert sorted(path.name for path in tmp_path.glob("two*")) == ["two.jsonl", "two.settings.json"]


def test_a_killed_group_goes_on_and_generates_nothing_twice(tiny_folder: Path, tmp_path: Path) -> None:
    """Two processes are killed in the middle; one goes on from what both have kept."""
    output = tmp_path / "answers.jsonl"
    command = generating(tiny_folder, tmp_path, "--batch-size", "1", "--steps", "40")
    launch.run([*ALONE, *command, "--output", str(tmp_path / "calm.jsonl")])
    parts = [tmp_path / f"answers.jsonl{part}.unfinished" for part in ("", ".part-1")]
    with launch.started(launch.torchrun(2, *PROGRAM, *command, "--output", str(output))):
        for part in parts:
            wait_for(part, lines=3)
    assert not output.exists()
    kept = {row["row"]: row for part in parts for row in whole_lines(part)[1:]}
    assert len(kept) >= 4 and {row % 2 for row in kept} == {0, 1}
    told = launch.run([*ALONE, *command, "--output", str(output)])
    assert f"Going on after {len(kept)} of {len(WORDS) * 2} answers" in told
    assert without_seconds(output) == without_seconds(tmp_path / "calm.jsonl")
    found = rows(output)
    assert all(found[row]["seconds"] == answer["seconds"] for row, answer in kept.items())
    assert not list(tmp_path.glob("*.unfinished"))


def generating(model: Path, folder: Path, *more: str) -> list[str]:
    sources = folder / "sources.txt"
    sources.write_text("".join(f"{how} {word}?\n" for how in ("why", "what is the best") for word in WORDS))
    return ["generate", str(model), "--input", str(sources), "--seed", "7", *more]


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """What a kill left, without a last line that is incomplete."""
    content = path.read_text()
    return [json.loads(line) for line in content[: content.rfind("\n") + 1].splitlines()]


def wait_for(path: Path, lines: int = 0, seconds: float = launch.PATIENCE) -> None:
    """Until `path` is there, with so many whole lines."""
    end = time.monotonic() + seconds
    while not path.exists() or (lines and path.read_text().count("\n") < lines):
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


def test_what_only_one_process_can_do_is_refused() -> None:
    team = Team("cpu")
    team.check("-", True)  # alone it can
    team.count = 2
    with pytest.raises(InputError, match=r"standard input; give --input"):
        team.check("-", False)
    with pytest.raises(InputError, match=r"--watch and --trace follow one process"):
        team.check("sources.txt", True)
