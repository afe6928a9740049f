"""Watching in the terminal, traces, and replaying them."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from diffuseq.answers import TextDraft
from diffuseq.cli import main
from diffuseq.cli.replay import Position, key_of, step_through
from diffuseq.cli.view import LOOKS, choice_view, draft_lines, one_line, plain_choice, view
from diffuseq.cli.watch import record, show_choice, show_frames, watch
from diffuseq.config import Generation
from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.trace import Frame, Piece, Trace, explain, frames, read_traces

SOURCE = "how do i learn to cook rice?"


def paper(width: int = 80, terminal: bool = False, colour: bool = False, term: str = "xterm") -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        height=24,
        force_terminal=terminal,
        color_system="standard" if colour else None,
        legacy_windows=False,
        _environ={"TERM": term},
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def make_draft(
    index: int, words: list[str], confidence: list[float], pinned: list[bool] | None = None
) -> TextDraft:
    given = [pinned] if pinned else []
    return TextDraft(index, 3, index + 1, ["".join(words).strip()], [-1.0], [words], [confidence], given)


def test_each_word_has_the_state_of_what_became_of_it() -> None:
    drafts = [
        make_draft(0, [" a", " b", " c", " p"], [0.9, 0.1, 0.1, 1.0], [False, False, False, True]),
        make_draft(1, [" a", " x", " c", " p"], [0.1, 0.9, 0.1, 1.0], [False, False, False, True]),
        make_draft(2, [" d", " x", " c", " p"], [0.9, 0.9, 0.1, 1.0], [False, False, False, True]),
    ]
    states = [[piece.state for piece in frame.rows[0]] for _, frame in frames(drafts)]
    assert states == [
        ["new", "noise", "noise", "pinned"],
        ["settled", "new", "noise", "pinned"],
        ["changed", "settled", "new", "pinned"],  # in the last frame nothing is noise
    ]


def test_systems_that_write_a_word_once_show_no_noise() -> None:
    (_, frame), *_ = frames([make_draft(0, [" a"], [0.01])], unsure=0.0)
    assert frame.rows[0][0].state == "new"


def test_a_pipe_gets_plain_lines_and_the_answer_of_the_pipeline(tiny_pipe: DiffuSeqPipeline) -> None:
    console = paper()
    answer = watch(tiny_pipe, SOURCE, tiny_pipe.settings(seed=3), console=console)
    lines = written(console).splitlines()
    assert "\x1b" not in written(console)
    assert lines[0] == f"source  {SOURCE}"
    assert [line.split()[1] for line in lines[1:5]] == ["1/4", "2/4", "3/4", "4/4"]
    assert [line.split()[0] for line in lines[5:8]].count("chosen") == 1
    assert lines[8].startswith("answer (4 calls")
    assert lines[8].endswith(answer.text)
    assert answer.candidates == tiny_pipe(SOURCE, seed=3).candidates


def test_a_terminal_shows_a_panel_of_its_width(tiny_pipe: DiffuSeqPipeline) -> None:
    console = paper(terminal=True)
    watch(tiny_pipe, SOURCE, tiny_pipe.settings(), console=console, pause_s=0.0)
    assert "step 4/4" in written(console)
    assert "BLEU with the others" in written(console)


def test_a_terminal_that_cannot_redraw_gets_what_a_pipe_gets(tiny_pipe: DiffuSeqPipeline) -> None:
    told = []
    for console in (paper(terminal=True, term="dumb"), paper()):
        answer = watch(tiny_pipe, SOURCE, tiny_pipe.settings(), console=console)
        told.append(written(console).replace(f"{answer.seconds:.2f} s", ""))
    assert told[0] == told[1]


def test_frames_stay_in_a_terminal_long_enough_to_be_seen(tiny_pipe: DiffuSeqPipeline) -> None:
    began = time.monotonic()
    watch(tiny_pipe, SOURCE, tiny_pipe.settings(), console=paper(terminal=True), pause_s=0.05)
    assert time.monotonic() - began >= 3 * 0.05


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    row = [Piece(f" word{i}", i / 40, "settled") for i in range(40)]
    row += [Piece(" " + "x" * 300, 0.5, "new"), Piece(" 日本語" * 30, 0.5, "noise")]
    console = paper(width)
    console.print(view("s" * 300, Frame(0, 1, 1, 0.0, [row, row, row]), width, 100))
    from rich.cells import cell_len

    assert max(cell_len(line) for line in written(console).splitlines()) <= width


def test_a_bar_stands_under_each_word() -> None:
    words, bars = draft_lines([Piece(" tea", 0.0, "settled"), Piece(" now", 1.0, "new")], 40)
    assert (words.plain, bars.plain) == ("tea now", "▁▁▁ ███")


def test_states_can_be_told_apart_without_colours() -> None:
    without_colour = {
        state: {part for part in look.split() if part in ("bold", "italic", "underline", "reverse")}
        for state, look in LOOKS.items()
    }
    assert one_line([Piece(" tea", 0.1, "noise")], 20).plain == "░░░"
    looks = [frozenset(look) for state, look in without_colour.items() if state != "noise"]
    assert len(set(looks)) == len(looks)


def test_words_that_look_like_markup_are_shown_as_they_are() -> None:
    console = paper()
    console.print(view("[bold]x[/]", Frame(0, 1, 1, 0.0, [[Piece(" [red]", 0.9, "settled")]]), 60, 24))
    assert "[red]" in written(console)
    assert "[bold]x[/]" in written(console)


@pytest.mark.parametrize("terminal", [False, True])
def test_control_characters_are_shown_and_not_obeyed(terminal: bool) -> None:
    hostile = "a\x1b[2Jb\x9bc\x07d\r\ne"
    escaped = "a\\x1b[2Jb\\x9bc\\x07d\\r\\ne"
    frame = Frame(0, 1, 1, 0.0, [[Piece(f" {hostile}", 0.9, "new")]] * 2)
    console = paper(120, terminal)
    show_frames(console, hostile, [frame])
    for candidates in ([hostile], [hostile, "b"]):
        show_choice(console, explain("a", candidates, [-1.0] * len(candidates), Generation(), 0.1, 4))
    shown = written(console)
    assert shown.count(escaped) >= 5  # source, draft, the only candidate, one of two, the answer
    assert "\x1b[2J" not in shown
    assert not {"\x9b", "\x07"} & set(shown)


def test_a_trace_comes_back_as_it_was_written(tiny_pipe: DiffuSeqPipeline, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.jsonl"
    answers = [record(tiny_pipe, source, tiny_pipe.settings(), path) for source in (SOURCE, "tea")]
    traces = read_traces(path)
    assert [trace.source for trace in traces] == [SOURCE, "tea"]
    for trace, answer in zip(traces, answers, strict=True):
        assert len(trace.frames) == 4
        assert trace.choice is not None
        assert (trace.choice.text, trace.choice.candidates) == (answer.text, answer.candidates)
        assert trace.frames[-1].text == answer.candidates[0]
        assert trace.settings["steps"] == 4


@pytest.mark.parametrize(
    "content", ["", "{}\n", "not json\n", '{"index": 1}\n', '{"source": "a"}\n', "[]\n", "3\n"]
)
def test_a_file_that_is_no_trace_is_explained(tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match="--trace wrote"):
        read_traces(path)


def test_the_choice_says_how_much_candidates_agree() -> None:
    choice = explain("a", ["a b c d", "a b c d", "x y z w"], [-3.0, -2.0, -1.0], Generation(), 0.1, 4)
    assert choice.chosen == 0
    assert choice.mean_agreement(0) > choice.mean_agreement(2)
    assert choice.score(0) == choice.mean_agreement(0)
    settings = Generation(likelihood_weight=0.5, source_weight=2.0)
    weighed = explain("a b c d", choice.candidates, choice.log_p, settings, 0.1, 4)
    assert weighed.chosen == 2
    assert weighed.score(0) == pytest.approx(weighed.mean_agreement(0) - 1.5 - 2 * weighed.to_source[0])
    line = (
        f"log p -1.00  BLEU with the source {weighed.to_source[2]:.2f}  score {weighed.score(2):.2f}  x y z w"
    )
    assert f"chosen 3  BLEU with the others {weighed.mean_agreement(2):.2f}  {line}" in plain_choice(weighed)
    settings = Generation(likelihood_weight=1.0, copies=False)
    copied = plain_choice(explain("a b", ["a b", "c d"], [-1.0, -9.0], settings, 0.1, 4)).splitlines()
    assert copied[0].endswith("score -1.00  passed over, the source itself  a b")
    assert copied[1].startswith("chosen 2") and "passed over" not in copied[1]
    only = explain("a", ["a"], [-1.0], Generation(), 0.1, 1)
    assert only.mean_agreement(0) == 0
    assert plain_choice(only) == "answer (1 call, 0.10 s)  a"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_narrow_terminal_shows_the_candidates_with_all_their_numbers(width: int) -> None:
    settings = Generation(likelihood_weight=0.5, source_weight=2.0)
    choice = explain("a", ["tea or milk", "tea and milk"], [-31.5, -2.25], settings, 0.1, 4)
    console = paper(width)
    console.print(choice_view(choice, width))
    words = written(console).split()
    for expected in ("milk", "tea", "→", "-31.50", "-2.25", f"{choice.mean_agreement(0):.2f}"):
        assert any(word.startswith(expected) for word in words)
    assert not any("…" in word for word in words)


def test_keys_lead_through_frames_and_sources() -> None:
    place = Position()
    for key, expected in (
        ("left", (0, 0)), ("right", (0, 1)), ("end", (0, 3)), ("right", (0, 3)), ("down", (1, 0)),
        ("end", (1, 1)), ("down", (1, 1)), ("home", (1, 0)), ("up", (0, 0)), ("", (0, 0)),
    ):  # fmt: skip
        place = place.after(key, sizes=[4, 2])
        assert (place.source, place.frame) == expected


def test_arrow_keys_are_known_in_both_modes_of_a_terminal() -> None:
    assert [key_of(k) for k in (b"\x1b[C", b"\x1bOC", b"l", b" ")] == ["right"] * 4
    assert [key_of(k) for k in (b"q", b"\x1b", b"\x04")] == ["quit"] * 3
    assert key_of(b"z") == ""


def test_replay_shows_the_frame_that_the_keys_lead_to(tiny_pipe: DiffuSeqPipeline, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    record(tiny_pipe, SOURCE, tiny_pipe.settings(), path)
    keys = iter(["right", "right", "left", "quit"])
    console = paper(terminal=True)
    step_through(console, read_traces(path), lambda: next(keys))
    shown = [part.split()[0] for part in written(console).split("step ")[1:] if "/" in part[:4]]
    assert shown[:4] == ["1/4", "2/4", "3/4", "2/4"]


@pytest.mark.parametrize("candidates", [1, 10])
def test_replay_shows_the_keys_and_the_choice_in_a_terminal_of_24_lines(candidates: int) -> None:
    texts = [f"where can i find hotel number {i} in the north of berlin?" for i in range(candidates)]
    settings = Generation(likelihood_weight=0.2, source_weight=0.6)
    choice = explain(SOURCE, texts, [-float(i) for i in range(candidates)][::-1], settings, 0.1, 2)
    rows = [[Piece(word, 0.5, "settled") for word in text.split()] for text in texts]
    trace = Trace(SOURCE, {}, [Frame(i, 2, i + 1, 0.1, rows) for i in range(2)], choice)
    keys = iter(["right", "quit"])
    console = paper(terminal=True)
    seen: list[str] = []

    def next_key() -> str:
        seen.append(written(console))
        return next(keys)

    step_through(console, [trace], next_key)
    first, last = seen[0], seen[1].removeprefix(seen[0])
    assert "q quit" in first and "q quit" in last
    assert "→" in last and f"number {choice.chosen}" in " ".join(last.split())
    assert last.count("\n") < 24


def test_the_commands_generate_and_replay_work_through_pipes(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, trace, output = tmp_path / "in.txt", tmp_path / "t.jsonl", tmp_path / "out.jsonl"
    sources.write_text(f"{SOURCE}\ntea\n")
    shared = ["generate", str(tiny_folder), "--input", str(sources), "--template", "why [MASK] [MASK]?"]
    with pytest.raises(SystemExit) as ended:
        main([*shared, "--trace", str(trace), "--output", str(output)])
    assert ended.value.code == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["source"] for row in rows] == [SOURCE, "tea"]
    assert all(row["chosen"].startswith("why") and row["chosen"].endswith("?") for row in rows)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*shared, "--watch"])
    watched = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["replay", str(trace)])
    replayed = capsys.readouterr().out
    without_times = [line for line in watched.splitlines() if not line.startswith("answer")]
    assert [line for line in replayed.splitlines() if not line.startswith("answer")] == without_times


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals on Windows")
def test_replay_reads_keys_from_a_real_terminal_and_leaves_it_as_it_was(
    tiny_pipe: DiffuSeqPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffuseq.cli.replay import _raw_keys

    outside, inside = pty.openpty()
    before = termios.tcgetattr(inside)
    with os.fdopen(inside, "r", closefd=False) as keyboard:
        monkeypatch.setattr(sys, "stdin", keyboard)
        typed = threading.Timer(0.05, os.write, (outside, b"\x1b[C\x1bOFq"))
        with _raw_keys() as next_key:
            typed.start()
            assert [next_key() for _ in range(3)] == ["right", "end", "quit"]
    assert termios.tcgetattr(inside) == before
    os.close(outside)
    os.close(inside)
