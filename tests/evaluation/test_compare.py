from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from diffuseq.cli import compare as compare_verb
from diffuseq.cli import evaluate as evaluate_verb
from diffuseq.errors import InputError
from diffuseq.evaluation.compare import Run, compare, parse_runs
from diffuseq.evaluation.markdown import plain
from diffuseq.evaluation.plots import canvas, figures, spread, style
from diffuseq.evaluation.plots import speed as speed_figure
from diffuseq.evaluation.predictions import Prediction, write_predictions
from diffuseq.evaluation.published_rows import PUBLISHED, published_rows
from diffuseq.evaluation.report import findings, html, markdown, remarks, write_report
from diffuseq.evaluation.tables import quality

WORDS = [f"w{i}" for i in range(30)]


def make_rows(noise: float, sources: int = 60, seed: int = 1) -> list[Prediction]:
    """A system that gets each word wrong with probability `noise`; the test set is always the same."""
    fixed, draw = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for i in range(sources):
        target = list(fixed.choice(WORDS, size=8))
        texts = [
            " ".join(draw.choice(WORDS) if draw.random() < noise else word for word in target)
            for _ in range(3)
        ]
        rows.append(Prediction(f"source {i} <b>", (" ".join(target),), tuple(texts), None, 0.1 + noise, 10))
    return rows


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, noise in (("good", 0.2), ("bad", 0.6)):
        write_predictions(tmp_path / name / "predictions.jsonl", make_rows(noise))
    training = {"parameters": 91_225_274, "seconds": 5400, "pairs_seen": 4.1e6, "device": "cpu"}
    (tmp_path / "good" / "training.json").write_text(json.dumps(training))
    return tmp_path


def compared(runs: Path, **options: object):  # type: ignore[no-untyped-def]
    given = [Run("good", runs / "good"), Run("bad", runs / "bad")]
    return compare(given, bootstrap=100, **options)  # type: ignore[arg-type]


def test_a_run_is_named_as_the_user_says() -> None:
    assert Run.parse("runs/a") == Run("a", Path("runs/a"))
    assert Run.parse("runs/a/predictions.jsonl") == Run("a", Path("runs/a/predictions.jsonl"))
    assert Run.parse("ours=runs/a") == Run("ours", Path("runs/a"))
    assert Run.parse("qqp:ours=runs/a") == Run("ours", Path("runs/a"), "qqp")
    assert Run.parse("ours=runs/lr=0.1/predictions.jsonl") == Run(
        "ours", Path("runs/lr=0.1/predictions.jsonl")
    )
    for text in ("=runs/a", " =runs/a"):
        with pytest.raises(InputError, match="has no name; write NAME=PATH"):
            Run.parse(text)
    with pytest.raises(InputError, match="The run runs/a has no name behind its task; write TASK:NAME=PATH"):
        Run.parse("qqp:=runs/a")


def test_runs_without_names_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lr0.1", "lr0.2", "lr=0.3", "a/run", "b/run"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "seed1.jsonl").write_text("{}")

    def names(*texts: str) -> list[str]:
        runs = parse_runs(texts)
        assert [run.path for run in runs] == [Path(text.removeprefix("n=")) for text in texts]
        return [run.name for run in runs]

    assert names("runs/lr0.1", "runs/lr0.2/predictions.jsonl", "runs/lr=0.3") == ["lr0.1", "lr0.2", "lr=0.3"]
    assert names("runs/a/run", "n=runs/b/run", "runs/seed1.jsonl") == ["run", "n", "seed1"]
    assert names("runs/a/run", "runs/b/run/predictions.jsonl", "runs") == ["a/run", "b/run", "runs"]
    monkeypatch.chdir(tmp_path / "runs" / "lr0.1")
    assert names(".", "../lr0.2", "predictions.jsonl") == ["lr0.1", "lr0.2", "lr0.1"]


def test_two_runs_of_one_name_are_refused(runs: Path) -> None:
    for texts in (["x=good", "x=bad"], ["good", "good"], ["bad=good", "bad"]):
        given = [Run(run.name, runs / run.path) for run in parse_runs(texts)]
        with pytest.raises(InputError, match=r"Two runs on one test set are called '.*'; tell them apart"):
            compare(given, bootstrap=0)


def test_the_better_system_is_best_and_the_other_significantly_worse(runs: Path) -> None:
    block = compared(runs, task="qqp").blocks[0]
    assert block.title == "Paraphrase"
    assert block.best["bleu"] == 0 and block.best["self_bleu"] == 1
    assert (1, "bleu") in block.worse and (0, "bleu") not in block.worse
    assert block.p_values[0][1] == block.p_values[1][0] == pytest.approx(1 / 101)
    assert block.p_values[0][0] is None and len(block.p_values[0]) == 3


def test_equal_systems_are_never_marked(runs: Path) -> None:
    twins = [Run("one", runs / "good"), Run("two", runs / "good")]
    block = compare(twins, bootstrap=100).blocks[0]
    assert block.worse == frozenset()
    assert all(cell.best for row in quality(block).rows[:2] for cell in row[2:-1])
    assert (
        findings(block)[0]
        == f"one and two lead in BLEU ({block.entries[0].scores.value('chosen', 'bleu'):.4f})."
    )
    third = compare([*twins, Run("bad", runs / "bad")], bootstrap=100).blocks[0]
    assert "one and two lead in BLEU" in findings(third)[0] and "ahead of 1 of 1 other" in findings(third)[0]


def test_nothing_is_said_of_significance_where_it_was_not_tested(runs: Path) -> None:
    given = [Run("good", runs / "good"), Run("bad", runs / "bad")]
    assert "good leads in BLEU" in findings(compare(given, bootstrap=0).blocks[0])[0]
    assert not any("significan" in said for said in findings(compare(given, bootstrap=0).blocks[0]))


def test_copying_the_source_has_no_candidates_to_be_compared_with(runs: Path) -> None:
    block = compared(runs, metrics=["self_bleu"]).blocks[0]
    assert [row[-1] for row in block.p_values] == [None, None]
    assert block.p_values[0][1] is not None


def test_metrics_that_one_candidate_does_not_have_are_refused_where_there_is_no_other(runs: Path) -> None:
    rows = [replace(row, candidates=row.candidates[:1]) for row in make_rows(0.6)]
    write_predictions(runs / "one" / "predictions.jsonl", rows)
    with pytest.raises(InputError, match="none of the named metrics is to be had of one candidate a source"):
        compare([Run("one", runs / "one")], metrics=["self_bleu", "div4"])
    block = compared(runs, metrics=["self_bleu", "bleu"]).blocks[0]
    assert set(block.columns) == {"self_bleu", "bleu"}


def test_the_table_has_the_metrics_that_are_asked_for_in_their_order(runs: Path) -> None:
    names = ["exact_match", "bleu", "sacrebleu", "bleu_best_candidate", "bleu"]
    block = compared(runs, metrics=names).blocks[0]
    assert block.columns == ("exact_match", "bleu", "sacrebleu", "bleu_best_candidate")
    assert block.headline == "exact_match" and set(block.best) == set(names)
    assert compared(runs).blocks[0].headline == "bleu"


def test_test_sets_are_told_apart_by_their_sources(runs: Path) -> None:
    other = [replace(row, source=f"else {row.source}") for row in make_rows(0.3)]
    write_predictions(runs / "third" / "predictions.jsonl", other)
    comparison = compare([Run(name, runs / name) for name in ("good", "bad", "third")], bootstrap=0)
    assert [[entry.name for entry in block.entries] for block in comparison.blocks] == [
        ["good", "bad"],
        ["third"],
    ]
    assert "Not compared with third, for the sources are others (0 of 60" in remarks(comparison.blocks[0])[0]
    assert "Not compared with good, bad, for" in markdown(comparison, [[], []])
    of_tasks = compare(
        [Run("good", runs / "good", "qqp"), Run("third", runs / "third", "dialogue")], bootstrap=0
    )
    assert not any(block.warnings for block in of_tasks.blocks)


def test_runs_of_one_task_have_to_align(runs: Path) -> None:
    rows = make_rows(0.3)
    write_predictions(runs / "short" / "predictions.jsonl", rows[:-1])
    write_predictions(runs / "mixed" / "predictions.jsonl", [rows[0], rows[2], rows[1], *rows[3:]])
    with pytest.raises(InputError, match=r"has 59 rows, but .* has 60"):
        compare([Run("good", runs / "good"), Run("short", runs / "short")], task="qqp")
    with pytest.raises(InputError, match=r"predictions\.jsonl:2: the source differs from row 2"):
        compare([Run("good", runs / "good"), Run("mixed", runs / "mixed")], task="qqp")


def test_case_and_spacing_of_the_sources_may_differ(runs: Path) -> None:
    rows = [replace(row, source=row.source.upper().replace(" ", "  ")) for row in make_rows(0.3)]
    write_predictions(runs / "upper" / "predictions.jsonl", rows)
    assert len(compare([Run("a", runs / "good"), Run("b", runs / "upper")], bootstrap=0).blocks) == 1


def test_what_is_not_measured_alike_is_not_ranked_and_said(runs: Path) -> None:
    rows = [replace(row, candidates=row.candidates[:2]) for row in make_rows(0.6)]
    write_predictions(runs / "two" / "predictions.jsonl", rows)
    given = [Run("good", runs / "good"), Run("two", runs / "two")]
    names = ("bleu", "self_bleu", "div4", "div4_all", "bleu_best_candidate")
    block = compare(given, bootstrap=100, metrics=names).blocks[0]
    assert set(block.best) == {"bleu"} and block.worse == {(1, "bleu")}
    assert any(
        "self-BLEU, div-4, div-4 (all), BLEU, best candidate (numbers" in remark for remark in remarks(block)
    )
    for name in names[1:]:
        block = compare(given, bootstrap=100, metrics=[name]).blocks[0]
        assert block.best == {} and block.p_values[0][1] is None


def test_other_references_are_said(runs: Path) -> None:
    rows = make_rows(0.6)
    several = [replace(row, references=(*row.references, "one more")) for row in rows[:40]]
    other = [replace(row, references=("another one",)) for row in rows[40:]]
    write_predictions(runs / "other" / "predictions.jsonl", [*several, *other])
    recased = [replace(row, references=(row.references[0].upper(),)) for row in rows]
    write_predictions(runs / "same" / "predictions.jsonl", recased)
    given = [Run(name, runs / name) for name in ("good", "same", "other")]
    block = compare(given, bootstrap=100).blocks[0]
    assert "other has other references than good in 60 of 60 rows" in remarks(block)[0]
    assert "Not measured alike, and so not compared: R-L (" in remarks(block)[1]
    assert "rougeL" not in block.best and not any("same" in remark for remark in remarks(block))


@pytest.mark.parametrize(("fast", "slow"), [(1.8, 2.2), (2.1, 2.3), (3.0, 40.0), (1.0, 3e5)])
def test_an_axis_of_speeds_has_numbers_however_narrow(runs: Path, fast: float, slow: float) -> None:
    for name, speed in (("good", fast), ("bad", slow)):
        rows = [replace(row, seconds=1 / speed) for row in make_rows(0.5)]
        write_predictions(runs / name / "predictions.jsonl", rows)
    figure = speed_figure(compared(runs).blocks[0], "speed")
    figure.svg()
    axes = figure.drawing.axes[0]
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert 3 <= len(shown) <= 8


@pytest.mark.parametrize(("low", "high"), [(0.8719, 0.8876), (0.2501, 0.2512), (0.3, 1.0), (0, 100)])
def test_numbers_of_an_axis_stand_apart_however_narrow(low: float, high: float) -> None:
    with style():
        figure, axes = canvas(height=3.2)
        axes.plot([low, high], [0, 1])
        axes.margins(x=0.18)
        figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) >= 4
    assert all(left.x1 + 3 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize(
    ("metric", "best", "side", "corner", "arrow"),
    [
        ("bleu", "good", "Left", "Up and to the right", "BLEU → better"),
        ("bleu_source", None, "Right", "Down and to the right", "BLEU to source ← better"),
        ("length", None, None, "To the right", "length"),
    ],
)
def test_figures_say_on_which_side_it_is_better(
    runs: Path, metric: str, best: str | None, side: str | None, corner: str, arrow: str
) -> None:
    block = compared(runs, metrics=[metric, "div4"]).blocks[0]
    block = replace(block, headline=metric)
    drawn = figures(block, "x")
    names = [label.get_text() for label in drawn[0].drawing.axes[0].get_yticklabels()]
    assert best is None or names[0] == best
    assert ("of the dashed line" in drawn[0].caption) == (side is not None)
    assert side is None or f"{side} of the dashed line" in drawn[0].caption
    for figure in drawn[1:]:
        assert f"{corner} is better" in figure.caption
        assert figure.drawing.axes[0].get_ylabel() == arrow


def test_in_a_figure_the_best_comes_first_where_less_is_better(runs: Path) -> None:
    block = compared(runs, metrics=["self_bleu"]).blocks[0]
    (drawn,) = figures(block, "x")[:1]
    names = [label.get_text() for label in drawn.drawing.axes[0].get_yticklabels()]
    assert names[0] == block.entries[block.best["self_bleu"]].name == "bad"
    assert "dashed line" not in drawn.caption


def test_every_name_stands_in_a_figure_however_many_systems_there_are(runs: Path) -> None:
    block = compared(runs, metrics=["bleu", "div4"]).blocks[0]
    few, many = block.entries, tuple(replace(block.entries[i % 2], name=f"system {i}") for i in range(30))
    pages = [[figure.svg() for figure in figures(replace(block, entries=e), "x")] for e in (few, many)]
    for page in pages[1]:
        assert all(f">system {i}</text>" in page for i in range(30))
    assert len(pages[1]) == 3
    assert [float(page.split('viewBox="')[1].split()[3].rstrip('"')) < 240 for page in pages[0]] == [True] * 3


def test_the_report_is_one_file_without_requests_and_escapes_texts(runs: Path) -> None:
    comparison = compared(runs, task="qqp")
    paths = write_report(comparison, runs / "report", published="qqp")
    page = (runs / "report" / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!#)', page.replace('xlink:href="#', ""))
    assert "url(http" not in page and "<script" not in page and "@import" not in page
    assert page.count("<svg") == 3
    assert "source 5 &lt;b&gt;" in page and "source 5 <b>" not in page
    assert "As printed: qqp" in page and "0.2413" in page
    assert {path.suffix for path in paths} == {".svg", ".png", ".json", ".md", ".html"}
    assert all(path.stat().st_size for path in paths)
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_names_with_signs_break_no_markdown(runs: Path) -> None:
    given = [Run("a|b", runs / "good"), Run("`c*", runs / "bad")]
    text = markdown(compare(given, bootstrap=100), [[]])
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|  |")}
    assert widths == {5}  # of the header of p-values: nothing, two systems, copying
    assert "a|b" not in text and "`c*" not in text
    assert r"  - a\|b: " in text and r"- a\|b leads in" in text


@pytest.mark.parametrize(
    "text",
    [r"a\b | *c* __d__ `e` <b>f</b>", "[g](h) ![i](j)", "~~k~~", "&amp; &#42; AT&T", "<http://l.m>", "1 < 2"],
)
def test_markdown_gives_texts_back_as_they_are(text: str) -> None:
    shown = MarkdownIt().enable(["table", "strikethrough"]).renderInline(plain(text))
    assert unescape(shown) == text and "<" not in shown
    assert plain("$5 or $6") == r"\$5 or \$6"  # which GitHub would take for a formula


def test_the_tables_show_best_worse_and_cost(runs: Path) -> None:
    text = markdown(compared(runs, task="qqp"), [[]])
    good, bad = (
        next(line for line in text.splitlines() if line.startswith(f"| {n} ")) for n in ("good", "bad")
    )
    assert re.search(r"\*\*0\.\d{4}\*\* ±", good) and "†" in bad
    assert "| good | 3 | 10 | 0.3 | 91.2 M | 1.5 h | 4.1 M | cpu |" in text
    assert "copy the source" in text and "As printed" not in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_narrow_terminal_gets_more_tables_and_no_broken_number(
    runs: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert compare_verb.main([f"a-system-with-a-long-name={runs / 'good'}", f"bad={runs / 'bad'}"]) == 0
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.startswith(("┃", "│", "┏", "┡", "└"))]
    assert max(map(len, lines)) <= width
    assert ("more columns" in shown) == (width < 200)
    table = quality(compared(runs).blocks[0])
    for row in table.rows:
        assert all(cell.text in shown for cell in row[1:])
    for word in " ".join(table.header).split():
        assert word in shown


@pytest.mark.parametrize("width", [40, 80])
def test_no_header_is_broken_within_a_word(
    runs: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert compare_verb.main([f"a={runs / 'good'}", f"b={runs / 'bad'}", "--task", "qqp"]) == 0
    shown = capsys.readouterr().out
    tables = [table for table in re.split(r"(?=┏)", shown) if table.startswith("┏")]
    assert len(tables) > 3 and all(re.search(r"┃ system +┃", table) for table in tables)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_scores_are_whole_in_a_narrow_terminal(
    runs: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert evaluate_verb.main([str(runs / "good"), "--bootstrap", "20"]) == 0
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if line[:1] in "┃│┏┡└") <= width
    scores = compared(runs).blocks[0].entries[0].scores
    for row in ("chosen", "single", "copy", "references"):
        assert f"{scores.value(row, 'rougeL'):.4f}" in shown
    assert ("more columns" in shown) == (width < 80)


def test_names_that_are_not_utf_8_are_shown_with_escapes(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    name = os.fsdecode(b"caf\xe9")
    try:
        (runs / "good").rename(runs / name)
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    named = f"{name}2=bad"
    assert compare_verb.main([name, named, "--bootstrap", "20", "--out", "report"]) == 0
    assert r"caf\udce9 leads in BLEU" in capsys.readouterr().out
    assert r"caf\udce92" in (runs / "report" / "report.html").read_text()
    assert evaluate_verb.main([name, "--bootstrap", "20", "--json", "scores.json"]) == 0
    scores = json.loads((runs / "scores.json").read_text())
    assert (scores["name"], scores["files"]) == (r"caf\udce9", [f"{name}/predictions.jsonl"])


def test_names_that_spell_pictures_are_shown_as_they_are(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    name = "lr:100:[b]"
    (runs / "good").rename(runs / name)
    assert compare_verb.main([name, "bad", "--bootstrap", "20"]) == 0
    shown = capsys.readouterr().out
    assert f"{name} leads in BLEU" in shown and f"│ {name} " in shown
    assert evaluate_verb.main([name, "--bootstrap", "0"]) == 0
    assert f"{name}: 60 sources" in capsys.readouterr().out


def test_the_report_works_without_the_figures(runs: Path) -> None:
    page = html(compared(runs), [[]])
    assert "pip install diffuseq[plots]" in page and "<svg" not in page


def test_labels_are_moved_apart_as_little_as_needed() -> None:
    assert spread([0.0, 5.0], 1.0) == [0.0, 5.0]
    assert spread([1.0, 1.0], 1.0) == [0.5, 1.5]
    moved = spread([0.3, 0.0, 0.1, 0.2], 1.0)
    assert np.diff(np.sort(moved)) == pytest.approx([1.0] * 3)
    assert np.mean(moved) == pytest.approx(0.15) and list(np.argsort(moved)) == [1, 2, 3, 0]


def test_printed_rows_are_those_of_the_paper() -> None:
    row = published_rows("qqp")[-1]
    assert (row.bleu, row.rouge_l, row.bertscore, row.single) == (0.2413, 0.5880, 0.8365, 0.1847)
    assert {len(rows) for rows in PUBLISHED.values()} == {7} and len(PUBLISHED) == 4
    with pytest.raises(InputError, match="Unknown published table"):
        published_rows("imdb")


def test_the_verbs_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs / "scores.json"
    assert evaluate_verb.main([str(runs / "good"), "--bootstrap", "20", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["name"] == "good"
    assert compare_verb.main([str(runs / "good"), str(runs / "bad"), "--bootstrap", "20"]) == 0
    shown = capsys.readouterr().out
    assert "copy" in shown and "leads in BLEU" in shown


def test_paths_are_shown_whatever_signs_they_have(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores, report = runs / "a [" / "b].json", runs / "[red]"
    assert evaluate_verb.main([str(runs / "good"), "--bootstrap", "0", "--json", str(scores)]) == 0
    assert compare_verb.main([str(runs / "good"), "--bootstrap", "0", "--out", str(report)]) == 0
    shown = capsys.readouterr().out
    assert str(scores) in shown and str(report / "report.html") in shown


def test_runs_may_be_paths_and_what_are_no_runs_is_told(runs: Path) -> None:
    folders = sorted(str(path) for path in runs.iterdir())[:2]
    (block,) = compare([folders[0], Path(folders[1]), Run("third", folders[0])], bootstrap=0).blocks  # type: ignore[arg-type]
    assert [entry.name for entry in block.entries] == [*(Path(folder).name for folder in folders), "third"]
    with pytest.raises(InputError, match="runs is one text"):
        compare(folders[0])
    with pytest.raises(InputError, match="A run is of the type int; give a Run, or a path"):
        compare([3])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"bootstrap is 10\.0; give a whole number"):
        compare(folders, bootstrap=10.0)  # type: ignore[arg-type]


def test_figures_of_an_earlier_report_do_not_stay(runs: Path) -> None:
    plots = runs / "report" / "plots"
    write_report(compared(runs, task="qqp"), runs / "report")
    earlier = {path.name for path in plots.iterdir()}
    (plots / "mine.svg").write_text("")
    write_report(compared(runs, task="dialogue"), runs / "report")
    now = {path.name for path in plots.iterdir()}
    assert len(now) == len(earlier) + 1 and now & earlier == set() and "mine.svg" in now
