"""`python -m pipelines.rehearsal`: Ctrl-C ends it from its first moments on."""

from __future__ import annotations

from pfgdata.interrupts import end_on_interrupt


def main() -> None:
    """Run it with the process's arguments, and exit."""
    end_on_interrupt()
    from pipelines.rehearsal.cli import main as run

    run()


if __name__ == "__main__":
    main()
