"""How long does a command take to say what it can do? Both clis' --help against a bare Python start."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15


def seconds(*arguments: str) -> float:
    """Median wall time of `python arguments`."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    bare = seconds("-c", "pass")
    print(f"{'bare python':22} {bare * 1000:6.0f} ms")
    for package in ("pfgdata", "pfgtrain"):
        took = seconds("-m", package, "--help")
        print(f"{package + ' --help':22} {took * 1000:6.0f} ms   {took / bare:.1f} x bare")
