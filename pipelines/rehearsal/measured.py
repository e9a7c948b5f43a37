"""A command of the product in a process of its own: how long it took, the most memory it held, what it wrote.

Its peak is what the kernel counted of that process; mapped files in memory are in it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfgdata.errors import ConfigError

__all__ = ["Measured", "folder_bytes", "measured"]

_WATCH = """
import json, os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[2:]], os.environ)
_, status, used = os.wait4(pid, 0)
told = [os.waitstatus_to_exitcode(status), used.ru_maxrss, used.ru_utime + used.ru_stime]
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""  # a small process between: the kernel counts what a parent held at the fork as its child's (tried)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A step that has run. `memory` is None where the system does not count it."""

    seconds: float
    cpu_seconds: float
    memory: int | None
    output: str

    @property
    def last(self) -> Any:
        """The last line of its output, read as JSON."""
        return json.loads(self.output.strip().splitlines()[-1])


def measured(arguments: Sequence[str], *, log: Path) -> Measured:
    """Run `python ARGUMENTS`; what it says goes to `log`. Raises ConfigError with its last words."""
    said, usage = log.with_suffix(".out"), log.with_suffix(".usage")
    started = time.perf_counter()
    with said.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", _WATCH, str(usage), *arguments],
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            process.wait()
        except BaseException:  # also Ctrl-C: nothing of ours goes on alone
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    code, most, seconds = (
        json.loads(usage.read_text("utf-8")) if usage.is_file() else (process.returncode, 0, 0)
    )
    if code:
        last = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()][-1:]
        why = last[0] if last else "it said nothing"
        raise ConfigError(f"{' '.join(arguments[:3])} ended with {code}: {why} (see {log})")
    return Measured(
        seconds=time.perf_counter() - started,
        cpu_seconds=seconds,
        memory=most * (1 if sys.platform == "darwin" else 1024),
        output=said.read_text("utf-8"),
    )


def folder_bytes(path: Path) -> int:
    """Bytes of the files below a folder; 0 if it is not there."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
