"""Weak and strong scaling of training over processes of this machine (gloo on CPUs, NCCL on GPUs).

    python benchmarks/scaling.py [--processes 1,2,4] [--pairs 16] [--repeats 2]

Trains the recipe `tiny` on a part of the built-in corpus, with a copy of the model on every process (DDP) or
with it spread over them (FSDP). Strong: --pairs of a step, however many processes. Weak: --pairs for each
process. Prints for each the best pairs a second between two lines of the log, their ratio to one process, and
processor seconds a thousand pairs, which other work on the machine changes less than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from children import ended_together, start
from counting import count

from diffuseq.data.grammar import write_corpus

WARM, STEPS, LOG_EVERY = 10, 70, 10


def train(processes: int, batch_size: int, fsdp: bool, data: Path, out: Path) -> tuple[float, float]:
    """Pairs a second at best, and processor seconds a pair, over the steps after the first `WARM`."""
    options = ["--data", str(data), "--out", str(out), "--training.steps", str(STEPS)]
    options += ["--training.batch-size", str(batch_size), "--training.log-every", str(LOG_EVERY)]
    options += [
        "--training.evaluate-rows",
        "0",
        "--training.evaluate-every",
        "1000",
        "--training.save-every",
        "1000",
    ]
    options += ["--training.precision", "fp32", *(["--training.fsdp"] if fsdp else [])]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [
        sys.executable,
        "-m",
        *(torchrun if processes > 1 else []),
        "diffuseq",
        "train",
        "tiny",
        *options,
    ]
    with tempfile.TemporaryFile("w+") as errors:
        started = start(command, stderr=errors, env={**os.environ, "OMP_NUM_THREADS": "1"})
        everything = {WARM: 0.0, STEPS: 0.0}
        metrics, group = out / "metrics.jsonl", psutil.Process(started.pid)
        while started.poll() is None:
            step = _last_step(metrics)
            if WARM <= step < STEPS and not everything[WARM]:
                everything[WARM], first = _processor_seconds(group), step
            if step:
                everything[STEPS], last = max(everything[STEPS], _processor_seconds(group)), step
            time.sleep(0.05)
        if started.returncode:
            errors.seek(0)
            sys.exit(errors.read()[-3000:])
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    best = max(row["pairs_per_second"] for row in rows if "pairs_per_second" in row and row["step"] > WARM)
    return best, (everything[STEPS] - everything[WARM]) / ((last - first) * batch_size)


def _last_step(metrics: Path) -> int:
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def _processor_seconds(group: psutil.Process) -> float:
    total = 0.0
    for process in (group, *group.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:  # it ends
            return 0.0
    return total


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--processes", type=_counts, default="1,2,4", help="numbers with commas between, 1 first"
    )
    parser.add_argument("--pairs", type=count, default=16)
    parser.add_argument("--repeats", type=count, default=2, help="the best of so many runs counts")
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    """The argparse type of --processes: what is measured is held against one process."""
    counts = [count(part) for part in text.split(",")]
    if counts[0] != 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not begin with 1, which the others are held against."
        )
    return counts


def main() -> None:
    options = _options()
    print(
        f"{'':<8} {'':<6} {'processes':>9} {'pairs a step':>13} {'pairs/s':>9} {'ratio':>6} {'proc. s/1000':>13}"
    )
    with tempfile.TemporaryDirectory() as name, ended_together():
        data = write_corpus(Path(name) / "data", num_train=3000, num_valid=20, num_test=20)
        alone: tuple[float, float] | None = None
        number = 0
        for kind in ("strong", "weak"):
            for fsdp in (False, True):
                for processes in options.processes:
                    size = options.pairs * (processes if kind == "weak" else 1)
                    if processes == 1 and alone is not None:
                        continue
                    runs = []
                    for _ in range(options.repeats):
                        number += 1
                        runs.append(train(processes, size, fsdp, data, Path(name) / f"{number}"))
                    speed, cost = max(run[0] for run in runs), min(run[1] for run in runs)
                    alone = alone or (speed, cost)
                    how = "–" if processes == 1 else "FSDP" if fsdp else "DDP"
                    print(
                        f"{kind if processes > 1 else 'alone':<8} {how:<6} {processes:>9} {size:>13} {speed:>9.0f} "
                        f"{speed / alone[0]:>6.2f} {1000 * cost:>13.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
