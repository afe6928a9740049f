"""Rows of csv and tsv files with a header. A stray quotation mark is told, and swallows no rows after it.

Spreadsheets separate the cells of a csv by semicolons or tabs where the comma is a decimal point; the header tells,
or a line before it.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from diffuseq.data.pairs import BadRowError, numbered_lines, refuse_overlong
from diffuseq.data.reading import Account, ReadOptions, refuse_repeated
from diffuseq.errors import InputError

MOST_LINES = 20
"""Of a row with quoted fields, unless more are asked for: longer texts are rare, stray quotation marks are not."""
_DELIMITERS = (",", ";", "\t")
_TOLD = re.compile(r'("?)sep=(?P<delimiter>[^"\n])\1\n', re.IGNORECASE)
_NO_ACCIDENT = 4
"""So many delimiters on the lines of one row, each line with as many as a row has, are no accident of a text."""
_LONGEST_FIELD = 2**31 - 1
"""The csv module's largest limit everywhere; its usual one, 131,072 characters, is less than a text may have."""


class _StrayQuoteError(BadRowError):
    """A row in which a quotation mark encloses what it cannot have been meant for."""

    def __init__(self) -> None:
        super().__init__(
            "a quotation mark opens a field that does not end in one; in a quoted field write it twice, or pass "
            "--no-quotes (they are text) or --quoted-lines (a field has more lines)"
        )


def delimited_rows(
    path: Path, delimiter: str, options: ReadOptions, account: Account
) -> Iterator[tuple[str, dict[str, str]]]:
    """("file:line" of the first line, {column: cell}) of every row of a csv or tsv file, as a stream.

    delimiter: what separates the cells, unless the header has none but another (comma, semicolon, tab), or the line
    `sep=;` stands before it, with whatever sign.
    A row that cannot be used is one of the account's bad rows; after a stray quotation mark reading goes on with
    the line after its first. Raises `InputError` as the account and `refuse_repeated` do, and for `quoted_lines`
    below 1.
    """
    if options.quoted_lines is not None and options.quoted_lines < 1:
        raise InputError(f"quoted_lines is {options.quoted_lines}; give a number of lines of at least 1.")
    lines = _Lines(path)
    delimiter = lines.delimiter(delimiter)
    header: list[str] = []
    while row := lines.next_row(delimiter, options, len(header)):
        place, cells = row
        if isinstance(cells, BadRowError):
            account.bad_row(place, cells)
        elif not header:
            header = [cell.strip() for cell in cells]
            refuse_repeated(place, header, options)
        elif len(cells) == len(header):
            yield place, dict(zip(header, cells, strict=True))
        elif cells:
            reason = f"the row has {len(cells)} columns, the header {len(header)}"
            account.bad_row(place, BadRowError(reason))


class _Lines:
    """The lines of a file, of which some may be given back to be read once more."""

    def __init__(self, path: Path) -> None:
        self._file = numbered_lines(path)
        self._again: deque[tuple[str, bytes]] = deque()
        self._taken: list[tuple[str, bytes]] = []

    def delimiter(self, usual: str) -> str:
        """What separates the cells: what a first line says that Excel has for this alone (sep=;), else what there
        is in the header, the usual one if it is there at all."""
        header = ""
        with suppress(BadRowError):  # which is told when it is read as a row
            header = next(self._take(1), "")
        if told := _TOLD.fullmatch(header):
            return told["delimiter"]
        self._again.extend(self._taken)
        return next((each for each in (usual, *_DELIMITERS) if each in header), usual)

    def next_row(
        self, delimiter: str, options: ReadOptions, columns: int
    ) -> tuple[str, list[str] | BadRowError] | None:
        """("file:line", the cells of the next row, or why it has none); None at the end. columns: how many cells a
        row has; 0 where that is not known yet."""
        self._taken = []
        lines = self._take(options.quoted_lines or MOST_LINES)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if options.quotes else csv.QUOTE_NONE
        # of the whole process: put back when the row is read
        usual_limit = csv.field_size_limit(_LONGEST_FIELD)
        try:
            cells = next(csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True), None)
            if cells is None:
                return None
            if options.quoted_lines is None and self._look_like_rows(delimiter, columns):
                raise _StrayQuoteError
        except (csv.Error, BadRowError) as error:
            self._again.extendleft(reversed(self._taken[1:]))
            return self._taken[0][0], _reason(error)
        finally:
            csv.field_size_limit(usual_limit)
        return self._taken[0][0], cells

    def _take(self, most: int) -> Iterator[str]:
        """The next lines, each with its end, as the csv module asks for them. Raises `BadRowError` at one that is
        too long."""
        for _ in range(most):
            line = self._again.popleft() if self._again else next(self._file, None)
            if line is None:
                return
            self._taken.append(line)
            refuse_overlong(line[1])
            yield f"{line[1].decode('utf-8', 'surrogateescape')}\n"  # what is not UTF-8 is found cell by cell

    def _look_like_rows(self, delimiter: str, columns: int) -> bool:
        """Whether every line of a row of several would be a row by itself; texts do not have so many delimiters."""
        delimiters = len(self._taken) * (columns - 1)
        enough = 1 if delimiter == "\t" else _NO_ACCIDENT  # hardly any text has tabs at all
        return (
            len(self._taken) > 1
            and delimiters >= enough
            and all(line.count(delimiter.encode()) == columns - 1 for _, line in self._taken)
        )


def _reason(error: csv.Error | BadRowError) -> BadRowError:
    if isinstance(error, BadRowError):
        return error
    if "expected after" in str(error) or "unexpected end of data" in str(error):  # of strict quotation marks
        return _StrayQuoteError()
    if "new-line character" in str(error):  # a carriage return, for lines end in "\n" here
        return BadRowError(
            "a carriage return stands in the row; save the file with other line ends, or put the field in "
            "quotation marks"
        )
    return BadRowError(f"the row is not valid: {error}")
