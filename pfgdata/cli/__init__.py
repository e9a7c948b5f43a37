"""The command `pfgdata`: each command parses, makes one library call, and prints.

Libraries are imported inside the commands, so `pfgdata --help` answers in about 0.15 s.
"""

from __future__ import annotations

from pfgdata.cli.app import app, main

__all__ = ["app", "main"]
