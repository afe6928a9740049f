"""Build the wheel and the sdist, install each into an empty environment, and use what was installed.

    python benchmarks/package.py [--python python3.12] [--out dist]

Nothing of the checkout is in reach of the commands, which run in an empty folder with the versions of
constraints.txt. The wheel is installed with pip; of the sdist another wheel is built, which must hold the
same files. Needs `pip install build`. Exit status 1: something is missing or does not work.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = (
    "diffuseq/models/grammar/model.safetensors",
    "diffuseq/models/grammar/tokenizer.json",
    "diffuseq/web/static/index.html",
    "diffuseq/cli/train.py",
    "diffuseq/py.typed",
)
CHECKOUT = ("LICENSE", "Makefile", "constraints.txt", "tests/conftest.py", "docs/images/watch.svg")
SOURCES = "how do i learn to cook?\nwhat is the best way to learn to swim?\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="the Python to install for")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    call([sys.executable, "-m", "build", "--outdir", str(options.out), str(ROOT)])
    wheel, sdist = newest(options.out, "*.whl"), newest(options.out, "*.tar.gz")
    check_contents(wheel, sdist)
    with tempfile.TemporaryDirectory() as folder:
        binaries = install(wheel, options.python, Path(folder) / "venv")
        use(binaries, Path(folder) / "empty")
    print(f"{wheel.name} and {sdist.name} are whole, install, and work.")
    return 0


def newest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def check_contents(wheel: Path, sdist: Path) -> None:
    """The files that are data are there, the tests are not, and the sdist, which has them, builds the very same
    wheel."""
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = [name for name in NEEDED if name not in names]
    foreign = [name for name in names if not name.startswith(("diffuseq/", "diffuseq-"))]
    assert not missing, f"{wheel.name} lacks {missing}"
    assert not foreign, f"{wheel.name} holds {foreign[:5]}"
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        lacking = [name for name in CHECKOUT if not (unpacked / name).is_file()]
        assert not lacking, f"{sdist.name} lacks {lacking}"
        call([sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(unpacked)])
        again = set(zipfile.ZipFile(newest(Path(folder), "*.whl")).namelist())
    assert again == names, f"{sdist.name} builds another wheel: {sorted(again ^ names)[:5]}"


def install(wheel: Path, python: str, place: Path) -> Path:
    """The folder of commands of a new environment with the wheel and nothing else."""
    call([python, "-m", "venv", str(place)])
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    call([*pip, "--constraint", str(ROOT / "constraints.txt"), str(wheel)])
    return place / "bin"


def use(binaries: Path, folder: Path) -> None:
    """The smoke test: help, answers of the shipped model, a training of two steps, answers of that."""
    folder.mkdir()
    diffuseq = str(binaries / "diffuseq")
    helped = call([diffuseq, "--help"], folder)
    assert "generate" in helped, helped
    first = call([diffuseq, "generate"], folder, SOURCES)
    assert len(first.splitlines()) == 2 and all(line.strip() for line in first.splitlines()), first
    assert call([diffuseq, "generate"], folder, SOURCES) == first, "the same call gave other answers"
    steps = ["--training.steps", "2", "--training.evaluate-rows", "2"]
    call([diffuseq, "train", "tiny", "--out", "trained", *steps], folder)
    assert (
        len(call([diffuseq, "generate", "trained", "--candidates", "1"], folder, SOURCES).splitlines()) == 2
    )
    where = call([str(binaries / "python"), "-c", "import diffuseq; print(diffuseq.__file__)"], folder)
    assert where.startswith(str(binaries.parent)), where


def call(command: Sequence[str], folder: Path | None = None, given: str | None = None) -> str:
    """What a command prints. Raises `AssertionError` with what it said when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, input=given, text=True, capture_output=True, env=environment)
    assert done.returncode == 0, f"{' '.join(command)} left with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AssertionError as problem:
        sys.exit(str(problem))
