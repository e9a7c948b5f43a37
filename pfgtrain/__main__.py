"""`python -m pfgtrain`: the same as the command `pfgtrain`."""

from __future__ import annotations

from pfgtrain.cli import main

if __name__ == "__main__":
    main()
