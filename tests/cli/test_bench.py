"""`diffuseq bench` at a tiny size: every table, the json file, and what a user can get wrong."""

import json

import pytest
from rich.console import Console

from diffuseq.cli.bench import main, show
from diffuseq.errors import InputError
from diffuseq.evaluation.speed.table import Table


def test_every_part_is_measured_shown_and_written(tmp_path, capsys):
    out = tmp_path / "bench.json"
    main(["--quick", "--size", "tiny", "--out", str(out)])
    written = json.loads(out.read_text())
    assert list(written["parts"]) == ["training", "sampling", "gpt2", "peak", "growth"]
    assert written["machine"]["threads"] >= 1
    shown = capsys.readouterr().out
    for part in written["parts"].values():
        assert part["title"] in shown
        assert part["numbers"]
        assert all(len(row) == len(part["columns"]) for row in part["rows"])
    ratios = written["parts"]["sampling"]["numbers"]
    assert ratios["ours, 1 call: times the published"] > 1
    assert "extrapolated from 10 measured steps" in shown


def test_only_the_named_parts_are_measured(tmp_path, capsys):
    out = tmp_path / "bench.json"
    main(["--quick", "--size", "tiny", "--only", "sampling", "--out", str(out)])
    assert list(json.loads(out.read_text())["parts"]) == ["sampling"]
    assert "Growth" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "smapling"], "Did you mean 'sampling'"),
        (["--out", "."], "no name for something new"),
        (["--out", ".."], "is a folder, which a file cannot replace; give --out the name of a json file"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(flags, message):
    with pytest.raises(InputError, match=message):
        main(["--size", "tiny", *flags])


@pytest.mark.parametrize("fast", [True, False])
def test_the_share_of_the_machine_says_of_bf16_what_the_line_about_it_says(fast, monkeypatch, capsys):
    monkeypatch.setattr("diffuseq.evaluation.speed.machine.has_fast_bf16", lambda device: fast)
    monkeypatch.setattr("diffuseq.evaluation.speed.peak.has_fast_bf16", lambda device: fast)
    main(["--size", "tiny", "--only", "peak"])
    shown = capsys.readouterr().out
    assert ("bf16 in hardware" in shown) == fast
    assert ("does not have it in hardware" in shown) != fast
    assert ("width 32 is too narrow to gain by it" in shown) == fast


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_number_is_broken_in_a_narrow_terminal(width, capsys):
    columns = ("system", "ms at batch 1", "faster", "sentences/s at batch 32", "more")
    rows = (("GPT-2", "45.6", "1×", "22,100", "1×"), ("ours, 10 calls", "12.3", "3.71×", "12,300", "0.56×"))
    show(Table("Against GPT-2", columns, rows, {}, ()), Console(width=width))
    shown = capsys.readouterr().out
    assert all(number in shown for row in rows for number in row[1:])
    assert (shown.count("┡") > 1) == (width < 80)
