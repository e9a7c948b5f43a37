"""The command `pfgtrain`: a command parses, turns names into objects, makes one library call, and prints.

Torch and diffusers are imported inside the commands, so `pfgtrain --help` answers in about 0.2 s. Of several
processes (accelerate launch) only the first prints.
"""

from __future__ import annotations

from pfgtrain.cli.app import app, main

__all__ = ["app", "main"]
