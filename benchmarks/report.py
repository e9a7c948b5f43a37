"""How long does `pfgdata report` take over 598,016 rows of 80 tags, and how much memory?

The whole command, by the store that benchmarks/query.py makes once (PFG_BENCH_CACHE); its pictures do not
exist, so none is read. Memory is the process's own (RssAnon), without the files that it maps.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.query import made

ROWS, RUNS = 598_016, 5


def own_memory(process: subprocess.Popen[bytes]) -> int:
    """The largest RssAnon of a running process until it ends, in MB."""
    most = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        most = max([most, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
        time.sleep(0.02)
    return most // 1024


def main() -> None:
    """Print one line for the store, and one for a part of it."""
    home = Path(os.environ.get("PFG_BENCH_CACHE") or Path.home() / ".cache" / "pfg-bench")
    home.mkdir(parents=True, exist_ok=True)
    store = made(home, ROWS)
    print("| what | seconds | own memory, MB | page, kB |\n|---|---|---|---|")
    for name, more in (("all rows", []), ("width > 1000", ["--where", "width > 1000"])):
        took, memory = list[float](), list[int]()
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder, "report.html")
            words = [sys.executable, "-m", "pfgdata", "report", str(store.path), "-o", str(page), *more]
            for _ in range(RUNS):
                start = time.perf_counter()
                with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
                    memory.append(own_memory(process))
                took.append(time.perf_counter() - start)
            size = page.stat().st_size // 1000
        print(f"| {name} | {statistics.median(took):.1f} | {max(memory)} | {size} |", flush=True)


if __name__ == "__main__":
    main()
