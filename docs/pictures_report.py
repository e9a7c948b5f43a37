"""Makes docs/pictures/report.webp: the top of a report of the demo corpus, in light and dark.

`python -m docs.pictures_report`; it ingests 240 images and needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image

from docs.chromium import chromium
from pfgdata.screen import run_app

__all__ = ["TARGET", "draw_report"]

TARGET = Path(__file__).parent / "pictures" / "report.webp"
IMAGES = Path(__file__).parent.parent / "pipelines" / "demo" / "images"
_SIZE = (1280, 1100)


def draw_report(target: Path = TARGET) -> None:
    """Write the picture: the left half as a light system shows the page, the right half as a dark one."""
    with tempfile.TemporaryDirectory() as folder:
        page, store = Path(folder, "report.html"), Path(folder, "demo")
        for arguments in (
            ["ingest", str(IMAGES), "--tagger", "demo", "--store", str(store)],
            ["report", str(store), "-o", str(page)],
        ):
            _run(arguments)
        light, dark = (_seen(page, scheme) for scheme in ("light", "dark"))
    middle = (light.width // 2, 0, light.width, light.height)
    light.paste(dark.crop(middle), middle)
    light.save(target, "WEBP", quality=80, method=6)


def _run(arguments: list[str]) -> None:
    from pfgdata.cli import app

    try:
        run_app(app, args=arguments, name="pfgdata")
    except SystemExit as leaving:
        if leaving.code:
            raise


def _seen(page: Path, scheme: str) -> Image.Image:
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile), size=_SIZE, exact=True) as browser:
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
        browser.get(page.as_uri())
        return Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")


if __name__ == "__main__":
    draw_report()
