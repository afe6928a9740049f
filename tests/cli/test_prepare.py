import json
from pathlib import Path

import pytest

from diffuseq.cli.prepare import main
from diffuseq.data.pairs import find_split
from diffuseq.errors import InputError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"q": "how are you", "a": "fine"}, {"q": "who", "a": "me"}, {"q": "", "a": "?"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    path = tmp_path / "held.jsonl"
    rows = [{"q": "Me", "a": "who"}, {"q": "how are you", "a": "well"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_tells_counts_skipped_rows_and_leaks(
    table: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["--source-column", "q", "--target-column", "a", "--valid-share", "0"]
    out = ["--test-files", str(held_out), "--out", str(tmp_path / "out")]
    assert main(["columns", str(table), *columns, *out, "--skip-bad-rows"]) == 0
    told = capsys.readouterr()
    assert f"{tmp_path}/out/train.jsonl: 2 pairs" in told.out
    assert f"{tmp_path}/out/test.jsonl: 2 pairs" in told.out
    assert "2 of 2 test sources also stand in the training set" in told.out
    assert f"skipped 1 row: the field 'q' is empty (first: {table}:3)" in told.err
    assert "1 of 2 test pairs (50.0%) stand in the training set" in told.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "of so few sources none fell into the share of 0.02"),
        (["--valid-share", "0"], "its share is 0"),
    ],
)
def test_a_missing_validation_split_is_told_with_its_reason(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    columns = ["--source-column", "q", "--target-column", "a", *options]
    assert main(["columns", str(held_out), *columns, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "valid.jsonl" not in told.out
    assert f"warning: there is no valid.jsonl, which `diffuseq train` needs ({reason}); give" in told.err
    assert "--valid-files" in told.err
    with pytest.raises(InputError, match=r"no valid\.jsonl .* where it holds some out \(--valid-share"):
        find_split(tmp_path / "out", "valid")


def test_a_bad_row_stops_the_command_with_its_place(table: Path, tmp_path: Path) -> None:
    columns = ["--source-column", "q", "--target-column", "a", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match=r"pairs\.jsonl:3"):
        main(["columns", str(table), *columns])
