"""A comparison written down: report.md, and report.html that needs nothing but itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path

from diffuseq.evaluation import published_rows, tables
from diffuseq.evaluation.catalogue import METRICS, TASKS
from diffuseq.evaluation.compare import SIGNIFICANT, Block, Comparison
from diffuseq.evaluation.markdown import plain
from diffuseq.evaluation.measure import COPY
from diffuseq.evaluation.plots import FIGURES, Figure, figures
from diffuseq.evaluation.report_style import STYLE
from diffuseq.evaluation.tables import Cell, Table
from diffuseq.files import write_text

_OURS = re.compile(rf"\d+-({'|'.join(map(re.escape, TASKS))})-({'|'.join(FIGURES)})\.(svg|png)")
"""The names of the figures of any report."""
_NO_PLOTS = "The figures are missing: `pip install diffuseq[plots]` brings matplotlib."


def write_report(comparison: Comparison, folder: Path, published: str | None = None) -> list[Path]:
    """Write report.html, report.md, scores.json and the figures (svg and png) into a folder.

    published: a data set whose printed rows stand in a block of their own. Each file is written in one piece.
    """
    drawn = [_figures(block, i + 1) for i, block in enumerate(comparison.blocks)]
    paths = [path for group in drawn for figure in group for path in figure.save(folder / "plots")]
    for path in (folder / "plots").glob("*"):
        if _OURS.fullmatch(path.name) and path not in paths:  # of an earlier report
            path.unlink()
    scores = [
        {"test_set": block.title, **entry.scores.to_dict(), "training": entry.training}
        for block in comparison.blocks
        for entry in block.entries
    ]
    texts = {
        "scores.json": json.dumps(scores, ensure_ascii=False, indent=1) + "\n",
        "report.md": markdown(comparison, drawn, published),
        "report.html": html(comparison, drawn, published),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
        paths.append(folder / name)
    return paths


def findings(block: Block) -> list[str]:
    """What the numbers say, in sentences: who leads, by how much more than chance, and against copying."""
    metric = METRICS[block.headline]
    copy = block.entries[0].scores.value(COPY, block.headline)
    values = [block.value(i, block.headline) for i in range(len(block.entries))]
    said = []
    if block.headline in block.best:
        said.append(_lead(block))
    if copy is None:
        return said
    verdicts: dict[str, list[str]] = {"above": [], "not distinguishable from": [], "below": []}
    for i, value in enumerate(values):
        chance = block.p_values[i][-1]
        own = block.entries[i].scores.value(COPY, block.headline)
        if value is None or chance is None or own is None:
            continue
        verdict = (
            "not distinguishable from" if chance >= SIGNIFICANT else "above" if value.value > own else "below"
        )
        verdicts[verdict].append(block.entries[i].name)
    said += [
        f"{verdict.capitalize()} copying the source ({copy:.{metric.decimals}f}, p {sign} .05):"
        f" {'; '.join(names)}."
        for (verdict, names), sign in zip(verdicts.items(), ("<", "≥", "<"), strict=True)
        if names
    ]
    return said


def _lead(block: Block) -> str:
    """Who leads in the headline metric, and how many others by more than chance, where that was tested."""
    metric, systems = METRICS[block.headline], range(len(block.entries))
    first = [i for i in systems if block.is_best(i, block.headline)]
    value = block.value(first[0], block.headline)
    assert value is not None, "a metric has a best value where it was measured"
    names = " and ".join(block.entries[i].name for i in first)
    said = f"{names} {'lead' if len(first) > 1 else 'leads'} in {metric.title} ({value.value:.{metric.decimals}f})"
    others = len(systems) - len(first)
    if value.low is None or not others:
        return f"{said}."
    beaten = sum((i, block.headline) in block.worse for i in systems)
    return f"{said}, significantly ahead of {beaten} of {others} other systems."


def remarks(block: Block) -> list[str]:
    """What is not comparable, and every warning once, with the systems that it is about unless it is about all."""
    about: dict[str, list[str]] = {}
    for entry in block.entries:
        for warning in entry.scores.warnings:
            about.setdefault(warning, []).append(entry.name)
    said = [
        warning if len(names) == len(block.entries) else f"{' and '.join(names)}: {warning}"
        for warning, names in about.items()
    ]
    return [*block.warnings, *said]


def markdown(comparison: Comparison, drawn: Sequence[Sequence[Figure]], published: str | None = None) -> str:
    """The report as markdown; figures are linked from plots/."""
    lines = ["# Comparison", ""]
    for block, group in zip(comparison.blocks, drawn, strict=True):
        lines += [f"## {block.title}", "", _counted(block), ""]
        lines += [f"- {plain(sentence)}" for sentence in findings(block) + remarks(block)] + [""]
        lines += [_markdown_table(tables.quality(block)), "", tables.LEGEND, ""]
        lines += ["### Cost", "", _markdown_table(tables.cost(block)), ""]
        for figure in group:
            lines += [f"![{figure.title}](plots/{figure.name}.svg)", "", f"*{figure.caption}*", ""]
        if comparison.bootstrap and len(block.entries) > 1:
            lines += [f"### Could it be chance? ({METRICS[block.headline].title})", ""]
            lines += [_chances_caption(comparison), "", _markdown_table(tables.chances(block)), ""]
        lines += ["### Examples", ""]
        for source, reference, answers in block.examples:
            lines += [f"- **source** {plain(source)}", f"  - *reference* {plain(reference)}"]
            pairs = zip(block.entries, answers, strict=True)
            lines += [f"  - {plain(entry.name)}: {plain(answer) or '(empty)'}" for entry, answer in pairs]
        lines.append("")
    if published is not None:
        lines += [f"## As printed: {published}", "", published_rows.CAPTION, ""]
        lines += [_markdown_table(tables.published(published_rows.published_rows(published))), ""]
    lines += ["## What the numbers mean", ""]
    lines += [f"- **{title}** {text} `{signature}`" for title, text, signature in _definitions(comparison)]
    if not any(drawn):
        lines += ["", _NO_PLOTS]
    return "\n".join(lines) + "\n"


def html(comparison: Comparison, drawn: Sequence[Sequence[Figure]], published: str | None = None) -> str:
    """The report as one html file: styles and figures inside, no request to anywhere."""
    parts = []
    for block, group in zip(comparison.blocks, drawn, strict=True):
        said = "".join(f"<li>{escape(sentence)}</li>" for sentence in findings(block))
        parts.append(f"<section><h2>{escape(block.title)}</h2><p class=sub>{escape(_counted(block))}</p>")
        parts.append(f"<ul class=findings>{said}</ul>")
        parts += [f"<p class=note>{escape(remark)}</p>" for remark in remarks(block)]
        parts.append(_html_table(tables.quality(block)) + f"<p class=note>{escape(tables.LEGEND)}</p>")
        pictures = "".join(
            f"<figure>{figure.svg()}<figcaption>{escape(figure.caption)}</figcaption></figure>"
            for figure in group
        )
        parts.append(f"<div class=figures>{pictures}</div>")
        parts.append("<h3>Cost</h3>" + _html_table(tables.cost(block)))
        if comparison.bootstrap and len(block.entries) > 1:
            parts.append(f"<h3>Could it be chance? ({escape(METRICS[block.headline].title)})</h3>")
            parts.append(f"<p class=note>{escape(_chances_caption(comparison))}</p>")
            parts.append(_html_table(tables.chances(block)))
        parts.append("<h3>Examples</h3>" + "".join(_html_example(block, *row) for row in block.examples))
        parts.append("</section>")
    if published is not None:
        table = _html_table(tables.published(published_rows.published_rows(published)))
        parts.append(
            f"<section class=printed><h2>As printed: {escape(published)}</h2>"
            f"<p class=note>{escape(published_rows.CAPTION)}</p>{table}</section>"
        )
    meanings = "".join(
        f"<dt>{escape(title)}</dt><dd>{escape(text)}<br><code>{escape(signature)}</code></dd>"
        for title, text, signature in _definitions(comparison)
    )
    parts.append(
        "<details><summary>What the numbers mean: definitions and signatures</summary>"
        f"<dl>{meanings}</dl></details>"
    )
    if not any(drawn):
        parts.append(f"<p class=note>{escape(_NO_PLOTS)}</p>")
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Comparison</title><style>{STYLE}</style></head><body><main><h1>Comparison</h1>\n{body}\n"
        "</main></body></html>\n"
    )


def _figures(block: Block, number: int) -> list[Figure]:
    return figures(block, f"{number}-{block.task.name}") if find_spec("matplotlib") else []


def _counted(block: Block) -> str:
    scores = block.entries[0].scores
    fewest, most = scores.num_references
    number = str(most) if fewest == most else f"{fewest} to {most}"
    references = f"{number} reference{'s' if most > 1 else ''}"
    return f"{scores.num_sources:,} sources, {references} each; {len(block.entries)} systems"


def _chances_caption(comparison: Comparison) -> str:
    return (
        "How often a difference as large as the measured one arises by chance between the row and the column"
        f" (paired bootstrap, {comparison.bootstrap:,} resampled test sets, seed {comparison.seed},"
        " two-sided, not adjusted)."
    )


def _definitions(comparison: Comparison) -> list[tuple[str, str, str]]:
    """(title, definition with settings and source, signature) of every metric that was measured."""
    found = {}
    for block in comparison.blocks:
        for entry in block.entries:
            for name, signature in entry.scores.signatures.items():
                metric = METRICS[name]
                text = f"{metric.definition}; {metric.settings}. {metric.source}."
                found[(name, signature)] = (metric.title, text, signature)
    return list(found.values())


def _markdown_table(table: Table) -> str:
    lines = [[plain(text) for text in table.header], ["---", *["---:"] * (len(table.header) - 1)]]
    lines += [[_markdown_cell(cell) for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    text = plain(cell.text)
    text = f"**{text}**" if cell.best else text + ("†" if cell.worse else "")
    return f"{text} {cell.interval}".rstrip()


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in table.header)
    systems = len(table.rows) - table.yardsticks
    rows = []
    for number, row in enumerate(table.rows):
        first, *cells = row
        kind = " class=yardstick" if number >= systems else ""
        rows.append(f"<tr{kind}><th>{escape(first.text)}</th>{''.join(map(_html_cell, cells))}</tr>")
    return (
        f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _html_cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = f"<b>{text}</b>" if cell.best else text + ("<sup>†</sup>" if cell.worse else "")
    return f"<td>{text}{f'<small>{cell.interval}</small>' if cell.interval else ''}</td>"


def _html_example(block: Block, source: str, reference: str, answers: Sequence[str]) -> str:
    given = [("source", source, "source"), ("reference", reference, "reference")]
    given += [(entry.name, text, "answer") for entry, text in zip(block.entries, answers, strict=True)]
    lines = "".join(
        f"<div class={kind}><span>{escape(name)}</span><p>{escape(text) or '<i>empty</i>'}</p></div>"
        for name, text, kind in given
    )
    return f"<article>{lines}</article>"
