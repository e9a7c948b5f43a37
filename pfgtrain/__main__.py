"""The command `pfgtrain`, and `python -m pfgtrain`: Ctrl-C ends it from its first moments on."""

from __future__ import annotations

from pfgdata.interrupts import end_on_interrupt


def main() -> None:
    """Run it with the process's arguments, and exit."""
    end_on_interrupt()
    from pfgtrain.cli import main as run  # 0.1 s of imports

    run()


if __name__ == "__main__":
    main()
