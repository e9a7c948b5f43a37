"""How a command of the pipelines ends that is read by argparse: as the product's own do, by `run_app`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pfgdata.errors import PfgError
from pfgdata.interrupts import INTERRUPTED, raise_on_interrupt
from pfgdata.screen import FIXABLE, one_line_error

__all__ = ["ended"]


def ended(work: Callable[[], object]) -> int:
    """Do `work`; the exit code: 0 done, 1 a user can fix it, 130 interrupted, the last two with a line."""
    try:
        with raise_on_interrupt():
            work()
    except (PfgError, OSError, MemoryError) as error:
        print(one_line_error(error), file=sys.stderr)
        return FIXABLE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0
