"""Rows of csv and tsv: what is quoted comes as it is, and a stray quotation mark swallows no row."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuseq.data import pairs
from diffuseq.data.delimited import MOST_LINES, delimited_rows
from diffuseq.data.reading import Account, ReadOptions
from diffuseq.errors import InputError

TABLES = pytest.mark.parametrize("delimiter", [",", "\t"], ids=["csv", "tsv"])


def read(
    path: Path, delimiter: str, skip: bool = False, **options: object
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """(the rows of two columns, the bad rows by their places' lines)."""
    account = Account(skip_bad_rows=skip)
    rows = delimited_rows(path, delimiter, ReadOptions(**options), account)  # type: ignore[arg-type]
    return [(row["q"], row["a"]) for _, row in rows], dict(account.bad.counts)


def table(folder: Path, delimiter: str, changed: dict[int, str], rows: int = 200) -> Path:
    """A header and rows `q7,a7`; `changed` are whole rows by their number."""
    lines = ["q,a", *(changed.get(i, f"q{i},a{i}") for i in range(1, rows + 1))]
    path = folder / "table"
    path.write_text("".join(line.replace(",", delimiter) + "\n" for line in lines))
    return path


@TABLES
@pytest.mark.parametrize(
    "changed",
    [
        {10: 'q10,"a10'},  # never closed
        {10: 'q10,"a10', 60: 'q60,a60"'},  # closed far away, at the end of a field
        {10: 'q10,"a10', 60: 'q60",a60'},
        {10: 'q10,"a10', 60: 'q60,"a60'},  # closed where another opens
        {10: 'q10,"a10', 14: 'q14,a14"'},  # a few rows on
        {10: '"q10,a10', 13: '"q13,a13'},
        {10: 'q10,"a10" and more'},  # text that begins with a quotation
    ],
)
def test_a_stray_quotation_mark_is_told_with_its_line_and_costs_that_row_alone(
    tmp_path: Path, delimiter: str, changed: dict[int, str]
) -> None:
    path = table(tmp_path, delimiter, changed)
    with pytest.raises(InputError, match=r"table:11: a quotation mark opens .*--no-quotes"):
        read(path, delimiter)
    rows, bad = read(path, delimiter, skip=True)
    assert set(rows) >= {(f"q{i}", f"a{i}") for i in range(1, 201) if i not in changed}
    assert len(rows) + sum(bad.values()) == 200
    assert len(read(path, delimiter, quotes=False)[0]) == 200


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.text(alphabet='a", \t\n', max_size=12)] * 2), min_size=1),
    delimiter=st.sampled_from(",\t"),
)
def test_what_the_csv_module_writes_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "table"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([("q", "a"), *rows])
    assert read(path, delimiter, quoted_lines=100) == (rows, {})


@TABLES
def test_a_quoted_field_may_have_lines_and_more_of_them_where_asked(tmp_path: Path, delimiter: str) -> None:
    text = "one\nand, perhaps\nthree"
    path = tmp_path / "table"

    def write(text: str) -> None:
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([["q", "a"], ["x", text], ["y", "z"]])

    write(text)
    assert read(path, delimiter) == ([("x", text), ("y", "z")], {})
    long = "\n".join(["line"] * (MOST_LINES + 5))
    write(long)
    with pytest.raises(InputError, match=r"table:2: .*--quoted-lines"):
        read(path, delimiter)
    assert read(path, delimiter, quoted_lines=MOST_LINES + 5)[0] == [("x", long), ("y", "z")]
    with pytest.raises(InputError, match="quoted_lines is 0"):
        read(path, delimiter, quoted_lines=0)


@pytest.mark.parametrize("found", [",", ";", "\t"])
@pytest.mark.parametrize("usual", [",", "\t"])
def test_the_header_tells_what_separates_the_cells(usual: str, found: str, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(f'\ufeff"q"{found}"a"\r\n"one; two"{found}"3"\r\nfour{found}"5,6"\r\n'.encode())
    assert read(path, usual) == ([("one; two", "3"), ("four", "5,6")], {})


@pytest.mark.parametrize("found", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line", ["sep={}", '"sep={}"', "SEP={}"])
@pytest.mark.parametrize("usual", [",", "\t"])
def test_a_line_for_excel_tells_what_separates_the_cells(
    usual: str, line: str, found: str, tmp_path: Path
) -> None:
    path = tmp_path / "table"
    path.write_bytes(f"\ufeff{line.format(found)}\r\nq{found}a\r\none: two{found}3\r\n".encode())
    assert read(path, usual) == ([("one: two", "3")], {})


def test_lines_that_end_in_carriage_returns_alone_are_told(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"q,a\rone,two\rthree,four\r")
    with pytest.raises(
        InputError, match="carriage return stands in the row; save the file with other line ends"
    ):
        read(path, ",")


@TABLES
@pytest.mark.parametrize("quotes", [True, False])
def test_a_field_may_be_longer_than_the_csv_module_takes(
    tmp_path: Path, delimiter: str, quotes: bool
) -> None:
    before, text = csv.field_size_limit(), "word " * 40_000 + "end"
    path = table(tmp_path, delimiter, {2: f"{text},short", 3: f"short,{text}"}, rows=3)
    assert read(path, delimiter, quotes=quotes) == ([("q1", "a1"), (text, "short"), ("short", text)], {})
    assert csv.field_size_limit() == before  # which is the whole process's


@TABLES
def test_an_overlong_line_is_a_bad_row_and_never_a_cut_one(
    tmp_path: Path, delimiter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "MAX_LINE_BYTES", 100)
    changed = {2: f"q2,{'é' * 99}", 4: f'q4,"{"é" * 99}"', 6: f'q6,"{"é" * 99}'}
    path = table(tmp_path, delimiter, changed, rows=7)
    rows = [(f"q{i}", f"a{i}") for i in (1, 3, 5, 7)]
    assert read(path, delimiter, skip=True) == (rows, {"the line is longer than 100 bytes": 3})
    with pytest.raises(InputError, match="table:3: the line is longer than 100 bytes"):
        read(path, delimiter)
    path.write_text("q,a" + "\t" * 100 + "\n1,2\n")
    with pytest.raises(InputError, match="table:1: the line is longer than 100 bytes"):
        read(path, delimiter)
