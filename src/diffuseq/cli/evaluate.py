"""`diffuseq evaluate`: score predictions and show every metric with what it is measured against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffuseq.evaluation.catalogue import METRICS
from diffuseq.evaluation.predictions import FILE_NAME, is_published, read_predictions
from diffuseq.evaluation.score import CANDIDATES, Scores, Value, score
from diffuseq.evaluation.tables import CLOSER
from diffuseq.files import write_text

EXAMPLES = """examples:
  diffuseq evaluate runs/qqp/predictions.jsonl --task qqp --json runs/qqp/scores.json
  diffuseq evaluate outputs/seed1.jsonl outputs/seed2.jsonl outputs/seed3.jsonl
  diffuseq evaluate runs/simple --task simplification --bertscore-model microsoft/deberta-xlarge-mnli"""


@dataclass(frozen=True)
class Evaluate:
    """Score predictions.jsonl files, or outputs in the published format (one file a seed)."""

    predictions: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """predictions.jsonl files or folders, each a system; published files given together are one system."""
    task: str | None = None
    """Task or data set (qqp, simplification, dialogue, …): adds its metrics, say SARI for simplification."""
    metrics: tuple[str, ...] | None = None
    """Only these metrics, by name; default: all that need no network, and those whose model is given."""
    bertscore_model: str | None = None
    """Encoder for BERTScore: a hub name (microsoft/deberta-xlarge-mnli is the published one) or a folder."""
    bertscore_layer: int | None = None
    """Layer of the encoder; default: the tuned one of a known model, else the last."""
    language_model: str | None = None
    """Causal language model for perplexity and MAUVE: a hub name or a folder."""
    bootstrap: int = 1000
    """Resampled test sets for the 95 % intervals; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the bootstrap and of MAUVE's clusters."""
    device: str = "cpu"
    """Where the networks of BERTScore, perplexity and MAUVE run."""
    json: Path | None = None
    """Write the scores to this file (a list, if there are several systems)."""


def main(argv: list[str]) -> int:
    """Parse the options and evaluate."""
    arguments = tyro.cli(
        Evaluate, args=argv, prog="diffuseq evaluate", description=f"{Evaluate.__doc__}\n\n{EXAMPLES}"
    )
    return run(arguments)


def run(arguments: Evaluate) -> int:
    """Score every system that was named, print a table each, and write the json file at the end."""
    console = Console(highlight=False)
    results = []
    for group in _systems(arguments.predictions):
        scores = score(
            read_predictions(*group),
            task=arguments.task,
            metrics=arguments.metrics,
            bertscore_model=arguments.bertscore_model,
            bertscore_layer=arguments.bertscore_layer,
            language_model=arguments.language_model,
            bootstrap=arguments.bootstrap,
            seed=arguments.seed,
            device=arguments.device,
        )
        show(scores, console)
        results.append(scores)
    if arguments.json is not None:
        content = [scores.to_dict() for scores in results]
        text = json.dumps(content[0] if len(content) == 1 else content, ensure_ascii=False, indent=1)
        write_text(arguments.json, text + "\n")
        console.print(f"Written: {arguments.json}")
    return 0


def show(scores: Scores, console: Console) -> None:
    """Print one system's scores: metrics down, ways of answering across."""
    answers = {name: row for name, row in scores.rows.items() if name != CANDIDATES}
    counted = f"{scores.num_sources:,} sources, {scores.num_candidates} candidates each"
    table = Table(title=escape(f"{scores.name}: {counted}"), title_justify="left", title_style="bold")
    table.add_column("metric", no_wrap=True)
    for row in answers.values():
        table.add_column(escape(row.title), justify="right", overflow="fold")
    for name in scores.signatures:
        metric = METRICS[name]
        if metric.group == "text":
            cells = [_cell(row.values.get(name), metric.decimals) for row in answers.values()]
            table.add_row(f"{metric.title} {CLOSER[metric.better]}", *cells)
    if table.row_count:
        console.print(table)
    parts = [
        f"{METRICS[name].title} {CLOSER[METRICS[name].better]} [bold]{value.value:.4f}[/bold]"
        for name, value in scores.rows[CANDIDATES].values.items()
    ]
    if parts:
        console.print(f"Candidates: {', '.join(parts)}")
    known = {name.replace("_", " "): value for name, value in scores.cost.items() if value is not None}
    if known:
        console.print("Cost: " + ", ".join(f"{name} {value:.3g}" for name, value in known.items()))
    for warning in scores.warnings:
        console.print(f"[yellow]Note:[/yellow] {escape(warning)}")


def _cell(value: Value | None, decimals: int) -> str:
    if value is None:
        return "–"
    text = f"{value.value:.{decimals}f}"
    if value.low is None or value.high is None:
        return text
    return f"{text} [dim]±{(value.high - value.low) / 2:.{decimals}f}[/dim]"


def _systems(paths: tuple[Path, ...]) -> list[tuple[Path, ...]]:
    """Paths by system: files of the published format belong together, everything else stands for itself."""
    seeds = tuple(path for path in paths if path.is_file() and path.name != FILE_NAME and is_published(path))
    others = [(path,) for path in paths if path not in seeds]
    return ([seeds] if seeds else []) + others
