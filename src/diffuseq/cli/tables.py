"""Tables on the terminal, whatever its width, as `compare` and `bench` print them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from diffuseq.evaluation.tables import Cell, Table


def print_table(console: Console, table: Table, title: str) -> None:
    """One table, or several below one another where the terminal is too narrow for all columns."""
    for number, (part, widths) in enumerate(table.within(console.width)):
        console.print(_rich(part, widths, title if number == 0 else f"{title}, more columns"))


def _rich(table: Table, widths: Sequence[int], title: str) -> RichTable:
    shown = RichTable(title=escape(title), title_justify="left", title_style="bold")
    for number, (text, width) in enumerate(zip(table.header, widths, strict=True)):
        shown.add_column(
            escape(text), justify="left" if number == 0 else "right", overflow="fold", width=width
        )
    systems = len(table.rows) - table.yardsticks
    for number, row in enumerate(table.rows):
        shown.add_row(*map(_markup, row), style="dim" if number >= systems else "")
        if number == systems - 1 and table.yardsticks:
            shown.add_section()
    return shown


def _markup(cell: Cell) -> str:
    text = escape(cell.text)
    return f"[bold]{text}[/bold]" if cell.best else text + ("†" if cell.worse else "")
