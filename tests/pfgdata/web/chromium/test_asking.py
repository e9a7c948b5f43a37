"""Asking in the page: the address is the query, is the command; what is wrong is marked where it stands."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from selenium.webdriver.common.keys import Keys

from tests.conftest import make_images
from tests.pfgdata.web.chromium.pages import Page

pytestmark = pytest.mark.browser

COPIES = {"Address", "Command", "Condition", "Latents of these", "Training on these"}


def copies(page: Page) -> dict[str, str]:
    """What the copy menu offers."""
    page.click(".copy-menu")
    page.one(".copies .entry")
    found = {
        str(entry.get_attribute("data-copy")): entry.find_element("css selector", "code").text
        for entry in page.all(".copies .entry")
    }
    page.click(".copy-menu")
    return found


def test_a_condition_is_answered_and_stands_in_the_address(page: Page) -> None:
    page.open()
    assert page.count() == 244
    page.search("has('glasses') and has('smile')")
    expected = page.json("/api/count?where=has('glasses')%20and%20has('smile')")["count"]
    assert 0 < page.count() == expected < 244
    assert page.ask() == {"where": "has('glasses') and has('smile')"}


def test_a_reload_and_the_back_button_show_the_same_as_before(page: Page) -> None:
    page.open()
    page.search("has('hat')")
    hats = page.count()
    page.driver.refresh()
    page.until_shown()
    assert page.count() == hats
    assert page.one("#query").get_attribute("value") == "has('hat')"
    page.driver.back()
    page.until(lambda: page.ask() == {} and page.count() == 244)


def ingest_late(page: Page, folder: Path) -> int:
    """Put a few more images into the page's store, as another process does; how many."""
    make_images(folder, 3, seed=77)
    words = ["ingest", str(folder), "--tagger", "demo", "--store", str(page.store.path)]
    subprocess.run([sys.executable, "-m", "pfgdata", *words], check=True, capture_output=True)
    return 3


def test_a_reload_shows_what_was_ingested_meanwhile(page: Page, tmp_path: Path) -> None:
    page.open()
    before = page.count()
    late = ingest_late(page, tmp_path / "late")
    page.driver.refresh()
    page.until_shown()
    assert page.count() == before + late
    assert f"of {before + late} images" in page.text(".count")


def test_a_page_whose_store_was_renewed_by_another_page_shows_all_of_it(page: Page, tmp_path: Path) -> None:
    page.open()
    before = page.count()
    late = ingest_late(page, tmp_path / "late")
    assert page.json("/api/store")["images"] == before + late  # a second page is loaded
    page.click("[data-facet=format] h3 button")  # asks for a part of rows that the server let go
    page.until(lambda: page.count() == before + late)
    page.until(lambda: f"of {before + late} images" in page.text(".count"))
    page.grid_keys(Keys.END)
    page.until(lambda: page.cursor() == before + late - 1)


def test_tags_are_a_language_of_their_own_and_become_a_condition(page: Page) -> None:
    page.open()
    page.search("smile -hat", language="Tags")
    assert page.ask() == {"tags": "smile -hat"}
    tags = page.count()
    next(one for one in page.all(".languages button") if one.text == "SQL").click()
    page.until(lambda: page.one("#query").get_attribute("value") == "has('smile') AND NOT has('hat')")
    page.one("#query").send_keys(Keys.ENTER)
    page.until(lambda: "where" in page.ask())
    assert page.count() == tags


def test_tags_become_sql_with_their_order_and_their_limit(page: Page) -> None:
    page.open()
    page.search("smile order:width limit:3", language="Tags")
    page.until_shown()
    shown = page.images()
    next(one for one in page.all(".languages button") if one.text == "SQL").click()
    page.until(lambda: page.one("#query").get_attribute("value") == "has('smile')")
    page.one("#query").send_keys(Keys.ENTER)
    page.until(lambda: page.ask() == {"where": "has('smile')", "order": "-(width)", "limit": "3"})
    page.until_settled()
    page.until_shown()
    assert page.images() == shown and len(shown) == 3


def test_a_facet_that_no_tag_says_keeps_the_order_and_the_limit_of_tags(page: Page) -> None:
    page.open("?tags=smile%20order:width%20limit:3")
    page.click("[data-facet=bucket] h3 button")
    page.click("[data-facet=bucket][data-busy=false] .value .to")
    page.until(lambda: "where" in page.ask())
    assert page.ask()["where"].startswith("has('smile') AND ")
    assert (page.ask()["order"], page.ask()["limit"]) == ("-(width)", "3")
    assert page.count() <= 3


def test_a_facet_that_no_tag_says_waits_for_the_answer_to_its_tags(page: Page) -> None:
    page.open("?tags=smile")
    page.click("[data-facet=bucket] h3 button")
    page.one("[data-facet=bucket] .value .to:enabled")
    page.search("smile no_such_tag", language="Tags")  # what is shown is of the question before it
    page.one(".mistake")
    page.until(lambda: not page.all("[data-facet=bucket] .value .to:enabled"))
    assert page.all("[data-facet=rating] .value .to:enabled")


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("has('smile') and has('hatt')", "'hatt'"),
        ("path != 'it''s' and has('hatt')", "'hatt'"),
        ("path != '\N{GRINNING FACE}\N{GRINNING FACE}' and has('hatt')", "'hatt'"),  # two units a character
    ],
)
def test_a_misspelt_word_is_marked_by_its_place_and_repaired_by_a_click(
    page: Page, text: str, marked: str
) -> None:
    page.open(f"?where={''.join(f'%{byte:02X}' for byte in text.encode())}")
    page.one(".mistake")
    assert page.text(".mirror .fault") == marked
    page.click(".near button")
    page.one("#query").send_keys(Keys.ENTER)
    page.until(lambda: not page.all(".mistake") and page.count() > 0)
    assert page.ask() == {"where": text.replace("hatt", "hat")}


def test_completion_is_walked_and_taken_by_the_keyboard(page: Page) -> None:
    page.open()
    page.grid_keys("/")
    page.keys("has('glass")
    page.until(lambda: len(page.all(".completions li")) > 1)
    page.keys(Keys.ARROW_DOWN)
    chosen = page.text(".completions li[aria-selected=true] .label")
    page.keys(Keys.ENTER)
    page.until(lambda: not page.all(".completions li"))
    assert page.one("#query").get_attribute("value") == f"has('{chosen}')"
    page.keys(Keys.ENTER)
    page.until(lambda: page.ask().get("where") == f"has('{chosen}')")
    assert 0 < page.count() < 244


def test_a_facet_narrows_to_as_many_as_it_says_and_widens_again(page: Page) -> None:
    page.open("?where=has('smile')")
    values = "[data-facet=tags][data-busy=false] .value"
    page.one(values)
    before = page.count()
    tag = next(
        one
        for one in page.all(values)
        if int(one.find_element("css selector", ".number").text.replace(",", "")) < before
    )
    counted = int(tag.find_element("css selector", ".number").text.replace(",", ""))
    name = tag.find_element("css selector", ".to").get_attribute("title")
    tag.find_element("css selector", ".to").click()
    page.until(lambda: page.ask()["where"] == f"has('smile') AND {name}" and page.count() == counted)
    page.click(f'{values}[aria-current=true] [title="{name}"]')
    page.until(lambda: page.ask()["where"] == "has('smile')" and page.count() == before)


X = {"sql": "has('smile')", "tag": "smile"}
STYLE = {"sql": "format = 'png'", "not": True}


@pytest.mark.parametrize(
    ("ask", "value", "expected"),
    [
        ({"where": "has('hat') AND has('smile')"}, X, {"where": "has('hat')"}),
        (
            {"where": "has('hat') OR width > 1 AND has('smile')"},
            X,
            {"where": "(has('hat') OR width > 1 AND has('smile')) AND has('smile')"},
        ),
        (
            {"where": "NOT (width > 1 AND has('smile') AND has('hat'))"},
            X,
            {"where": "NOT (width > 1 AND has('smile') AND has('hat')) AND has('smile')"},
        ),
        ({"where": "path <> 'this or that'"}, X, {"where": "path <> 'this or that' AND has('smile')"}),
        ({"where": "width > 1 -- all of '--'"}, X, {"where": "width > 1 AND has('smile')"}),
        ({"where": "path <> '--'"}, X, {"where": "path <> '--' AND has('smile')"}),
        ({"tags": "hat or glasses order:width"}, X, {"tags": "(hat or glasses) smile order:width"}),
        (
            {"tags": "smile order:width limit:3", "threshold": "0.5"},
            {"sql": "width > 1", "compiled": {"where": "has('smile')", "order": "-(width)", "limit": 3}},
            {"where": "has('smile') AND width > 1", "threshold": "0.5", "order": "-(width)", "limit": 3},
        ),
        ({"tags": "smile"}, {"sql": "width > 1", "compiled": None}, {"tags": "smile"}),
        ({"where": "has('hat')"}, STYLE, {"where": "has('hat') AND NOT coalesce(format = 'png', false)"}),
        ({"where": "has('hat') AND NOT coalesce(format = 'png', false)"}, STYLE, {"where": "has('hat')"}),
    ],
)
def test_a_question_is_narrowed_and_widened_as_a_whole(
    page: Page, ask: dict[str, str], value: dict[str, object], expected: dict[str, object]
) -> None:
    page.open()
    narrowed = page.driver.execute_async_script(
        "const [ask, value, done] = arguments;"
        "import('/static/narrow.js').then((narrow) => done(narrow.narrowed(ask, value)));",
        ask,
        value,
    )
    assert {name: text for name, text in narrowed.items() if text is not None} == expected
    assert page.json(f"/api/count?{urlencode(expected)}")["count"] > 0


def test_a_slider_says_how_the_selection_grows_before_it_is_let_go(page: Page) -> None:
    page.open("?where=count_tags()%20>%2020")
    before = page.count()
    slide = (
        "const s = document.querySelector('[name=threshold]'); s.value = '0.05'; s.dispatchEvent(new Event("
    )
    page.js(f"{slide}'input', {{bubbles: true}}))")
    page.until(lambda: page.all(".growth[data-count]"))
    grown = page.until(lambda: int(page.one(".growth[data-count]").get_attribute("data-count") or 0))
    assert page.ask() == {"where": "count_tags() > 20"}
    assert grown > before == page.count()
    page.js(f"{slide}'change', {{bubbles: true}}))")
    page.until(lambda: page.ask().get("threshold") == "0.05" and page.count() == grown)


def test_the_copied_command_asks_the_same_also_after_a_reload(page: Page) -> None:
    page.open("?tags=smile%20-hat&threshold=0.4&order=-width")
    first = copies(page)
    assert set(first) == COPIES
    page.driver.refresh()
    page.until_shown()
    assert copies(page) == first
    name, *arguments = shlex.split(first["Command"])
    assert name == "pfgdata"
    done = subprocess.run(
        [sys.executable, "-m", "pfgdata", *arguments, "--count"], capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) == page.count() < 244
    page.driver.get(first["Address"])
    page.until_shown()
    assert page.count() == int(done.stdout)


def test_a_sample_is_copied_as_a_command_but_is_no_condition(page: Page) -> None:
    page.open("?sample=20&seed=3")
    assert page.count() == 20
    assert set(copies(page)) == {"Address", "Command"}


def test_a_copy_button_puts_the_text_on_the_clipboard(page: Page) -> None:
    page.open("?where=has('hat')")
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    page.grid_keys("c")
    page.click("[data-copy=Condition] button")
    page.until(lambda: page.text("[data-copy=Condition] button") == "Copied")
    copied = page.driver.execute_async_script(
        "const [done] = arguments; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    )
    assert copied == "--where \"has('hat')\""


def test_rows_come_in_the_order_that_is_chosen(page: Page) -> None:
    page.open()
    first = page.images()[0]
    page.click("select[name=order] option[value='-size']")
    page.until(lambda: page.ask().get("order") == "-size")
    page.until_shown()
    sizes = [page.json(f"/api/image/{one}")["size"] for one in page.images()[:6]]
    assert sizes == sorted(sizes, reverse=True)
    assert page.images()[0] != first
