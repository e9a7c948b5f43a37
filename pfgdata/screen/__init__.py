"""The terminal, for both clis: progress with rate and ETA, tables, an error as one line, exit codes.

Results pipe through stdout, words for people go to stderr; control characters in names of files are escaped.
"""

from __future__ import annotations

from pfgdata.screen.printing import (
    duration,
    on_terminal,
    print_json,
    print_line,
    printable,
    show_facts,
    show_table,
)
from pfgdata.screen.progress import ScreenProgress
from pfgdata.screen.running import FIXABLE, make_app, one_line_error, run_app

__all__ = [
    "FIXABLE",
    "ScreenProgress",
    "duration",
    "make_app",
    "on_terminal",
    "one_line_error",
    "print_json",
    "print_line",
    "printable",
    "run_app",
    "show_facts",
    "show_table",
]
