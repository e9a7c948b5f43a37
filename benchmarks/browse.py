"""How long does the browse page wait for each answer, over 598,016 rows, and what does the server hold?

Over HTTP on this machine, through the guard, against the synthetic store of benchmarks/query.py (80 tags a
row). Each line asks for something new each time, so nothing is answered from what was asked before.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.query import made
from pfgdata.web import DeskOptions, ServeOptions, browse_app, serving

ROUNDS = 7


class Page:
    """Asks as the page does, and times it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self.ms = 0.0  # of the last answer

    def ask(self, path: str, **query: object) -> Any:
        """The JSON of an answer."""
        begun = time.perf_counter()
        self._connection.request("GET", f"{path}?{urlencode(query)}")
        answer = self._connection.getresponse()
        data = answer.read()
        self.ms = (time.perf_counter() - begun) * 1000
        if answer.status != 200:
            sys.exit(f"{path} {query}: {data!r}")
        return json.loads(data)

    def facet(self, name: str, **asked: object) -> dict[str, Any]:
        """A facet of a selection that is asked for first, and not timed."""
        chosen = self.ask("/api/select", **asked)
        return {**self.ask(f"/api/facets/{chosen['id']}", facet=name), "rows": chosen["count"]}


def anonymous() -> float:
    """Megabytes of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))


def line(page: Page, name: str, act: Callable[[int], Any]) -> None:
    """Print the median and the highest of some answers; of a facet, of how many rows it was."""
    took, last = [], None
    for number in range(ROUNDS):
        last = act(number)
        took.append(page.ms)
    more = f", {last['rows']:,} rows" if isinstance(last, dict) and "facet" in last else ""
    sampled = ", sampled" if isinstance(last, dict) and last.get("approximate") else ""
    print(f"| {name}{more}{sampled} | {statistics.median(took):.1f} | {max(took):.1f} |", flush=True)


def wide_facet(page: Page, name: str, number: int) -> dict[str, Any]:
    """A facet of nearly all rows."""
    return page.facet(name, where=f"width > {200 + number}")


def main() -> None:
    """Print a table of milliseconds, and the memory."""
    cache = Path(os.environ.get("PFG_BENCH_CACHE", Path.home() / ".cache" / "pfg-bench"))
    cache.mkdir(parents=True, exist_ok=True)
    store = made(cache, 600_000)
    before, begun = anonymous(), time.perf_counter()
    with serving(browse_app(store, DeskOptions()), ServeOptions(port=0)) as place:
        print(f"listens after {time.perf_counter() - begun:.1f} s")
        page = Page(place.port)
        page.ask("/api/store")
        every = page.ask("/api/select")
        page.ask(f"/api/rows/{every['id']}", count=512)
        print(f"the first rows are there {time.perf_counter() - begun:.1f} s after the start")
        page.facet("tags")  # waits until all is warm
        print("| what | ms | highest |\n|---|---|---|")
        line(page, "select all", lambda n: page.ask("/api/select"))
        line(page, "select `has(a)`", lambda n: page.ask("/api/select", where=f"has('tag_{n + 20}')"))
        ordered = {"order": "-width"}
        line(page, "select by width", lambda n: page.ask("/api/select", where=f"width > {n}", **ordered))
        over = [{"where": f"has('tag_{n + 20}')", "threshold": 0.4 + n / 100} for n in range(ROUNDS)]
        line(page, "count at another threshold", lambda n: page.ask("/api/count", **over[n]))
        for name in ("rating", "character", "size", "bucket", "tags"):
            line(page, f"facet {name}", partial(wide_facet, page, name))
        line(page, "facet tags", lambda n: page.facet("tags", where=f"has('tag_{n + 20}')"))
        line(page, "facet tags", lambda n: page.facet("tags", where=f"width BETWEEN {900 + n} AND {910 + n}"))
        path = f"/api/rows/{page.ask('/api/select')['id']}"
        line(page, "512 rows", lambda n: page.ask(path, start=80_000 * n, count=512))
        ids = [row[0] for row in page.ask(path, start=300_000, count=512)["rows"]]
        line(page, "one image", lambda n: page.ask(f"/api/image/{ids[n * 50]}"))
        completed = {"language": "sql"}
        line(page, "completion", lambda n: page.ask("/api/complete", text=f"has('tag_{n}", **completed))
        print(f"anonymous memory {anonymous():.0f} MB, {before:.0f} before the server")


if __name__ == "__main__":
    main()
