"""The browse page as a test drives it: what a person sees and does; it waits on conditions, never on time."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    JavascriptException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from pfgdata.store import Store

if TYPE_CHECKING:
    from selenium import webdriver
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Page", "Requests"]

HANG = 60  # seconds: what takes longer hangs
_NOT_YET = [
    ElementClickInterceptedException,
    ElementNotInteractableException,
    JavascriptException,
    StaleElementReferenceException,  # drawn anew meanwhile
    IndexError,
]


class Requests:
    """ASGI: counts what passes to `app`, by the first two parts of its path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = threading.Lock()
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._lock:
            self.paths.append(scope.get("path", ""))
        await self._app(scope, receive, send)

    def count(self, prefix: str) -> int:
        """How many came so far whose path begins so."""
        with self._lock:
            return sum(path.startswith(prefix) for path in self.paths)


class Page:
    """One store's page in `driver`."""

    def __init__(self, driver: webdriver.Chrome, address: str, store: Store, requests: Requests) -> None:
        self.driver = driver
        self.address = address
        self.store = store
        self.requests = requests

    def open(self, path: str = "") -> None:
        """Load the page as if its address was typed, and wait until it shows its images."""
        self.driver.get("about:blank")
        self.driver.get(self.address + path)
        self.until_shown()

    def until_shown(self) -> None:
        self.until(lambda: self.js("return document.querySelector('.page')?.dataset.busy") == "false")
        self.until(lambda: not self.js(_WAITING))

    def forget(self) -> None:
        """Drop what the browser kept of earlier tests."""
        self.driver.get("about:blank")
        self.driver.get(self.address + "static/icon.svg")
        self.js("sessionStorage.clear(); localStorage.clear()")
        self.log("browser")

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What the browser wrote down since the last time: "browser" (its console) or "performance"."""
        return list(self.driver.get_log(kind))

    def leave(self) -> None:
        """Nothing of the page broke, and no rule of its content-security policy was touched."""
        self.driver.get("about:blank")
        messages = [entry["message"] for entry in self.log("browser")]
        assert not [text for text in messages if "Content Security Policy" in text or "Uncaught" in text], (
            messages
        )

    def until(self, condition: Callable[[], Any]) -> Any:
        """What `condition` says once it says something true; nodes may be drawn anew meanwhile."""
        wait = WebDriverWait(self.driver, HANG, 0.02, _NOT_YET)
        try:
            return wait.until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"waited {HANG} s; the page shows: {self._state()}") from None

    def _state(self) -> str:
        said = [entry["message"] for entry in self.log("browser")]
        return (
            f"{self.driver.current_url}\n{self.js('return document.body.innerText.slice(0, 2000)')}\n{said}"
        )

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def json(self, path: str) -> Any:
        """What the server answers to a GET."""
        with urllib.request.urlopen(self.address.rstrip("/") + path, timeout=HANG) as answer:
            return json.loads(answer.read())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The element of that selector, once it is there."""
        return self.until(lambda: self.all(selector))[0]

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def click(self, selector: str) -> None:
        """Click the element, once it is there and can be clicked."""

        def clicked() -> bool:
            if not self.all(selector)[0].is_enabled():
                return False
            self.all(selector)[0].click()
            return True

        self.until(clicked)

    def keys(self, *keys: str) -> None:
        """Press keys where the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def grid_keys(self, *keys: str) -> None:
        self.one(".grid").send_keys(*keys)

    def type(self, selector: str, *keys: str) -> None:
        """Type into a field, once it is there and can be typed into."""
        self.until(lambda: self.one(selector).is_displayed())
        self.one(selector).send_keys(*keys)

    def search(self, text: str, *, language: str = "SQL") -> None:
        """Type a query and send it."""
        for button in self.all(".languages button"):
            if button.text == language:
                button.click()
        box = self.one("#query")
        box.clear()
        box.send_keys(text, Keys.ESCAPE, Keys.ESCAPE)
        box.send_keys(Keys.ENTER)
        self.until_settled()

    def until_settled(self) -> None:
        self.until(lambda: self.js("return document.querySelector('.page')?.dataset.busy") == "false")

    def count(self) -> int:
        """How many images the page says it shows."""
        self.until_settled()
        return int(self.js("return document.querySelector('.count').dataset.count"))

    def images(self) -> list[str]:
        """The content ids of the cells, by row."""
        return list(self.js(_IMAGES))

    def cursor(self) -> int:
        return int(self.js("return document.querySelector('.cell.cursor').dataset.row"))

    def detail(self) -> str:
        """Which image the detail pane tells of; empty where it has none, or not yet."""
        return str(self.js("return document.querySelector('.detail')?.dataset.image ?? ''"))

    def ask(self) -> dict[str, str]:
        """The question in the address."""
        return dict(self.js("return Object.fromEntries(new URLSearchParams(location.search))"))


_WAITING = """
const grid = document.querySelector('.grid');
if (!grid) return true;
const box = grid.getBoundingClientRect();
const count = Number(document.querySelector('.count')?.dataset.count ?? NaN);
const seen = [...grid.querySelectorAll('.cell')].filter((cell) => {
  const { top, bottom } = cell.getBoundingClientRect();
  return bottom > box.top && top < box.bottom;
});
return (count > 0 && seen.length === 0) || seen.some((cell) => !cell.matches('.ready, .broken'));
"""
_IMAGES = """
const cells = [...document.querySelectorAll('.cell[data-image]')];
return cells.sort((one, two) => one.dataset.row - two.dataset.row).map((cell) => cell.dataset.image);
"""
