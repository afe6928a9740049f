"""The whole chain on every task: prepare, train a little, generate, evaluate, compare.

    python benchmarks/tasks.py --data DATA [--minutes 10] [--rows 200] [--out runs/tasks] [--tasks qqp,…]

For each task ours and an autoregressive Transformer of the same size and budget; two runs side by side,
one thread each. Every step is the command that a user would type; it is printed, and its output goes to
log.txt of the run. Called again it goes on where it was: a run that is trained is not trained again, one that
has answered does not answer again (unless --rows changed). A run of other --minutes or --data is refused, not
deleted.

OUT/data/TASK/          train.jsonl, valid.jsonl, and test.jsonl with the first ROWS rows
OUT/runs/TASK/SYSTEM/   the model folder, predictions.jsonl, scores.json, log.txt
OUT/report/             report.md and report.html of all tasks, figures, scores.json
OUT/results.md          one table of everything, for docs/results.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from children import call, ended_together
from choosing import chosen
from counting import count, positive
from earlier import asked_before, check_asked, note_asked

from diffuseq.data.pairs import numbered_lines
from diffuseq.errors import InputError
from diffuseq.evaluation.catalogue import METRICS, find_task
from diffuseq.files import atomic_file, write_text
from diffuseq.recipes import recipe

PROCESSES = 2
VOCABULARY = 8192


@dataclass(frozen=True)
class TaskData:
    """Where a task's rows stand, and how it is trained.

    recipe: the full-size recipe whose lengths and case are taken. valid: a file, or how many rows at the end
    of the training file are held out (rows of one source stay together).
    """

    recipe: str
    train: str
    valid: str | int
    test: str
    both_directions: bool = False


TASKS: dict[str, TaskData] = {
    "qqp": TaskData("qqp", "qqp/train.jsonl", "qqp/valid.jsonl", "qqp/test.jsonl", both_directions=True),
    "simplification": TaskData(
        "wiki-auto",
        "simplification/train_kauchak.jsonl",
        "simplification/asset_valid_multiref.jsonl",
        "simplification/asset_test_multiref.jsonl",
    ),
    "dialogue": TaskData("dialogue", "dialogue/train.jsonl", "dialogue/valid.jsonl", "dialogue/test.jsonl"),
    "question_generation": TaskData(
        "quasar-t", "question_generation/squad_dev.jsonl", 1000, "question_generation/squad_test.jsonl"
    ),
    "multi30k_de_en": TaskData(
        "translation", "multi30k_de_en/train.jsonl", "multi30k_de_en/valid.jsonl", "multi30k_de_en/test.jsonl"
    ),
}
SYSTEMS = {"diffuseq": "qqp-small", "transformer": "transformer-small"}

Rows = list[dict[str, Any]]


# data


def prepare(name: str, data: Path, out: Path, rows: int) -> str:
    """Write the three files of a task, and say in a sentence what they hold."""
    task, folder = TASKS[name], out / "data" / name
    train, left_out = read(data / task.train)
    if isinstance(task.valid, int):
        train, valid = hold_out(train, task.valid)
    else:
        valid, more = read(data / task.valid)
        left_out += more
    test, more = read(data / task.test)
    left_out += more
    counts = []
    for split, kept in (("train", train), ("valid", valid), ("test", test[:rows])):
        write_rows(folder / f"{split}.jsonl", kept)
        counts.append(f"{split} {len(kept):,}")
    said = f"{name}: {', '.join(counts)}"
    return said + (f" ({left_out:,} rows without a letter in source or target left out)" if left_out else "")


def read(path: Path) -> tuple[Rows, int]:
    """The rows of a file, and how many were left out: DailyDialog has the turns' labels among its replies."""
    rows = [row_of(place, line) for place, line in numbered_lines(path) if line.strip()]
    kept = [row for row in rows if has_letter(row["src"]) and has_letter(row["trg"])]
    return kept, len(rows) - len(kept)


def row_of(place: str, line: bytes) -> dict[str, Any]:
    """The row of a line. Raises `InputError` where it is none."""
    try:
        row: dict[str, Any] = json.loads(line)
        if isinstance(row["src"], str) and isinstance(row["trg"], str):
            return row
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{place} is no JSON object with the texts src and trg; every line has to be one.")


def has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))


def hold_out(rows: Rows, count: int) -> tuple[Rows, Rows]:
    """The rows but about the last `count`, and these; no source is on both sides."""
    border = max(0, len(rows) - count)
    while 0 < border < len(rows) and rows[border]["src"] == rows[border - 1]["src"]:
        border += 1
    held = {row["src"] for row in rows[border:]}
    return [row for row in rows[:border] if row["src"] not in held], rows[border:]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a file, unless it holds just that: its hash is part of what a run resumes with."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


# one run


@dataclass(frozen=True)
class Run:
    """A system on a task."""

    task: str
    system: str
    out: Path
    minutes: float
    rows: int

    @property
    def folder(self) -> Path:
        return self.out / "runs" / self.task / self.system

    @property
    def data(self) -> Path:
        return self.out / "data" / self.task

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.jsonl"

    @property
    def scores(self) -> Path:
        return self.folder / "scores.json"

    def next_command(self) -> list[str] | None:
        """What is to be done next: train, generate, evaluate; None when all is done."""
        if not (self.folder / "training.json").is_file():
            return self._train()
        if not self.predictions.is_file() or asked_before(self.folder).get("rows") != self.rows:
            return self._generate()
        return None if self.scores.is_file() else self._evaluate()

    def begin(self) -> None:
        """Remember the budget, before anything is made with it."""
        note_asked(self.folder, {"minutes": self.minutes})

    def done(self, verb: str) -> None:
        """Drop what came of an earlier model or of earlier answers."""
        if verb == "train":
            self.predictions.unlink(missing_ok=True)
        if verb == "generate":
            note_asked(self.folder, {"rows": self.rows})
            self.scores.unlink(missing_ok=True)

    def check_minutes(self) -> None:
        """Raise `InputError` where an earlier call trained for another time."""
        check_asked(self.folder, {"minutes": self.minutes})

    def _train(self) -> list[str]:
        task = TASKS[self.task]
        text = recipe(task.recipe).text
        longest = text.max_target if self.system == "diffuseq" else max(text.max_source, text.max_target)
        command = [
            *("train", SYSTEMS[self.system], "--data", str(self.data), "--out", str(self.folder)),
            *("--training.minutes", f"{self.minutes:g}"),
            *("--text.vocab-size", str(VOCABULARY)),
            *("--text.max-source", str(text.max_source), "--text.max-target", str(text.max_target)),
            *("--system.max-length", str(longest)),
            *("--training.evaluate-rows", "0", "--training.evaluate-every", "1000000"),
            *("--training.save-every", "500"),
            "--resume",
            "--text.lowercase" if text.lowercase else "--text.no-lowercase",
            "--training.both-directions" if task.both_directions else "--training.no-both-directions",
        ]
        if self.system == "transformer":
            command += ["--generation.max-length", str(text.max_target)]
        else:
            command += changed_generation(SYSTEMS[self.system], task.recipe)
        return command

    def _generate(self) -> list[str]:
        test = str(self.data / "test.jsonl")
        return ["generate", str(self.folder), "--input", test, "--output", str(self.predictions)]

    def _evaluate(self) -> list[str]:
        return ["evaluate", str(self.predictions), "--task", self.task, "--json", str(self.scores)]


def changed_generation(small: str, full: str) -> list[str]:
    """The options that let a small recipe generate as the full-size one of its task does."""
    has, wanted = (asdict(recipe(name).generation) for name in (small, full))
    options = []
    for name, value in wanted.items():
        flag = name.replace("_", "-")
        if value == has[name]:
            continue
        if isinstance(value, bool):
            options.append(f"--generation.{flag}" if value else f"--generation.no-{flag}")
        else:
            options += [f"--generation.{flag}", str(value)]
    return options


def do(run: Run) -> str:
    """Everything that a run still needs, a process a verb. Gives a line on the outcome.

    Raises `InputError` with the last line of the log where a verb fails.
    """
    began, name = time.monotonic(), f"{run.task}/{run.system}"
    run.folder.mkdir(parents=True, exist_ok=True)
    run.begin()
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    while (command := run.next_command()) is not None:
        print("diffuseq " + " ".join(command), flush=True)
        with (run.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"$ diffuseq {' '.join(command)}\n")
            log.flush()
            status = call(
                [sys.executable, "-m", "diffuseq", *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | threads,
            )
        if status != 0:
            last = (run.folder / "log.txt").read_text(encoding="utf-8").strip().splitlines()[-1]
            raise InputError(f"{name}: `{command[0]}` ended with {status}: {last}")
        run.done(command[0])
    return f"{name}: done in {(time.monotonic() - began) / 60:.1f} min"


def do_all(runs: Sequence[Run]) -> list[Run]:
    """All runs, `PROCESSES` at a time; gives those that ended well, and tells of the others."""
    good = []
    with ended_together(), ThreadPoolExecutor(PROCESSES) as pool:
        for run, outcome in [(run, pool.submit(do, run)) for run in runs]:
            try:
                print(outcome.result(), flush=True)
                good.append(run)
            except InputError as error:
                print(f"failed: {error}", file=sys.stderr, flush=True)
    return good


# the outcome


def results(runs: Sequence[Run], minutes: float) -> str:
    """One markdown table of all tasks and systems, copying the source in a row of its own."""
    header = (
        "task",
        "system",
        "BLEU, one sample",
        "BLEU",
        "of the task",
        "R-L",
        "dist-1",
        "div-4",
        "s a source",
    )
    lines = [
        f"Each system was trained for {minutes:g} minutes on one CPU thread (parameters and pairs seen in"
        " brackets). BLEU is the mean sentence-BLEU of the published script; all but the first are of the"
        " chosen answer, div-4 of the first three candidates; only ours draws several here.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for task in dict.fromkeys(run.task for run in runs):
        mine = [(run, json.loads(run.scores.read_text(encoding="utf-8"))) for run in runs if run.task == task]
        lines += [_line(task, f"{run.system} ({_size(run)})", scores, "chosen") for run, scores in mine]
        lines.append(_line(task, "*copying the source*", mine[0][1], "copy"))
    return "\n".join(lines) + "\n"


def _line(task: str, name: str, scores: dict[str, Any], row: str) -> str:
    rows = scores["rows"]

    def number(where: str, metric: str) -> str:
        value = rows.get(where, {}).get("scores", {}).get(metric)
        if value is None:
            return "–"
        return f"{value['value']:.{METRICS[metric].decimals}f}"

    chosen = row == "chosen"
    seconds = scores["cost"].get("seconds_per_source") if chosen else None
    cells = [
        f"{task} ({scores['sources']:,})",
        name,
        number("single", "bleu") if chosen else "–",
        number(row, "bleu"),
        _own_metric(task, row, number),
        number(row, "rougeL"),
        number(row, "dist1"),
        number("candidates", "div4") if chosen and scores["candidates"] > 1 else "–",
        "–" if seconds is None else f"{seconds:.2g}",
    ]
    return "| " + " | ".join(cells) + " |"


OWN_METRIC = {
    "paraphrase": "ibleu",
    "simplification": "sari",
    "dialogue": "dist2",
    "question-generation": "bleu_source",
    "translation": "sacrebleu",
}
"""What a task is looked at for, beside BLEU."""


def _own_metric(task: str, row: str, number: Callable[[str, str], str]) -> str:
    metric = OWN_METRIC[find_task(task).name]
    return f"{METRICS[metric].title} {number(row, metric)}"


def _size(run: Run) -> str:
    training = json.loads((run.folder / "training.json").read_text(encoding="utf-8"))
    return f"{training['parameters'] / 1e6:.1f} M, {training['pairs_seen'] / 1e3:,.0f}k pairs"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and do everything; 1 if a run failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the files of TASKS")
    parser.add_argument("--minutes", type=positive, default=10, help="training of each system on each task")
    parser.add_argument("--rows", type=count, default=200, help="test rows, the first so many")
    parser.add_argument("--out", type=Path, default=Path("runs/tasks"))
    parser.add_argument("--tasks", default=",".join(TASKS), help="with commas between")
    options = parser.parse_args(argv)
    names = chosen(options.tasks, TASKS, "task")
    wanted = [
        Run(name, system, options.out, options.minutes, options.rows) for name in names for system in SYSTEMS
    ]
    for run in wanted:
        run.check_minutes()
    source = {"data": str(options.data.resolve())}
    check_asked(options.out, source)
    for name in names:
        print(prepare(name, options.data, options.out, options.rows), flush=True)
    note_asked(options.out, source)
    good = do_all(wanted)
    if not good:
        return 1
    pairs = [f"{run.task}:{run.system}={run.folder}" for run in good]
    report = options.out / "report"
    subprocess.run([sys.executable, "-m", "diffuseq", "compare", *pairs, "--out", str(report)], check=True)
    table = results(good, options.minutes)
    write_text(options.out / "results.md", table)
    print(f"\n{table}\nWritten: {options.out / 'results.md'} and {report}/report.html, report.md")
    return 0 if len(good) == len(wanted) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"tasks: {error}")
