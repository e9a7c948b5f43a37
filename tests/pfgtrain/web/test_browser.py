"""The page in a real chromium: a guide dropped, drawn, looked at and copied; a long drawing cancelled."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pfgdata.web import ServeOptions, serving
from pfgtrain.web import RULES, Desk, StoredGuides, drawing_app
from tests.chromium import browser_for_tests
from tests.pfgtrain.web.client import Client
from tests.pfgtrain.web.conftest import COUNT, Gate, picture

pytestmark = pytest.mark.browser
MARKUP = "<img src=x onerror=document.title='run'>.png"  # what a file may be called: it stays text

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], arguments[1], {type: "image/png"}));
for (const kind of ["dragenter", "dragover", "drop"])
  document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
"""

REMOVE_ONE = "document.querySelector('.end')?.click(); return !document.querySelector('.drawing')"
CLICK_AGAIN = """
const [done] = arguments, end = document.querySelector(".end");
new MutationObserver(() => {
  if (end.getAttribute("aria-label") !== "remove") return;
  end.click();  // the second click finds the button that took the place of Cancel
  setTimeout(done, 500);
}).observe(end, {attributes: true});
end.click();
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Debian's chromium, headless, with a fresh profile."""
    yield from browser_for_tests(tmp_path_factory.mktemp("profile"), logs=("browser",))


class Page:
    """The page in the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        self.until(lambda: self.all(selector))
        return self.all(selector)[0]

    def until(self, wanted: Callable[[], Any], *, seconds: float = 90) -> None:
        ends = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < ends, self.driver.page_source[-3000:]
            time.sleep(0.05)

    def set(self, field: str, value: object) -> None:
        element = self.one(f"#{field}")
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(str(value))

    def drop(self, data: bytes, name: str) -> None:
        self.driver.execute_script(DROP, base64.b64encode(data).decode(), name)

    def shown(self) -> int:
        """How many pictures are there and decoded."""
        script = (
            "return [...document.querySelectorAll('.frame img')].filter((one) => one.naturalWidth).length"
        )
        return int(self.driver.execute_script(script))


@pytest.fixture
def browser(page: Client, chromium: webdriver.Chrome) -> Iterator[Page]:
    """The page, opened; at the end nothing may have gone wrong in it."""
    log: Any = chromium.get_log  # selenium leaves it without types
    log("browser")
    chromium.get(f"{page.origin}/")
    yield Page(chromium)
    wrong = [entry["message"] for entry in log("browser") if "status of 400" not in entry["message"]]
    chromium.get("about:blank")
    assert wrong == []


def test_a_dropped_guide_is_seen_drawn_looked_at_and_told_as_a_command(
    browser: Page, desk: Desk, gate: Gate, page: Client
) -> None:
    gate.close()
    desk.start()
    browser.until(lambda: "loading models" in browser.one("#model").text)
    assert not browser.one("#draw").is_enabled()
    browser.drop(picture(), MARKUP)
    browser.until(lambda: browser.all("[data-guide].chosen"))
    assert browser.one("#draw").is_enabled()
    gate.open()
    browser.until(lambda: browser.all(".tags .bar"))
    assert browser.one("#prompt").get_attribute("value") == ""
    browser.set("num_inference_steps", 2)
    browser.set("images_per_guide", 3)
    browser.set("seed", 7)
    browser.one("#draw").click()
    browser.until(lambda: browser.shown() == 3)
    assert [one.text for one in browser.all(".pictures figcaption")] == ["seed 7", "seed 8", "seed 9"]
    drawn = page.get("/api/state")["drawings"][0]
    browser.all(".frame")[1].click()
    assert browser.one("dialog.viewer pre").text == drawn["command"]
    assert "seed\n8" in browser.one("dialog .facts").text
    browser.one("dialog").send_keys(Keys.ARROW_RIGHT)
    assert "seed\n9" in browser.one("dialog .facts").text
    browser.one("dialog").send_keys(Keys.ESCAPE)
    browser.one(".copy").click()
    browser.until(lambda: "command copied" in browser.one("#toasts").text)
    browser.drop(b"no image", "broken.png")
    browser.until(lambda: "broken.png: no image that can be used" in browser.one("#toasts").text)
    assert len(browser.all("[data-guide]")) == 1
    assert "run" not in browser.driver.title.split()  # the name of the guide was text


def test_a_queue_is_drawn_in_order_a_long_drawing_is_cancelled_and_its_settings_come_back(
    browser: Page, desk: Desk
) -> None:
    desk.start()
    for seed in range(2):
        browser.drop(picture(seed), f"{seed}.png")
        browser.until(partial(lambda count: len(browser.all("[data-guide].chosen")) == count, seed + 1))
    browser.until(lambda: browser.one("#model").get_attribute("data-state") == "ready")
    browser.until(lambda: browser.one("#draw").text == "Draw 2 guides")
    browser.set("num_inference_steps", 1000)
    browser.set("guidance_scale", 3.5)
    browser.one("#prompt").send_keys("a cat", Keys.CONTROL, Keys.ENTER)
    browser.until(lambda: "%" in browser.one("[data-state='drawing'] .state").text)
    assert browser.one("[data-state='drawing'] strong").text == "0.png"
    assert browser.one("[data-state='waiting'] strong").text == "1.png"
    browser.one("#cancel-all").click()
    browser.until(lambda: len(browser.all(".drawing[data-state='cancelled']")) == 2)
    browser.set("num_inference_steps", 2)
    browser.all(".drawing-buttons button:nth-of-type(2)")[0].click()  # use settings
    browser.until(lambda: browser.one("#draw").text == "Draw")
    values = [
        browser.one(f"#{name}").get_attribute("value")
        for name in ("num_inference_steps", "guidance_scale", "prompt")
    ]
    assert values == ["1000", "3.5", "a cat"]
    browser.until(lambda: browser.driver.execute_script(REMOVE_ONE))
    assert browser.one(".empty").is_displayed()


def test_a_double_click_draws_once_and_cancels_without_taking_the_drawing_off_the_page(
    browser: Page, desk: Desk, page: Client
) -> None:
    desk.start()
    browser.drop(picture(), "a.png")
    browser.until(lambda: browser.one("#model").get_attribute("data-state") == "ready")
    browser.until(lambda: browser.one("#draw").is_enabled())
    browser.set("num_inference_steps", 1000)
    ActionChains(browser.driver).double_click(browser.one("#draw")).perform()
    browser.until(lambda: "%" in browser.one("[data-state='drawing'] .state").text)
    assert len(page.get("/api/state")["drawings"]) == 1
    browser.driver.execute_async_script(CLICK_AGAIN)
    assert [one["state"] for one in page.get("/api/state")["drawings"]] == ["cancelled"]
    browser.until(lambda: browser.driver.execute_script(REMOVE_ONE))
    assert page.get("/api/state")["drawings"] == []


def test_more_of_a_store_is_more_of_the_question_that_is_shown(
    browser: Page, desk: Desk, store: StoredGuides
) -> None:
    with serving(drawing_app(desk, store), ServeOptions(port=0, rules=RULES)) as place:
        browser.driver.get(f"{Client(place).origin}/")
        browser.one("#from-store").click()
        browser.until(lambda: len(browser.all(".store .tile")) == 60)
        browser.one(".store [type='search']").send_keys("smile")  # and no Enter
        browser.all(".store > button")[0].click()
        browser.until(
            lambda: (
                len(browser.all(".store .tile")) > 60
                or "70" not in browser.one(".store [role='status']").text
            )
        )
        assert len(browser.all(".store .tile")) == COUNT
        assert browser.one(".store [role='status']").text == f"{COUNT} images"
        browser.one(".store [type='search']").send_keys(Keys.ENTER)
        browser.until(lambda: 0 < len(browser.all(".store .tile")) < COUNT)
        browser.driver.get("about:blank")  # which asks this server no more
