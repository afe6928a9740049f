"""`diffuseq evaluate`: score predictions and show every metric with what it is measured against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffuseq.cli.consoles import ReportConsole
from diffuseq.errors import InputError
from diffuseq.evaluation.catalogue import METRICS, Metric
from diffuseq.evaluation.predictions import FILE_NAME, Predictions, is_published, read_predictions
from diffuseq.evaluation.score import CANDIDATES, Row, Scores, Value, score
from diffuseq.evaluation.tables import CLOSER
from diffuseq.files import check_file, check_outputs, write_text
from diffuseq.model_card import add_scores, check_card
from diffuseq.names import shown

if TYPE_CHECKING:
    from diffuseq.pipeline import DiffuSeqPipeline

EXAMPLES = """examples:
  diffuseq evaluate runs/qqp/predictions.jsonl --task qqp --json runs/qqp/scores.json --card runs/qqp
  diffuseq evaluate outputs/seed1.jsonl outputs/seed2.jsonl outputs/seed3.jsonl
  diffuseq evaluate runs/qqp/predictions.jsonl --nll runs/qqp
  diffuseq evaluate runs/simple --task simplification --bertscore-model microsoft/deberta-xlarge-mnli"""

_CALLS, _ROUNDS = 25, 4
_LONGEST_NUMBER = len("±0.0123")


@dataclass(frozen=True)
class Evaluate:
    """Score predictions.jsonl files, or outputs in the published format (one file a seed)."""

    predictions: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """predictions.jsonl files or folders, each a system; published files given together are one system."""
    task: str | None = None
    """Task or data set (qqp, simplification, dialogue, …): adds its metrics, say SARI for simplification."""
    metrics: tuple[str, ...] | None = None
    """Only these metrics, by their names in scores.json; default: all that need no network, and those whose
    model is given."""
    case: Literal["task", "lower", "keep"] = "task"
    """Compare texts in lower case: as the task's published tables do (not for translation), always, never."""
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
    nll: str | None = None
    """Model folder of a diffusion system: also bound its −log p of the (first) references, per token."""
    nll_calls: int = _CALLS
    """Network calls for one draw of the bound."""
    nll_rounds: int = _ROUNDS
    """Independent draws of the bound; their spread is the stated error."""
    device: str = "cpu"
    """Where the networks of BERTScore, perplexity, MAUVE and the bound run."""
    json: Path | None = None
    """Write the scores to this file (a list, if there are several systems)."""
    card: Path | None = None
    """Model folder of the system: write the scores into its model card (README.md)."""


def main(argv: list[str]) -> int:
    """Parse the options and evaluate."""
    arguments = tyro.cli(
        Evaluate, args=argv, prog="diffuseq evaluate", description=f"{Evaluate.__doc__}\n\n{EXAMPLES}"
    )
    return run(arguments)


def run(arguments: Evaluate) -> int:
    """Score every system that was named, print a table each, and write the json file at the end."""
    if not arguments.predictions:
        raise InputError("No predictions are given; name a predictions.jsonl, a folder, or published files.")
    if arguments.nll is None and (arguments.nll_calls, arguments.nll_rounds) != (_CALLS, _ROUNDS):
        raise InputError("--nll-calls and --nll-rounds do nothing without --nll; name a model by it.")
    console = ReportConsole(highlight=False)
    results = []
    systems = _systems(arguments.predictions)
    if arguments.card is not None and len(systems) > 1:
        raise InputError(f"--card is for one system, and {len(systems)} are given; evaluate each by itself.")
    if arguments.json is not None:
        check_file(arguments.json)
    if arguments.card is not None:
        check_card(arguments.card)
    read = [read_predictions(*group) for group in systems]
    check_outputs({"--json": arguments.json}, (file for predictions in read for file in predictions.files))
    bounded = None if arguments.nll is None else _open_bounded(arguments)
    for predictions in read:
        scores = score(
            predictions,
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
        show(scores, console)
        content = scores.to_dict()
        if bounded is not None:
            content["nll"] = _bound(arguments, bounded, predictions, console)
        results.append(content)
    if arguments.json is not None:
        text = json.dumps(results[0] if len(results) == 1 else results, ensure_ascii=False, indent=1)
        write_text(arguments.json, text + "\n")
        console.print(f"Written: {shown(arguments.json)}", soft_wrap=True, markup=False)
    if arguments.card is not None:
        console.print(
            f"Written: {shown(add_scores(arguments.card, results[0]))}", soft_wrap=True, markup=False
        )
    return 0


def _open_bounded(arguments: Evaluate) -> DiffuSeqPipeline:
    """The model of --nll. Raises `InputError` before anything is scored for whatever gives no bound."""
    from diffuseq.evaluation.likelihood import check_bound
    from diffuseq.pipeline import DiffuSeqPipeline

    pipeline = DiffuSeqPipeline.from_pretrained(arguments.nll or "", arguments.device, precision="fp32")
    check_bound(pipeline.system, calls=arguments.nll_calls, rounds=arguments.nll_rounds)
    return pipeline


def _bound(
    arguments: Evaluate, pipeline: DiffuSeqPipeline, predictions: Predictions, console: Console
) -> dict[str, Any]:
    """Print the variational bound of the named model on the references, and give it as plain values."""
    from diffuseq.evaluation.likelihood import negative_log_likelihood

    targets = [row.references[0] for row in predictions.rows]
    bound = negative_log_likelihood(
        pipeline,
        predictions.sources,
        targets,
        calls=arguments.nll_calls,
        rounds=arguments.nll_rounds,
        seed=arguments.seed,
    )
    console.print(
        f"Bound on −log p of the references: [bold]{bound.total:.3f}[/bold] ± {bound.standard_error:.3f}"
        f" nats a token (prior {bound.prior:.3f}, diffusion {bound.diffusion:.3f},"
        f" rounding {bound.rounding:.3f}, length {bound.length:.3f}; {bound.tokens:,} tokens,"
        f" {bound.rounds} rounds; ± is one standard error of the Monte Carlo)"
    )
    return {"model": arguments.nll, "total": bound.total, "unit": "nats per target token", **asdict(bound)}


def show(scores: Scores, console: Console) -> None:
    """Print one system's scores: metrics down, ways of answering across."""
    answers = [row for name, row in scores.rows.items() if name != CANDIDATES]
    counted = f"{scores.num_sources:,} sources, {scores.num_candidates} candidates each"
    title = escape(f"{scores.name}: {counted}")
    metrics = [METRICS[name] for name in scores.signatures if METRICS[name].group == "text"]
    for rows in _side_by_side(answers, metrics, console.width) if metrics else ():
        console.print(_table(title, rows, metrics, console.width))
        title = escape(f"{scores.name}, more columns")
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


def _side_by_side(rows: Sequence[Row], metrics: Sequence[Metric], width: int) -> Iterator[Sequence[Row]]:
    """The rows in groups whose numbers fit into `width` characters beside one another, unbroken."""
    room = width - 4 - max(len(_name(metric)) for metric in metrics)
    size = max(1, room // (_LONGEST_NUMBER + 3))
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _table(title: str, rows: Sequence[Row], metrics: Sequence[Metric], width: int) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    names = max(len(_name(metric)) for metric in metrics)
    table.add_column("metric", overflow="fold", width=max(1, min(names, width - _LONGEST_NUMBER - 7)))
    for row in rows:
        table.add_column(escape(row.title), justify="right", overflow="fold")
    for metric in metrics:
        table.add_row(_name(metric), *(_cell(row.values.get(metric.name), metric.decimals) for row in rows))
    return table


def _name(metric: Metric) -> str:
    return f"{metric.title} {CLOSER[metric.better]}"


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
