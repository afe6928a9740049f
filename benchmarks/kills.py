"""Kill training and generation at random moments, start them again, and hold the outcome against a calm run.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--steps 60] [--rows 60] [--folder DIR]

Two of three kills strike training, the third generation. The moments are of three kinds:

    any         a random time after the start
    before      right before a random one of the run's file operations (open, rename, remove, …)
    amid        up to some milliseconds after such an operation, so also in the middle of a long write

Each is a SIGKILL to the process that runs `diffuseq train … --resume` or `diffuseq generate … --output`; the same
command is then started again until the run is whole. After every kill the script checks that

- the checkpoint that a restart loads, and the model folder, are bit for bit those of the calm run at their step,
- every answer that was kept before is kept still, once, with the seconds it took (so it was not made again),

and when a run is whole that its weights, metrics and answers are those of the calm run. It prints a line for each
part and a verdict; the exit status is 1 if anything differed. Processes are forked from one that has imported
everything, so a kill costs a second or so; Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counting import count

os.environ["OMP_NUM_THREADS"] = "1"  # threads do not outlive a fork, and sums must have one order

import torch
from safetensors.torch import load_file

import diffuseq.pipeline
import diffuseq.training.run
from diffuseq.cli import main
from diffuseq.data.grammar import write_corpus
from diffuseq.errors import InputError
from diffuseq.files import PARTIAL
from diffuseq.models import shipped_model
from diffuseq.training.state import load_newest

LONGEST_WAIT_S = 300
ENDING = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
"""Signals that end this script, which deletes its temporary folder first."""
LATEST_AMID_S = 0.01
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
SAVE_EVERY = 4
NETWORK = {
    "encoder-layers": 1,
    "decoder-layers": 1,
    "heads": 2,
    "width": 64,
    "feed-forward": 128,
    "embedding-width": 32,
    "dropout": 0.1,
}
TRAINING = {
    "batch-size": 8,
    "save-every": SAVE_EVERY,
    "evaluate-every": 20,
    "evaluate-rows": 2,
    "log-every": 4,
}


class Wrong(Exception):  # noqa: N818
    """Something was lost, doubled, damaged or different."""


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after the start, or after (None: right before) the n-th file operation."""

    kind: str
    operation: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Ended:
    """What became of a process: its exit status (None: killed), file operations, seconds, what it printed."""

    status: int | None
    operations: int
    seconds: float
    output: str


def run(argv: list[str], folder: Path, log: Path, moment: Moment | None = None) -> Ended:
    """`diffuseq argv` in a forked process, killed at `moment`; `folder` is what it writes into."""
    began = time.monotonic()
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _be_diffuseq(argv, folder, log, moment, writing)
    os.close(writing)
    try:
        operations = _watch(process, reading, moment)
        _, status = os.waitpid(process, 0)
    except BaseException:  # this script is ended, and its folder about to be deleted
        with suppress(ProcessLookupError, ChildProcessError):
            _kill(process)
            os.waitpid(process, 0)
        raise
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    ended = None if killed else os.waitstatus_to_exitcode(status)
    return Ended(ended, operations, time.monotonic() - began, log.read_text(errors="replace"))


def _watch(process: int, reading: int, moment: Moment | None) -> int:
    """Kill the process at `moment`; gives the number of its file operations when its pipe ends."""
    operations = 0
    if moment is not None and moment.kind == "any":
        time.sleep(moment.seconds or 0.0)
        _kill(process)
    with open(reading, "rb", buffering=0) as pipe:
        while pipe.read(1):
            operations += 1
            if moment is not None and moment.kind == "amid" and operations == moment.operation:
                time.sleep(moment.seconds or 0.0)
                _kill(process)
    return operations


def _kill(process: int) -> None:
    """The process is not waited for yet, so its number is still its own, even if it has ended."""
    os.kill(process, signal.SIGKILL)


def _be_diffuseq(argv: list[str], folder: Path, log: Path, moment: Moment | None, pipe: int) -> None:
    """The forked process: tell the pipe of every file operation inside `folder`, and never return."""
    signal.alarm(LONGEST_WAIT_S)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    place, operations = str(folder), 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal operations
        if event in FILE_EVENTS and str(arguments[0]).startswith(place):
            operations += 1
            if moment is not None and moment.kind == "before" and operations == moment.operation:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(pipe, b".")

    sys.addaudithook(watch)
    status = 1
    try:
        main(argv)
        status = 0
    except SystemExit as left:
        status = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@dataclass
class Tally:
    """What happened in all runs of one kind."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    restarts_with_something: int = 0

    def line(self, what: str, kept: str) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        return (
            f"{what}: {self.kills.total()} kills ({kinds}) in {self.runs} runs; after "
            f"{self.restarts_with_something} of them there was {kept} to go on from"
        )


def harass(
    kills: int,
    random_moment: Callable[[], Moment],
    start: Callable[[Path, Moment | None], Ended],
    check: Callable[[Path], bool],
    check_whole: Callable[[Path], None],
    folder: Path,
) -> Tally:
    """Runs in fresh folders, killed and started again until there were enough kills and the last run is whole.

    start: (folder, moment) → what became of it. check: after every kill; whether there was something to go on
    from. check_whole: when a run has ended by itself. Both raise `Wrong`.
    """
    tally = Tally()
    while tally.kills.total() < kills:
        tally.runs += 1
        place = folder / f"run-{tally.runs}"
        while True:
            moment = random_moment() if tally.kills.total() < kills else None
            ended = start(place, moment)
            if ended.status is None and moment is not None:
                tally.kills[moment.kind] += 1
                tally.restarts_with_something += check(place)
            elif ended.status == 0:
                check_whole(place)
                break
            else:
                raise Wrong(f"{place}: ended with {ended.status} instead of going on:\n{ended.output}")
    return tally


def moments(draw: random.Random, calm: Ended, most_operations: int) -> Callable[[], Moment]:
    """Random moments of a run that took as long as `calm`; of operations, among the first `most_operations`."""

    def moment() -> Moment:
        kind = draw.choice(("any", "before", "amid"))
        operation = draw.randint(1, max(1, min(most_operations, calm.operations)))
        seconds = draw.uniform(0, calm.seconds if kind == "any" else LATEST_AMID_S)
        return Moment(kind, operation, seconds)

    return moment


class Training:
    """Trainings to kill, and the calm one that they are held against; it keeps all its checkpoints."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.data = write_corpus(folder / "data", num_train=300, num_valid=10, num_test=10)
        self.calm_folder = folder / "calm"
        self.calm = _expect_success(self._start(self.calm_folder, None, keep=steps))
        checkpoints = sorted(self.calm_folder.glob("resume/step-*"))
        self.files = {path.name: _marker(path)["files"] for path in checkpoints}
        self.averages = {_digest(load_file(path / "average.safetensors")): path.name for path in checkpoints}
        self.names = list(load_file(checkpoints[0] / "average.safetensors"))

    def start(self, out: Path, moment: Moment | None) -> Ended:
        return self._start(out, moment, keep=1)

    def check(self, out: Path) -> bool:
        """Whether there is a checkpoint; `Wrong` if one that would be loaded, or the model, is not as it was."""
        try:
            newest = load_newest(out / "resume")
        except InputError as error:
            raise Wrong(f"{out}: {error}") from None
        if newest is not None:
            step, tensors, _, broken = newest
            if broken:
                raise Wrong(f"{out}: {broken}")
            if _marker(out / "resume" / f"step-{step}")["files"] != self.files[f"step-{step}"]:
                raise Wrong(f"{out}: the checkpoint of step {step} is not that of the calm run")
            self._check_average(out, tensors["average"])
        if (out / "config.json").exists():
            try:
                diffuseq.checkpoint.load_model(out)
            except InputError as error:
                raise Wrong(f"{out}: {error}") from None
            self._check_average(out, load_file(out / "model.safetensors"))
        return newest is not None

    def check_whole(self, out: Path) -> None:
        """`Wrong` unless all is as in the calm run, and nothing half-written is left."""
        _expect_equal_bytes(out / "model.safetensors", self.calm_folder / "model.safetensors")
        self.check(out)
        if _steps_and_losses(out) != _steps_and_losses(self.calm_folder):
            raise Wrong(f"{out}: metrics.jsonl is not that of the calm run")
        if json.loads((out / "training.json").read_text())["steps"] != self.steps:
            raise Wrong(f"{out}: training.json tells of other steps")
        if left := [str(path) for path in out.rglob(f"{PARTIAL}*")]:
            raise Wrong(f"{out}: left half-written: {left}")

    def _start(self, out: Path, moment: Moment | None, keep: int) -> Ended:
        argv = ["train", "tiny", "--data", str(self.data), "--out", str(out), "--resume"]
        for name, value in NETWORK.items():
            argv += [f"--system.{name}", str(value)]
        for name, value in {**TRAINING, "steps": self.steps, "keep": keep, "precision": "fp32"}.items():
            argv += [f"--training.{name}", str(value)]
        argv += ["--text.vocab-size", "512", "--generation.candidates", "1", "--generation.steps", "2"]
        return run(argv, out, self.folder / "log.txt", moment)

    def _check_average(self, out: Path, tensors: dict[str, torch.Tensor]) -> None:
        if _digest({name: tensors[name] for name in self.names}) not in self.averages:
            raise Wrong(f"{out}: its averaged weights are of no step of the calm run")


class Generation:
    """Generations to kill, by the model that comes with the package, and the calm one."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.sources = folder / "sources.txt"
        lines = ("how can i learn to draw", "who wrote the book about", "where do people go for")
        self.sources.write_text("".join(f"{lines[i % 3]} {i % 7} things?\n" for i in range(rows)))
        self.calm_file = folder / "calm" / "predictions.jsonl"
        self.calm = _expect_success(self.start(folder / "calm", None))
        self.kept: dict[Path, dict[int, str]] = {}

    def start(self, out: Path, moment: Moment | None) -> Ended:
        argv = ["generate", str(shipped_model("grammar")), "--input", str(self.sources)]
        argv += ["--output", str(out / "predictions.jsonl"), "--batch-size", "4", "--candidates", "2"]
        return run(argv, out, self.folder / "log.txt", moment)

    def check(self, out: Path) -> bool:
        """Whether answers are kept; `Wrong` if one that was kept before is lost, changed or doubled."""
        if (out / "predictions.jsonl").exists():
            self._check_answers(out)
        unfinished = out / "predictions.jsonl.unfinished"
        if not unfinished.exists():
            if self.kept.get(out) and not (out / "predictions.jsonl").exists():
                raise Wrong(f"{out}: the answers so far are gone")
            self.kept.pop(out, None)  # it was killed when all was done: the next start answers anew
            return False
        whole = [line for line in unfinished.read_text().splitlines(keepends=True)[1:] if line.endswith("\n")]
        rows = [json.loads(line)["row"] for line in whole]
        if len(set(rows)) != len(rows):
            raise Wrong(f"{unfinished}: rows stand twice")
        found = dict(zip(rows, whole, strict=True))
        if not self.kept.get(out, {}).items() <= found.items():
            raise Wrong(f"{unfinished}: answers of before are lost or were made again")
        self.kept[out] = found
        return bool(found)

    def check_whole(self, out: Path) -> None:
        """`Wrong` unless the answers are those of the calm run, and those kept on the way among them."""
        self._check_answers(out)
        left = [path.name for path in out.iterdir() if path.name != "predictions.jsonl"]
        if left != ["predictions.settings.json"]:
            raise Wrong(f"{out}: left behind: {left}")

    def _check_answers(self, out: Path) -> None:
        found, calm = (list(_objects(path)) for path in (out / "predictions.jsonl", self.calm_file))
        if [_without_seconds(row) for row in found] != [_without_seconds(row) for row in calm]:
            raise Wrong(f"{out}: the answers are not those of the calm run")
        for row, line in self.kept.get(out, {}).items():
            if json.loads(line)["seconds"] != found[row]["seconds"]:
                raise Wrong(f"{out}: row {row} was kept, and was made again")


def _expect_success(ended: Ended) -> Ended:
    if ended.status != 0:
        raise Wrong(f"The calm run ended with {ended.status}:\n{ended.output}")
    return ended


def _expect_equal_bytes(one: Path, other: Path) -> None:
    if one.read_bytes() != other.read_bytes():
        raise Wrong(f"{one} differs from {other}")


def _marker(checkpoint: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    return values


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _steps_and_losses(out: Path) -> list[tuple[Any, ...]]:
    names = ("step", "loss", "valid_loss", "valid_bleu")
    return [tuple(row.get(name) for name in names) for row in _objects(out / "metrics.jsonl")]


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "seconds"}


def hunt(kills: int, seed: int, steps: int, rows: int, folder: Path) -> None:
    """All of it; raises `Wrong` at the first thing that is."""
    draw = random.Random(seed)
    training = Training(folder / "training", steps)
    each_save = training.calm.operations * SAVE_EVERY // steps
    tally = harass(
        kills - kills // 3,
        moments(draw, training.calm, 3 * each_save),
        training.start,
        training.check,
        training.check_whole,
        folder / "training",
    )
    print(tally.line("training", "a checkpoint"), flush=True)
    generation = Generation(folder / "generation", rows)
    tally = harass(
        kills // 3,
        moments(draw, generation.calm, generation.calm.operations),
        generation.start,
        generation.check,
        generation.check_whole,
        folder / "generation",
    )
    print(tally.line("generation", "an answer"), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=count, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=count, default=60, help="optimiser steps of a training")
    parser.add_argument("--rows", type=count, default=60, help="sources of a generation")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    torch.set_num_threads(1)
    for number in ENDING:
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory() as temporary:
        try:
            work = (options.folder or Path(temporary)).resolve()
            if work.exists() and any(work.iterdir()):
                sys.exit(
                    f"kills: {work} is not empty, and runs that are whole already cannot be killed; give another."
                )
            hunt(options.kills, options.seed, options.steps, options.rows, work)
        except Wrong as wrong:
            print(f"FAILED: {wrong}")
            sys.exit(1)
    print(
        "PASSED: nothing lost, nothing doubled, nothing damaged, all weights and answers bit for bit the same"
    )
