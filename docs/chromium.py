"""Debian's chromium, headless, by selenium: for docs/pictures/ and the tests marked `browser`.

Both programs are named by path, for selenium's own manager downloads what it does not find.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

__all__ = ["chromium", "missing"]

_CHROMIUM, _DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
)


def missing() -> str | None:
    """What has to be installed first; None where all is there."""
    if _CHROMIUM.exists() and _DRIVER.exists():
        return None
    return "Debian's chromium and chromium-driver are not installed (apt install chromium chromium-driver)"


@contextmanager
def chromium(
    profile: Path, *, size: tuple[int, int], logs: Sequence[str] = (), exact: bool = False
) -> Iterator[webdriver.Chrome]:
    """A browser whose window has `size`, with a fresh profile in the folder `profile`.

    With `exact` the page itself has that size, without scrollbars, as pictures want it. `logs` are kept.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = str(_CHROMIUM)
    beside = [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}"]
    for flag in (*_FLAGS, *beside, *(["--hide-scrollbars"] if exact else [])):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", dict.fromkeys(logs, "ALL"))
    driver = webdriver.Chrome(options=options, service=Service(str(_DRIVER)))
    try:
        if exact:
            metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield driver
    finally:
        driver.quit()
