"""`diffuseq compare`: systems side by side on the terminal, and as a report with figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markup import escape

from diffuseq.cli.consoles import ReportConsole
from diffuseq.cli.tables import print_table
from diffuseq.evaluation import published_rows, tables
from diffuseq.evaluation.compare import compare, parse_runs
from diffuseq.evaluation.report import findings, remarks, write_report
from diffuseq.files import check_folder
from diffuseq.names import shown

EXAMPLES = """examples:
  diffuseq compare runs/ours runs/transformer --task qqp --out report
  diffuseq compare ours=runs/a/predictions.jsonl published=outputs/seeds/ --published qqp
  diffuseq compare qqp:ours=runs/q dialogue:ours=runs/d qqp:gru=runs/g dialogue:gru=runs/h --out report"""


@dataclass(frozen=True)
class Compare:
    """Compare systems on the same test sets: scores, significance, cost, figures, examples."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Runs: PATH, NAME=PATH or TASK:NAME=PATH; a path is a predictions.jsonl, a folder that has one, or a
    folder of published outputs."""
    task: str | None = None
    """Task or data set of the runs that name none (qqp, simplification, dialogue, …)."""
    published: str | None = None
    """Show the paper's printed rows (qqp, wiki-auto, quasar-t, ccd) in a block of their own."""
    out: Path | None = None
    """Folder for report.html, report.md, scores.json and the figures."""
    metrics: tuple[str, ...] | None = None
    """Only these metrics, by their names in scores.json, in this order; the first decides who leads."""
    case: Literal["task", "lower", "keep"] = "task"
    """Compare texts in lower case: as the task's published tables do (not for translation), always, never."""
    bertscore_model: str | None = None
    """Encoder for BERTScore: a hub name or a folder."""
    bertscore_layer: int | None = None
    """Layer of the encoder; default: the tuned one of a known model, else the last."""
    language_model: str | None = None
    """Causal language model for perplexity and MAUVE: a hub name or a folder."""
    bootstrap: int = 1000
    """Resampled test sets for intervals and p-values; 0 leaves both out."""
    seed: int = 0
    """Seed of the bootstrap."""
    device: str = "cpu"
    """Where the networks of BERTScore, perplexity and MAUVE run."""


def main(argv: list[str]) -> int:
    """Parse the options and compare."""
    arguments = tyro.cli(
        Compare, args=argv, prog="diffuseq compare", description=f"{Compare.__doc__}\n\n{EXAMPLES}"
    )
    return run(arguments)


def run(arguments: Compare) -> int:
    """Print the tables of every test set and write the report."""
    if arguments.out is not None:
        check_folder(arguments.out)
    console = ReportConsole(highlight=False)
    printed = None if arguments.published is None else published_rows.published_rows(arguments.published)
    comparison = compare(
        parse_runs(arguments.runs),
        task=arguments.task,
        metrics=arguments.metrics,
        bertscore_model=arguments.bertscore_model,
        bertscore_layer=arguments.bertscore_layer,
        language_model=arguments.language_model,
        bootstrap=arguments.bootstrap,
        seed=arguments.seed,
        device=arguments.device,
        case=arguments.case,
    )
    for block in comparison.blocks:
        print_table(console, tables.quality(block), block.title)
        print_table(console, tables.cost(block), "Cost")
        for sentence in findings(block) + remarks(block):
            console.print(f"• {escape(sentence)}")
    console.print(f"[dim]{tables.LEGEND}[/dim]")
    if printed is not None:
        print_table(console, tables.published(printed), f"As printed: {arguments.published}")
        console.print(f"[dim]{published_rows.CAPTION}[/dim]")
    if arguments.out is not None:
        write_report(comparison, arguments.out, arguments.published)
        console.print(
            f"Written: {shown(arguments.out / 'report.html')}, report.md, scores.json, plots/",
            soft_wrap=True,
            markup=False,
        )
    return 0
