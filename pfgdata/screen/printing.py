"""Results on stdout, facts for people on stderr: tables, JSON, lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from pfgdata.paths import is_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "console_on",
    "duration",
    "on_terminal",
    "print_json",
    "print_line",
    "printable",
    "show_facts",
    "show_table",
]


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, stream: IO[str] | None = None
) -> None:
    """Print rows of text: drawn to the width of a terminal, else tab-separated with a header line."""
    stream = stream or sys.stdout
    if not stream.isatty():
        for row in (columns, *rows):
            print("\t".join(printable(cell) for cell in row), file=stream)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    texts = [[Text(printable(cell)) for cell in row] for row in rows]
    console = console_on(stream)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        longest = max((row[index].cell_len for row in texts), default=0)
        # the first column, a file, is broken last: it is what people copy
        table.add_column(
            name, overflow="fold", min_width=min(longest, console.width // 3) if not index else None
        )
    for line in texts:
        table.add_row(*line)
    console.print(table)


def show_facts(facts: Mapping[str, object], *, stream: IO[str] | None = None) -> None:
    """Print names and values for people, aligned, on stderr."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {printable(str(value))}", file=stream or sys.stderr)


def on_terminal() -> bool:
    """Whether stdout is a terminal, which obeys escape sequences."""
    return sys.stdout.isatty()


def print_line(text: object) -> None:
    """Print a line of a result on stdout: exact into a pipe or file, `printable` on a terminal."""
    print(printable(str(text)) if on_terminal() else text)


def print_json(value: Any) -> None:
    r"""Print `value` as JSON on a line of stdout, NaN as null; on a terminal controls stand as `\uNNNN`."""
    import json

    line = json.dumps(value, ensure_ascii=False, default=str)
    if "NaN" in line or "Infinity" in line:
        line = json.dumps(json.loads(line, parse_constant=lambda _: None), ensure_ascii=False)
    if on_terminal() or not is_text(line):
        line = "".join(letter if letter.isprintable() else _json_escape(letter) for letter in line)
    print(line)


def printable(text: str) -> str:
    r"""`text` on one line: control characters, and bytes that are no text, as `\xNN`."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def duration(seconds: float) -> str:
    """`seconds` for people: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _json_escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def console_on(stream: IO[str]) -> Console:
    """Rich's console, which takes no markup from names of files."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False)
