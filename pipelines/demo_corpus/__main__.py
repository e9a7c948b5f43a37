"""`python -m pipelines.demo_corpus`: Ctrl-C ends it from its first moments on."""

from __future__ import annotations

import sys

from pfgdata.interrupts import end_on_interrupt


def main() -> int:
    """Run it with the process's arguments; the exit code."""
    end_on_interrupt()
    from pipelines.demo_corpus.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
