"""`diffuseq bench` at a tiny size: every table, the json file, and what a user can get wrong."""

import json

import pytest

from diffuseq.cli.bench import main
from diffuseq.errors import InputError


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
    [(["--only", "smapling"], "Did you mean 'sampling'"), (["--out", "."], "is a folder")],
)
def test_mistakes_are_told_before_anything_is_measured(flags, message):
    with pytest.raises(InputError, match=message):
        main(["--size", "tiny", *flags])
