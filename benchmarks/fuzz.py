"""Fuzz every reader and every command: no traceback, no hang, no unbounded memory, nothing executed.

    python benchmarks/fuzz.py --cases 100000                     all targets, by their shares
    python benchmarks/fuzz.py --targets traces --case 17 --seed 3    one case again, with its traceback
    python benchmarks/fuzz.py --targets traces --engine atheris --cases 20000    guided by coverage

A case is a number: target, seed and number give the same input on every machine. Cases run in a process of
limited memory, which is ended and replaced when one hangs in native code. Exit status 1: something was found.
The targets stand in tests/fuzz, where hypothesis runs a few cases of each with every test run.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import pkgutil
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from counting import count, whole

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fuzz"))
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", COLUMNS="100")
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

CASE_SECONDS = 20.0
"""A case may take so long; a process that is silent for twice as long hangs."""
MEMORY = 2 * 2**30
"""Bytes that a process may take beyond what it has when it begins."""


@dataclass
class Tally:
    """What became of the cases of a target; findings: by signature, how many, the first case, its detail."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, number: int, outcome: str, signature: str, detail: str) -> None:
        self.outcomes[outcome] += 1
        if outcome == "finding":
            entry = self.findings.setdefault(signature, {"count": 0, "case": number, "detail": detail})
            entry["count"] += 1


def main() -> int:
    options = _options()
    one_target = options.targets != "all" and "," not in options.targets
    if not one_target and (options.engine == "atheris" or options.case is not None):
        sys.exit("--case and --engine atheris are of one target; name it with --targets.")
    if options.engine == "atheris":
        if find_spec("atheris") is None:
            sys.exit("atheris is not installed; `pip install atheris`, or take --engine random.")
        return fuzz_by_coverage(options)
    from commands import COMMANDS
    from targets import TARGETS

    targets = {**TARGETS, **COMMANDS}
    names = list(targets) if options.targets == "all" else options.targets.split(",")
    if unknown := set(names) - set(targets):
        sys.exit(f"There is no target {min(unknown)}; choose of: {', '.join(targets)}.")
    if options.case is not None:
        return replay(names[0], options.seed, options.case)
    shares = sum(targets[name].share for name in names)
    tallies: dict[str, Tally] = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name in names:
            cases = math.ceil(options.cases * targets[name].share / shares)
            tallies[name] = Tally()
            fuzz(name, cases, options.seed, tallies[name])
            _tell(name, tallies[name])
    except KeyboardInterrupt:
        print("interrupted; what was found until then:", flush=True)
        _end(tallies, options)
        return 130
    return _end(tallies, options)


def fuzz(name: str, cases: int, seed: int, tally: Tally) -> None:
    """Run cases 0 to `cases` of a target in a guarded process; one that dies or hangs is a finding."""
    context = multiprocessing.get_context("spawn")
    began, number = time.monotonic(), 0
    while number < cases:
        with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
            ours, theirs = context.Pipe()
            arguments = (theirs, name, seed, number, cases, folder)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            try:
                number = _listen(ours, tally, number, cases)
            finally:
                tally.seconds = time.monotonic() - began
                if number < cases:  # silent, gone, or no longer wanted
                    process.kill()
                process.join()
        if number < cases:  # this very case
            tally.add(number, "finding", f"process ended or hung ({process.exitcode})", "")
            number += 1


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _listen(connection: Connection, tally: Tally, number: int, cases: int) -> int:
    """Take results until the end or until there is none in time; gives the number of the next case."""
    patience = 120.0  # the first result comes after the imports
    while number < cases:
        try:
            if not connection.poll(patience):
                return number
            tally.add(number, *connection.recv())
        except (EOFError, OSError):
            return number
        number, patience = number + 1, 2 * CASE_SECONDS
    return number


def _work(connection: Connection, name: str, seed: int, first: int, cases: int, folder: str) -> None:
    """In a process of its own: run the cases, send what became of each."""
    from commands import COMMANDS
    from guarded import limit_memory, run_case
    from targets import TARGETS

    target = {**TARGETS, **COMMANDS}[name]
    os.environ.update(HF_HOME=f"{folder}/hub", MPLCONFIGDIR=f"{folder}/matplotlib")
    warm_up(target.case, Path(folder))
    limit_memory(MEMORY)
    for number in range(first, cases):
        draw = random.Random(f"{name} {seed} {number}")
        result = run_case(target.case, draw, Path(folder) / "case", CASE_SECONDS, target.names_outputs)
        connection.send((result.outcome, result.signature, result.detail))


def warm_up(case: Any, folder: Path) -> None:
    """Import what cases import, so that it is not counted as their time or memory."""
    from guarded import run_case

    for number in range(3):
        run_case(case, random.Random(number), folder / "warm", 120)


def replay(name: str, seed: int, number: int) -> int:
    """One case in this very process, so that a debugger can look at it."""
    from commands import COMMANDS
    from guarded import run_case
    from targets import TARGETS

    target = {**TARGETS, **COMMANDS}[name]
    with tempfile.TemporaryDirectory() as folder:
        draw = random.Random(f"{name} {seed} {number}")
        result = run_case(target.case, draw, Path(folder) / "case", 600, target.names_outputs)
    print(result.outcome, result.signature, result.detail, sep="\n")
    return result.outcome == "finding"


def fuzz_by_coverage(options: argparse.Namespace) -> int:
    """atheris: the bytes that it evolves are what the case is drawn from, with our code instrumented."""
    import atheris

    with atheris.instrument_imports(include=["diffuseq"]):
        import diffuseq

        for module in pkgutil.walk_packages(diffuseq.__path__, "diffuseq."):
            if not module.name.endswith("__main__"):  # it would run
                import_module(module.name)  # now, for cases import late
        from commands import COMMANDS
        from guarded import run_case
        from targets import TARGETS

    targets = {**TARGETS, **COMMANDS}
    name = options.targets
    tally, began = Tally(), time.monotonic()
    folder = Path(tempfile.mkdtemp(dir=_memory_folder()))

    def one(data: bytes) -> None:
        target = targets[name]
        draw = BytesRandom(data)
        result = run_case(target.case, draw, folder / "case", CASE_SECONDS, target.names_outputs)
        tally.add(sum(tally.outcomes.values()), result.outcome, result.signature, result.detail)
        if sum(tally.outcomes.values()) == options.cases:  # atheris ends the process itself
            tally.seconds = time.monotonic() - began
            _tell(name, tally)
            os._exit(_end({name: tally}, options))

    arguments = [sys.argv[0], "-max_len=4096", f"-runs={options.cases + 1}", f"-seed={options.seed + 1}"]
    atheris.Setup([*arguments, "-rss_limit_mb=8000", "-verbosity=0"], one)
    atheris.Fuzz()
    return 0


class BytesRandom(random.Random):
    """Draws that come from bytes, and are zeros after their end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self.data, self.at = data, 0

    def getrandbits(self, count: int) -> int:
        size = (count + 7) // 8
        piece = self.data[self.at : self.at + size].ljust(size, b"\0")
        self.at += size
        return int.from_bytes(piece, "little") & ((1 << count) - 1)

    def random(self) -> float:
        return self.getrandbits(16) / 65536


def _tell(name: str, tally: Tally) -> None:
    counts = "  ".join(f"{tally.outcomes[kind]:8,} {kind}" for kind in ("accepted", "refused", "finding"))
    total = sum(tally.outcomes.values())
    print(f"{name:24} {total:8,} cases  {counts}  {tally.seconds:7.1f} s", flush=True)
    for signature, entry in sorted(tally.findings.items(), key=lambda item: -item[1]["count"]):
        print(f"    {entry['count']:6,} × {signature}  (--case {entry['case']})", flush=True)


def _end(tallies: dict[str, Tally], options: argparse.Namespace) -> int:
    total = sum(sum(tally.outcomes.values()) for tally in tallies.values())
    found = sum(len(tally.findings) for tally in tallies.values())
    print(f"{total:,} cases, {found} kinds of findings, seed {options.seed}", flush=True)
    if options.json:
        content = {name: vars(tally) for name, tally in tallies.items()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(found > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default="all", help="names with commas between; one for atheris")
    parser.add_argument("--cases", type=count, default=100_000, help="over all targets, by their shares")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=whole(0), help="run only this case, in this process")
    parser.add_argument("--engine", choices=("random", "atheris"), default="random")
    parser.add_argument("--json", type=Path, help="write everything that was found to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
