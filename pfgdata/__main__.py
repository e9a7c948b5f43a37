"""`python -m pfgdata`: the same as the command `pfgdata`."""

from __future__ import annotations

from pfgdata.cli import main

if __name__ == "__main__":
    main()
