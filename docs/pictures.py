"""Makes the pictures of the browse page in docs/pictures/: `python -m docs.pictures`.

The demo corpus is ingested anew and shown in Debian's chromium: the pictures are of what the code does now.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from docs.chromium import chromium
from pfgdata.store import Store
from pfgdata.web import DeskOptions, browse_app, serving

if TYPE_CHECKING:
    from selenium import webdriver

__all__ = ["main"]

HERE = Path(__file__).parent
CORPUS = "pipelines/demo/images"  # from the repository, as the pictures show it
SIZE = (1280, 800)  # of the window
QUALITY = 82  # under 100 kB each
_SETTLED = """
const page = document.querySelector('.page');
const images = [...document.querySelectorAll('.cell img, .picture img, .likes img, .zoom img')];
return page?.dataset.busy === 'false' && !document.querySelector('.facet[data-busy=true]')
  && images.length > 5
  && images.every((image) => image.complete || image.getBoundingClientRect().top > innerHeight);
"""


def _until(driver: webdriver.Chrome, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 60, 0.1).until(lambda there: there.execute_script(script))


def _take(driver: webdriver.Chrome, name: str) -> None:
    _until(driver, _SETTLED)
    driver.execute_script("document.activeElement.blur()")
    target = HERE / "pictures" / f"{name}.webp"
    with Image.open(io.BytesIO(driver.get_screenshot_as_png())) as shot:
        shot.convert("RGB").save(target, quality=QUALITY, method=6)
    print(f"{target.name}  {target.stat().st_size / 1000:.0f} kB")


def _browse(driver: webdriver.Chrome, address: str) -> None:
    """An image beside the grid, by day; a pair of variants, by night."""
    driver.get(f"{address}?where=has('glasses') AND NOT has('hat')")
    _until(driver, "return document.querySelectorAll('.cell.ready').length > 9")
    driver.execute_script("document.querySelectorAll('.cell')[4].click()")
    _until(driver, "return document.querySelector('.picture.ready') && document.querySelector('.likes li')")
    _take(driver, "browse")
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    driver.get(f"{address}?tags=smile#duplicates")
    _until(driver, "return document.querySelector('.count[data-count]')")
    driver.execute_script("document.querySelector('.start .main').click()")
    _until(driver, "return document.querySelector('.zoom img')?.naturalWidth")
    _take(driver, "browse-dark")


def main() -> None:
    """Write docs/pictures/browse.webp and browse-dark.webp."""
    with tempfile.TemporaryDirectory() as folder:
        feats = Path(folder) / "feats"
        words = [sys.executable, "-m", "pfgdata", "ingest", CORPUS, "--tagger", "demo", "--store", str(feats)]
        subprocess.run(words, check=True, cwd=HERE.parent, stderr=subprocess.DEVNULL)
        app = browse_app(Store.open(feats), DeskOptions())
        with serving(app) as place, chromium(Path(folder) / "profile", size=SIZE, exact=True) as driver:
            _browse(driver, place.address)


if __name__ == "__main__":
    main()
