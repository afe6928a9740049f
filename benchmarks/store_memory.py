"""How much memory and time a large corpus takes, from a table to a resumed training, by the commands themselves.

    python benchmarks/store_memory.py [--pairs 10_000_000] [--words 2 6] [--compare 200_000] [--folder DIR]

Writes a table of synthetic pairs, then runs, each as a process of its own,

    diffuseq prepare columns TABLE     the splits, and the check for leaks between them
    diffuseq train tiny …              tokenizer, token store, 200 steps; SIGTERM after the first 100
    diffuseq train tiny … --resume     the other 100, from the middle of the epoch

and prints the seconds and pairs a second of every stage, and the most resident memory that each command ever
had (2 GB are allowed; exit status 1 above). Then it tokenises the first `--compare` pairs with `datasets.map`
as well, with one and with two processes, for the ratio (needs `datasets`). What it wrote is deleted. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import children
import counting
import numpy as np

STEPS, STOP_AT = 200, 100
SENTENCES = 500_000
ALLOWED_MB = 2000
VOCABULARY = 8192
LIMITS: Any = {"max_source": 64, "max_target": 64, "vocab_size": VOCABULARY, "unknown_id": None}


def synthetic_pairs(pairs: int, shortest: int, longest: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Random pairs of 500,000 sentences, of some words out of 30,000 made-up ones with natural frequencies."""
    random = np.random.default_rng(seed)
    letters = np.array(list("eeeettaaooiinnsshhrrddlucmfwygpbvk"))
    words = ["".join(random.choice(letters, length)) for length in random.integers(2, 11, 30_000)]
    lengths = random.integers(shortest, longest + 1, min(2 * pairs, SENTENCES))
    text = (words[rank] for rank in (np.minimum(random.zipf(1.2, lengths.sum()), len(words)) - 1).tolist())
    sentences = [" ".join(islice(text, length)) for length in lengths.tolist()]
    for start in range(0, pairs, 10_000):
        chosen = random.integers(0, len(sentences), (min(10_000, pairs - start), 2))
        yield from ((sentences[one], sentences[other]) for one, other in chosen.tolist())


@dataclass
class Ran:
    """A command that ended: what it said after how many seconds and processor seconds, and what it took."""

    lines: list[tuple[float, float, str]]
    seconds: float
    processor_seconds: float
    megabytes: float
    read_megabytes: float

    def until(self, words: str, since: str = "") -> tuple[float, float]:
        """Seconds and processor seconds until the first line with these words, from the start or another line."""
        (end, end_processor), (start, start_processor) = self._moment(words), self._moment(since)
        return end - start, end_processor - start_processor

    def _moment(self, words: str) -> tuple[float, float]:
        if not words:
            return 0.0, 0.0
        return next((clock, processor) for clock, processor, line in self.lines if words in line)


def run(*arguments: str, stop_when: Callable[[], bool] | None = None) -> Ran:
    """`diffuseq ARGUMENTS`; SIGTERM as soon as `stop_when`. Exits when the command fails."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-m", "diffuseq", *arguments]
        process = children.start(command, stdout=output, stderr=subprocess.STDOUT)
        lines: list[tuple[float, float, str]] = []
        said, read, processor, stopped = 0, 0.0, 0.0, False
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            output.seek(0)
            found = output.read().splitlines()
            lines += [(time.perf_counter() - began, processor, line) for line in found[said:]]
            said = len(found)
            if ended:
                break
            read, processor = _read_megabytes(process.pid), _processor_seconds(process.pid)
            if stop_when is not None and not stopped and stop_when():
                process.send_signal(signal.SIGTERM)
                stopped = True
            time.sleep(0.2)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code != (128 + signal.SIGTERM if stopped else 0):
        sys.exit(
            f"diffuseq {' '.join(arguments)} left with {code}:\n" + "\n".join(line for *_, line in lines)
        )
    seconds = time.perf_counter() - began
    return Ran(lines, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, read)


def _read_megabytes(process: int) -> float:
    """What a process that is not waited for yet asked to read so far, without what it mapped."""
    content = Path(f"/proc/{process}/io").read_text()
    return int(content.split("rchar:")[1].split()[0]) / 1e6


def _processor_seconds(process: int) -> float:
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def report(stage: str, seconds: float, pairs: int, processor: float, megabytes: float | None = None) -> None:
    rate = f"{pairs / seconds:11,.0f} pairs/s {pairs / processor:9,.0f} a processor s" if pairs else ""
    peak = f"peak {megabytes:6,.0f} MB" if megabytes is not None else ""
    print(f"{stage:<36} {seconds:8.1f} s {processor:8.1f} processor s {rate:<44} {peak}".rstrip(), flush=True)


def write_table(path: Path, pairs: int, words: tuple[int, int]) -> None:
    start, processor = time.perf_counter(), time.process_time()
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"one": one, "other": other}) + "\n" for one, other in synthetic_pairs(pairs, *words)
        )
    size, processor = path.stat().st_size / 1e6, time.process_time() - processor
    report(f"write {size:,.0f} MB of jsonl", time.perf_counter() - start, pairs, processor)


def go_through(folder: Path, pairs: int, words: tuple[int, int]) -> list[Ran]:
    """Table, splits, training, resumed training; gives the three commands."""
    table, data, out = folder / "table.jsonl", folder / "data", folder / "run"
    write_table(table, pairs, words)
    columns = ("--source-column", "one", "--target-column", "other")
    prepared = run("prepare", "columns", str(table), *columns, "--out", str(data))
    table.unlink()
    report("diffuseq prepare", prepared.seconds, pairs, prepared.processor_seconds, prepared.megabytes)
    options = ["--data", str(data), "--out", str(out), "--text.vocab-size", str(VOCABULARY)]
    options += ["--training.steps", str(STEPS), "--training.save-every", str(STOP_AT)]
    options += ["--training.batch-size", "32", "--training.log-every", "10", "--training.evaluate-rows", "0"]
    first = run("train", "tiny", *options, stop_when=(out / "resume" / f"step-{STOP_AT}").is_dir)
    report("diffuseq train, stopped by SIGTERM", first.seconds, 0, first.processor_seconds, first.megabytes)
    for stage, since, until, count in (
        ("tokenizer, from all texts", "training a tokenizer", "tokenising train", pairs),
        (f"token store, {_tokens(out) / 1e6:,.0f} M tokens", "tokenising train", "tokenising valid", pairs),
        ("the rest until the first step", "tokenising valid", " parameters on ", 0),
    ):
        seconds, processor = first.until(until, since)
        report(f"  {stage}", seconds, count, processor)
    again = run("train", "tiny", *options, "--resume")
    report("diffuseq train --resume", again.seconds, 0, again.processor_seconds, again.megabytes)
    seconds, processor = again.until("from step")
    report("  until it goes on", seconds, 0, processor)
    size = (data / "train.jsonl").stat().st_size / 1e6
    print(
        f"  it read {again.read_megabytes:,.0f} MB, program and libraries included; the data: {size:,.0f} MB"
    )
    return [prepared, first, again]


def _tokens(out: Path) -> int:
    return int(json.loads((out / "cache" / "train" / "store.json").read_text())["report"]["tokens"])


def compare_with_datasets(path: Path, tokenizer_folder: Path, pairs: int, folder: Path) -> None:
    """Tokenise the first pairs with both: what is read is the same jsonl, what is written is on the disk."""
    from datasets import Dataset, disable_progress_bars

    from diffuseq.data.pairs import read_pairs
    from diffuseq.data.store import build_store
    from diffuseq.text.tokenizer import Tokenizer

    disable_progress_bars()
    tokenizer = Tokenizer.load(tokenizer_folder)
    few = folder / "few.jsonl"
    with open(path, encoding="utf-8") as lines, open(few, "w", encoding="utf-8") as file:
        file.writelines(islice(lines, pairs))

    def encode(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"source": tokenizer.encode(rows["src"]), "target": tokenizer.encode(rows["trg"])}

    def theirs(processes: int) -> None:
        data = Dataset.from_json(str(few), cache_dir=str(folder / f"cache-{processes}"))
        data.map(encode, batched=True, num_proc=processes if processes > 1 else None)

    def ours() -> None:
        build_store(read_pairs(few), tokenizer.encode, folder / "few", **LIMITS)

    results = {}
    for name, work in (
        ("datasets.map", lambda: theirs(1)),
        ("datasets.map, 2 processes", lambda: theirs(2)),
        ("build_store", ours),
    ):
        start, processor = time.perf_counter(), sum(os.times()[:4])
        work()
        results[name] = (time.perf_counter() - start, sum(os.times()[:4]) - processor)
    for name, (seconds, processor) in results.items():
        print(f"{name:<28} {pairs / seconds:9,.0f} pairs/s {pairs / processor:9,.0f} a processor second")
    best = min(results["datasets.map"][0], results["datasets.map, 2 processes"][0])
    print(
        f"build_store does {best / results['build_store'][0]:.2f} times the pairs of datasets.map at its best"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=counting.count, default=10_000_000)
    parser.add_argument(
        "--words", type=counting.count, nargs=2, default=(2, 6), help="of a side, shortest and longest"
    )
    parser.add_argument(
        "--compare", type=counting.whole(0), default=200_000, help="pairs for datasets.map; 0 for none"
    )
    parser.add_argument("--folder", type=Path, help="where to work; the system's temporary folder otherwise")
    options = parser.parse_args()
    if options.words[0] > options.words[1]:
        parser.error("--words has the longest first; give the shortest and then the longest.")
    if options.compare and find_spec("datasets") is None:
        parser.error("--compare needs the package datasets, which is not installed; install it, or give 0.")
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name, children.ended_together():
        folder = Path(name)
        commands = go_through(folder, options.pairs, tuple(options.words))
        if options.compare:
            data, tokenizer = folder / "data" / "train.jsonl", folder / "run" / "cache" / "tokenizer"
            compare_with_datasets(data, tokenizer, min(options.compare, options.pairs), folder)
    most = max(ran.megabytes for ran in commands)
    print(f"most resident memory: {most:,.0f} MB of {ALLOWED_MB:,} MB allowed")
    return int(most > ALLOWED_MB)


if __name__ == "__main__":
    sys.exit(main())
