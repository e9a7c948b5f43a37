"""The command `pfgdata`: each command parses, makes one library call, and prints.

Libraries are imported inside the commands, so `pfgdata --help` answers in about 0.27 s; 0.17 s of them are
what typer and rich import.
"""

from __future__ import annotations

from pfgdata.cli.app import app, main

__all__ = ["app", "main"]
