"""Writes docs/pictures/web.webp, the page that draws, with the demo run: `python -m docs.pictures_web`.

It needs the extra `ci`, and Debian's chromium and chromium-driver; a minute on two cores.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from docs.chromium import chromium
from pfgdata.hub import resolve
from pfgdata.records import Progress
from pfgdata.web import ServeOptions, serving
from pfgtrain.checkpoint import Sampling
from pfgtrain.generate import GenerateJob, PFGModel, run_model
from pfgtrain.web import RULES, Desk, drawing_app

__all__ = ["TARGET", "main"]

TARGET = Path(__file__).parent / "pictures" / "web.webp"
SIZE = (1440, 900)  # of the window, in pixels
GUIDES = ("orange-hair", "pink-hair", "teal-hair")


def main() -> None:
    """Draw three of the guides to try, and write what a browser shows."""
    with tempfile.TemporaryDirectory() as folder:
        desk = _desk(Path(folder))
        with serving(drawing_app(desk), ServeOptions(port=0, rules=RULES)) as place:
            desk.start()
            Image.open(io.BytesIO(_shot(place.address))).convert("RGB").save(TARGET, quality=82, method=6)
        desk.stop()
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


def _desk(folder: Path) -> Desk:
    run = resolve("demo", what="run").folder
    job = GenerateJob(device="cpu")

    def load(progress: Progress) -> PFGModel:
        return run_model(run, job, progress=progress)

    return Desk(folder / "pfg-web", load, job=job, run="demo", kept=Sampling.read(run))


def _shot(address: str) -> bytes:
    """A PNG of the page with the three drawings on it."""
    with chromium(Path(tempfile.mkdtemp()), size=SIZE, exact=True) as driver:
        driver.get(address)
        find = driver.find_elements
        _until(lambda: find("css selector", "#model[data-state='ready']"))
        for number, name in enumerate(GUIDES, start=1):
            find("css selector", f".sample[title='{name}.webp']")[0].click()
            _until(partial(lambda least: len(find("css selector", ".guide .bar")) >= least, 6 * number))
        find("css selector", "#draw")[0].click()
        _until(lambda: len(find("css selector", ".frame img")) == 4 * len(GUIDES))
        time.sleep(1)
        driver.execute_script("document.getElementById('folder').textContent = 'pfg-web'")
        return bytes(driver.get_screenshot_as_png())


def _until(there: Callable[[], Any], *, seconds: float = 180) -> None:
    ends = time.monotonic() + seconds
    while not there():
        if time.monotonic() > ends:
            raise TimeoutError("the page did not come so far")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
