"""600,000 rows in a real browser: the right pictures anywhere, few requests, little memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pfgdata.web.chromium.pages import Page
from tests.pfgdata.web.chromium.wide import WIDE_ROWS

pytestmark = pytest.mark.browser

Timings = Callable[[str, float, str], None]

# What the seen thumbnails show: their row numbers, read back from their pixels, and what is not there yet.
_SEEN = """
const grid = document.querySelector('.grid');
if (!grid) return { waiting: 1, rows: [], wrong: [] };
const box = grid.getBoundingClientRect();
const canvas = document.createElement('canvas');
Object.assign(canvas, { width: 40, height: 32 });
const context = canvas.getContext('2d', { willReadFrequently: true });
const found = { waiting: 0, rows: [], wrong: [] };
for (const cell of grid.querySelectorAll('.cell')) {
  const { top, bottom } = cell.getBoundingClientRect();
  if (bottom <= box.top || top >= box.bottom) continue;
  if (!cell.matches('.ready')) { found.waiting += 1; continue; }
  context.drawImage(cell.querySelector('img'), 0, 0, 40, 32);
  const { data } = context.getImageData(0, 0, 40, 32);
  let row = 0;
  for (let bit = 0; bit < 20; bit += 1) {
    const at = (Math.floor(bit / 5) * 8 + 4) * 40 + (bit % 5) * 8 + 4;
    if (data[at * 4] > 127) row += 2 ** bit;
  }
  found.rows.push(row);
  if (row !== Number(cell.dataset.row)) found.wrong.push([Number(cell.dataset.row), row]);
}
return found;
"""
_LAYOUT = """
const cells = [...document.querySelectorAll('.cell')];
const tops = [...new Set(cells.map((cell) => cell.offsetTop))].sort((one, two) => one - two);
return [cells.filter((cell) => cell.offsetTop === tops[1]).length, tops[1] - tops[0]];
"""
_JUMP = """
const grid = document.querySelector('.grid');
grid.scrollTop = arguments[0] * (grid.scrollHeight - grid.clientHeight);
"""
# Through the whole list in 120 frames, as a dragged scrollbar goes.
_DRAG = """
const [done] = arguments;
const grid = document.querySelector('.grid');
let frame = 0;
const step = () => {
  grid.scrollTop = (frame / 120) * (grid.scrollHeight - grid.clientHeight);
  frame += 1;
  if (frame <= 120) requestAnimationFrame(step); else done();
};
step();
"""
# A fifth of a page further in every frame: pictures are asked for and scrolled past.
_ROLL = """
const [frames, done] = arguments;
const grid = document.querySelector('.grid');
let frame = 0;
const step = () => {
  grid.scrollTop += grid.clientHeight / 5;
  frame += 1;
  if (frame <= frames) requestAnimationFrame(step); else done();
};
step();
"""


def seen(page: Page, fits: Callable[[list[int]], bool]) -> list[int]:
    """The rows of the seen thumbnails, once all are there and `fits`; each shows the row it stands for."""

    def there() -> Any:
        found = page.js(_SEEN)
        return found if not found["waiting"] and found["rows"] and fits(found["rows"]) else None

    found = page.until(there)
    assert found["wrong"] == []
    return sorted(found["rows"])


def jump(page: Page, place: float) -> list[int]:
    """Go to `place` (0..1) of the scrollbar, and see what is there."""
    page.js(_JUMP, place)
    near = place * (WIDE_ROWS - 1)
    return seen(page, lambda rows: min(rows) - 400 <= near <= max(rows) + 400)


def most_under_way(page: Page) -> int:
    """Of rows and thumbnails, at any moment since the log was last read, by the browser's own account."""
    under_way: set[str] = set()
    most = 0
    for entry in page.log("performance"):
        message = json.loads(entry["message"])["message"]
        method, values = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            if any(part in values["request"]["url"] for part in ("/thumb/", "/api/rows/")):
                under_way.add(values["requestId"])
                most = max(most, len(under_way))
        elif method in ("Network.loadingFinished", "Network.loadingFailed"):
            under_way.discard(values["requestId"])
    return most


def test_the_first_pictures_are_there_soon(wide: Page, timings: Timings) -> None:
    begun = time.perf_counter()
    wide.driver.get("about:blank")
    wide.driver.get(wide.address)
    rows = seen(wide, lambda rows: min(rows) == 0)
    timings("first pictures of 600,000", time.perf_counter() - begun, "s")
    painted = wide.js("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    timings("first paint", painted / 1000, "s")
    assert rows == list(range(len(rows)))
    assert wide.count() == WIDE_ROWS


def test_any_place_of_the_scrollbar_shows_its_own_pictures(wide: Page, timings: Timings) -> None:
    wide.open()
    assert wide.js("return document.querySelector('.spacer').offsetHeight") <= 7_000_000
    slowest = 0.0
    for place in (0.5, 0.123, 0.9, 0.31, 0.77, 0.01, 0.999, 0.6666):
        begun = time.perf_counter()
        rows = jump(wide, place)
        slowest = max(slowest, time.perf_counter() - begun)
        assert rows == list(range(rows[0], rows[0] + len(rows)))
    timings("slowest of eight jumps", slowest, "s")


def test_the_last_row_is_reached_by_the_scrollbar_and_by_the_end_key(wide: Page) -> None:
    wide.open()
    assert jump(wide, 1)[-1] == WIDE_ROWS - 1
    jump(wide, 0)
    wide.grid_keys("\ue010")  # End
    assert seen(wide, lambda rows: max(rows) == WIDE_ROWS - 1)
    assert wide.cursor() == WIDE_ROWS - 1
    wide.grid_keys("\ue011")  # Home
    assert seen(wide, lambda rows: min(rows) == 0)[0] == 0


def test_small_steps_move_by_their_pixels_also_where_the_scrollbar_is_a_ratio(wide: Page) -> None:
    wide.open()
    wide.js("document.querySelector('.grid').scrollTop = 3000000")
    before = seen(wide, lambda rows: min(rows) > 100_000)
    columns, line = wide.js(_LAYOUT)
    wide.js("document.querySelector('.grid').scrollTop += arguments[0]", 5 * line)
    after = seen(wide, lambda rows: min(rows) > before[0] + 3 * columns)
    assert 4 <= (after[0] - before[0]) / columns <= 6  # by ratio it were some nine


def test_a_dragged_scrollbar_is_no_storm_of_requests(wide: Page, timings: Timings) -> None:
    wide.open()
    most_under_way(wide)
    asked = wide.requests.count("/thumb/") + wide.requests.count("/api/rows/")
    wide.driver.execute_async_script(_DRAG)
    seen(wide, lambda rows: max(rows) == WIDE_ROWS - 1)
    asked = wide.requests.count("/thumb/") + wide.requests.count("/api/rows/") - asked
    timings("requests of a drag through all", asked, "requests")
    assert asked < 400  # 120 places were passed, each of some 25 pictures
    assert most_under_way(wide) <= 6


def test_a_minute_of_scrolling_keeps_the_tab_small(wide: Page, timings: Timings) -> None:
    wide.open()
    wide.js(_JUMP, 0.4)
    begun, frames = time.perf_counter(), 0
    while time.perf_counter() - begun < 60:
        wide.driver.execute_async_script(_ROLL, 100)
        frames += 100
    timings("frames of a minute's scrolling", frames, "frames")
    rows = seen(wide, lambda rows: len(rows) > 10)
    assert rows[0] > 0.4 * WIDE_ROWS
    assert most_under_way(wide) <= 6
    wide.driver.execute_cdp_cmd("Performance.enable", {})
    wide.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    metrics = {
        one["name"]: one["value"]
        for one in wide.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    }
    timings("heap of the tab", metrics["JSHeapUsedSize"] / 1e6, "MB")
    whole = largest_tab(wide.driver.service.process.pid)
    timings("whole process of the tab", whole / 1e6, "MB")
    assert whole < 400e6
    assert metrics["Nodes"] < 20_000


def largest_tab(pid: int) -> int:
    """Bytes of memory of the largest chromium process below `pid` that draws a page, shared ones by part."""
    largest = 0
    for child in [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]:
        if b"--type=renderer" in Path(f"/proc/{child}/cmdline").read_bytes():
            lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
            shared = int(next(line.split()[1] for line in lines if line.startswith("Pss:")))
            largest = max(largest, 1024 * shared)
        largest = max(largest, largest_tab(int(child)))
    return largest


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


def test_a_range_is_of_the_answer_that_was_clicked_also_when_another_comes(wide: Page) -> None:
    wide.open()
    seen(wide, lambda rows: min(rows) == 0)
    jump(wide, 15_000 / WIDE_ROWS)
    last = wide.js(_SHIFT_CLICK_AND_ASK)
    marked = wide.until(
        lambda: wide.js(
            "return [...document.querySelectorAll('.marksbar .selected b')].map((b) => b.innerText)"
        )
    )
    assert marked == [f"{last + 1:,} images"]
    answer = wide.json("/api/select")["id"]
    rows = []
    for start in range(0, last + 1, 512):
        rows += wide.json(f"/api/rows/{answer}?start={start}&count=512")["rows"]
    kept = wide.js(
        "return JSON.parse(Object.entries(sessionStorage).find(([key]) => key.startsWith('pfg-marks'))[1])"
    )
    assert kept["selected"] == [row[0] for row in rows[: last + 1]]
    wide.js("sessionStorage.clear()")


# A Shift-click on the last cell that is drawn, its rows not yet fetched, and at once another question.
_SHIFT_CLICK_AND_ASK = """
const cells = [...document.querySelectorAll('.cell[data-image]')];
const last = cells.sort((one, two) => one.dataset.row - two.dataset.row).at(-1);
last.dispatchEvent(new MouseEvent('click', { shiftKey: true, bubbles: true }));
history.pushState(null, '', '/?where=width+%3D+1');
window.dispatchEvent(new PopStateEvent('popstate'));
return Number(last.dataset.row);
"""


def test_rows_that_the_server_forgot_are_asked_for_again(wide: Page) -> None:
    wide.open()
    for width in range(10):  # it keeps the last few selections
        wide.json(f"/api/select?where=width%20%3E%20{width}")
    assert jump(wide, 0.25)
    assert not wide.all(".trouble")
