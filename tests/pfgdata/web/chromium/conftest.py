"""What the browser tests start from: a chromium, a store of real pictures, and one of 600,000 rows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver

from pfgdata.store import Store
from pfgdata.web import DeskOptions, browse_app, serving
from tests.chromium import browser_for_tests
from tests.pfgdata.web.chromium.pages import Page, Requests
from tests.pfgdata.web.chromium.wide import wide_store

IMAGES = Path(__file__).parents[4] / "pipelines" / "demo" / "images"
MARKUP = "<img src=x onerror=document.title='run'>'.png"  # a file's name that must stay text
COPIES = ("open-peeps", "lorelei", "notionists")  # one picture of each is there twice


@pytest.fixture(scope="session")
def timings(pytestconfig: pytest.Config) -> Iterator[Callable[[str, float, str], None]]:
    """Records what something took, for RESULTS.md; nothing is asserted of it."""
    told: list[str] = []
    yield lambda what, value, unit: told.append(f"{what}: {value:.2f} {unit}")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + "\n".join(told))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Debian's chromium, headless, with a fresh profile."""
    yield from browser_for_tests(tmp_path_factory.mktemp("profile"), logs=("browser", "performance"))


@contextmanager
def opened(driver: webdriver.Chrome, store: Store) -> Iterator[Page]:
    """The page of `store` in the browser, its storage empty; at the end nothing may have gone wrong in it."""
    requests = Requests(browse_app(store, DeskOptions()))
    with serving(requests) as place:
        page = Page(driver, place.address, store, requests)
        page.forget()
        yield page
        page.leave()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo corpus, three pictures of it smaller once more, and one whose name is markup."""
    folder = tmp_path_factory.mktemp("pictures")
    shutil.copytree(IMAGES, folder / "images")
    for style in COPIES:
        first = min((folder / "images" / style).rglob("*.*"))
        with Image.open(first) as image:
            image.convert("RGB").resize((200, 200)).save(folder / "images" / style / "copy.png")
    Image.new("RGB", (64, 48), (200, 30, 90)).save(folder / "images" / MARKUP)
    words = ["ingest", str(folder / "images"), "--tagger", "demo", "--store", str(folder / "feats")]
    subprocess.run([sys.executable, "-m", "pfgdata", *words], check=True, capture_output=True)
    return folder


@pytest.fixture
def page(chromium: webdriver.Chrome, pictures: Path, tmp_path: Path) -> Iterator[Page]:
    """The page of the test's own copy of that store."""
    shutil.copytree(pictures / "feats", tmp_path / "feats")
    with opened(chromium, Store.open(tmp_path / "feats")) as there:
        yield there


@pytest.fixture(scope="session")
def wide(chromium: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of 600,000 rows, whose tar was looked into once: the first picture waits for its index."""
    store = wide_store(tmp_path_factory.mktemp("wide"))
    with opened(chromium, store) as page:
        _warm(page)
        yield page


def _warm(page: Page) -> None:
    first = page.json("/api/rows/" + page.json("/api/select")["id"] + "?start=0&count=1")["rows"][0][0]
    until = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(f"{page.address}thumb/{first}.jpg", timeout=180):
                return
        except OSError:
            if time.monotonic() > until:
                raise
