"""`diffuseq analyse`: the paper's three analyses of any trained models, as figures with their data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape

from diffuseq.cli.consoles import ReportConsole
from diffuseq.data.pairs import BadRows
from diffuseq.files import check_folder
from diffuseq.names import shown

EXAMPLES = """examples:
  diffuseq analyse runs/ours --data data/qqp
  diffuseq analyse ours=runs/a transformer=runs/b levt=runs/c --data data/qqp/test.jsonl --rows 200
  diffuseq analyse runs/ours runs/gru --data data/qqp --only speed --calls 1 2 5 10 20 50"""


@dataclass(frozen=True)
class Analyse:
    """Quality against candidates and diversity, texts step by step, and quality against speed."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Models: PATH or NAME=PATH; model folders or hub names, of any kind of system."""
    data: Path
    """A jsonl file, or a folder with test.jsonl (else valid.jsonl); its rows need references."""
    rows: int | None = 100
    """The first so many rows are answered; none for all."""
    out: Path = Path("analyses")
    """Folder for the figures (svg and png), their data (csv) and analyses.md."""
    only: str = ""
    """Only these, with commas between: diversity, steps, speed."""
    candidates: int = 20
    """diversity: most candidates a source."""
    temperatures: tuple[float, ...] = (0.4, 0.7, 1.0)
    """diversity: temperatures of the candidates, for systems that have one."""
    calls: tuple[int, ...] = (1, 2, 5, 10, 20)
    """speed: numbers of network calls of the diffusion systems."""
    skip_bad_rows: bool = False
    """Count rows that cannot be read and go on, instead of stopping at the first."""
    seed: int = 0
    """Seed of every generation."""
    device: str | None = None
    """cpu, cuda, cuda:1, …; a GPU where there is one."""


def main(argv: list[str]) -> int:
    """Parse the options and analyse."""
    arguments = tyro.cli(
        Analyse, args=argv, prog="diffuseq analyse", description=f"{Analyse.__doc__}\n\n{EXAMPLES}"
    )
    return run(arguments)


def run(arguments: Analyse) -> int:
    """Check everything that can be checked, analyse, write, and say where."""
    from diffuseq.cli.progress import counting
    from diffuseq.evaluation.analyses import Limits, analyse, check, open_subjects, read_test_set, write

    console = ReportConsole(highlight=False)
    limits = Limits(arguments.candidates, arguments.temperatures, arguments.calls, arguments.seed)
    only = check([name.strip() for name in arguments.only.split(",") if name.strip()], limits)
    check_folder(arguments.out)
    skipped = BadRows()
    test = read_test_set(arguments.data, arguments.rows, arguments.skip_bad_rows, skipped)
    for line in skipped.lines():
        console.print(f"[yellow]Note:[/yellow] {escape(line)}")
    subjects = open_subjects(arguments.models, arguments.device)
    done = []
    for analysis in analyse(subjects, test, only, limits, counting):
        done.append(analysis)
        console.print(f"[bold]{analysis.title}[/bold]")
        for note in analysis.notes:
            console.print(f"  [yellow]Note:[/yellow] {escape(note)}")
    names = ", ".join(subject.name for subject in subjects)
    heading = f"Models: {names}. Rows: the first {len(test.sources):,} of {test.name}. Seed: {limits.seed}."
    paths = write(done, arguments.out, heading)
    console.print(
        f"Written: {shown(arguments.out / 'analyses.md')}, {len(paths) - 1} figures and csv files.",
        soft_wrap=True,
        markup=False,
    )
    return 0
