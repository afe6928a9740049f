from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffuseq.errors import InputError
from diffuseq.evaluation.predictions import Prediction, read_predictions, write_predictions

ROW = {"source": "a b", "references": ["c d"], "candidates": ["e", "f"], "chosen": None}
SEED = {"recover": "[CLS] x [SEP] [PAD]", "reference": "[CLS] y [UNK] [SEP]", "source": "[CLS] z [SEP] [SEP]"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [
        Prediction("a", ("b", "ç"), ("d", ""), "d", 0.5, 10, (-1.5, -2)),
        Prediction("e", ("f",), ("g", "h")),
    ]
    assert write_predictions(tmp_path / "run" / "predictions.jsonl", rows) == 2
    read = read_predictions(tmp_path / "run")
    assert list(read.rows) == rows
    assert read.name == "run"


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path) -> None:
    def rows():  # type: ignore[no-untyped-def]
        yield Prediction("a", ("b",), ("c",))
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_predictions(tmp_path / "predictions.jsonl", rows())
    assert list(tmp_path.iterdir()) == []


def test_published_files_become_candidates_and_lose_their_special_tokens(tmp_path: Path) -> None:
    write(tmp_path / "seed1.json", SEED)
    write(tmp_path / "seed2.JSON", {**SEED, "recover": "[CLS] w [SEP]"})
    (tmp_path / "notes.json").write_text('{"learning_rate": 1}')
    read = read_predictions(tmp_path)
    assert read.rows == (Prediction(" z  ", (" y [UNK] ",), (" x  ", " w ")),)
    assert [file.name for file in read.files] == ["seed1.json", "seed2.JSON"]
    assert read_predictions(tmp_path / "seed1.json", tmp_path / "seed2.JSON").rows == read.rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, "{broken"], r"predictions\.jsonl:2: the line is not JSON"),
        ([ROW, "[1]"], r":2: the row is a list, not a JSON object; one JSON object a line"),
        ([ROW, {**ROW, "references": []}], r":2: the field 'references' is not a list of at least one text"),
        ([ROW, {**ROW, "references": [" "]}], r":2: a reference is empty"),
        *(
            ([ROW, {**ROW, **bad}], rf":2: the field '{next(iter(bad))}' is not valid UTF-8")
            for bad in (
                {"source": "\ud800 b"},
                {"references": ["b", "\udfff"]},
                {"candidates": ["\ud800 b", "f"]},
                {"chosen": "\ud800"},
            )
        ),
        ([{"source": "a", "candidates": ["b"]}], r":1: the field 'references' is missing"),
        (
            [{**ROW, "source": 3}],
            r":1: the field 'source' is int, not a text; the row has: source, references",
        ),
        ([ROW, {**ROW, "source": "x", "candidates": ["e"]}], r":2: 1 candidates, but .*:1 has 2"),
        ([{**ROW, "seconds": -1}], r":1: the field 'seconds' is -1; it must be a number from 0 to"),
        (
            [{**ROW, "forwards": 10**400}],
            r":1: the field 'forwards' is 1000\d+…; it must be a number from 0 to",
        ),
        (
            [{**ROW, "log_p": [-1.0]}],
            r":1: the field 'log_p' must be null or one number for each of 2 candidates",
        ),
        ([{**ROW, "log_p": [-1.0, "x"]}], r":1: the field 'log_p' must be null or one number"),
        ([], r"holds no prediction"),
        (
            [{**ROW, "chosen": "e"}, {**ROW, "chosen": "x", "candidates": ["x", "y"]}],
            r":2: the same source and references as .*:1, with entirely different candidates",
        ),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_predictions(write(tmp_path / "predictions.jsonl", *rows))


def test_seeds_that_do_not_align_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "seed1.json", SEED, SEED)
    with pytest.raises(InputError, match=r"seed2\.json has 1 rows, but .*seed1\.json has 2"):
        read_predictions(first, write(tmp_path / "seed2.json", SEED))
    other = write(tmp_path / "seed3.json", SEED, {**SEED, "source": "another"})
    with pytest.raises(InputError, match=r"seed3\.json:2: the source differs from that at .*seed1\.json:2"):
        read_predictions(first, other)


def test_missing_files_and_foreign_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file or folder"):
        read_predictions(tmp_path / "nothing")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=r"holds neither predictions\.jsonl nor"):
        read_predictions(tmp_path)


def test_chosen_texts_that_are_no_candidates_are_counted(tmp_path: Path) -> None:
    rows = [{**ROW, "chosen": None}, {**ROW, "source": "x", "chosen": ROW["candidates"][0]}]
    assert not read_predictions(write(tmp_path / "predictions.jsonl", *rows)).warnings
    rows.append({**ROW, "source": "y", "chosen": "something else"})
    warnings = read_predictions(write(tmp_path / "predictions.jsonl", *rows)).warnings
    assert warnings == ("Chosen texts that are none of the candidates: 1 of 3; they are scored as they are.",)


def test_duplicates_and_empty_answers_are_counted(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "references": ["other"]}, {**ROW, "source": "x", "candidates": ["", "y"]}]
    warnings = read_predictions(write(tmp_path / "predictions.jsonl", *rows)).warnings
    assert warnings == (
        "Sources that stand more than once: 1 (1 extra rows); every row counts.",
        "Empty candidates, which score 0: 1 of 6.",
    )
