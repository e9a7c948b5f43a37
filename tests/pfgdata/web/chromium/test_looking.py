"""Looking at images: by keys, one beside the grid, marks that become a selection, copies judged in pairs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from pfgdata.store import pair_of
from tests.pfgdata.web.chromium.conftest import COPIES, MARKUP
from tests.pfgdata.web.chromium.pages import Page

pytestmark = pytest.mark.browser


def test_the_cursor_goes_by_the_arrows_and_enter_opens_its_image(page: Page) -> None:
    page.open()
    ids = page.images()
    page.grid_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.cursor() == 2
    page.grid_keys(Keys.ENTER)
    page.until(lambda: page.detail() == ids[2])
    page.grid_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.detail() == ids[3])
    page.grid_keys(Keys.ESCAPE)
    page.until(lambda: not page.all(".detail"))
    page.grid_keys(Keys.END)
    page.until(lambda: page.cursor() == 243)


def test_of_many_images_opened_in_haste_the_last_one_is_told(page: Page) -> None:
    page.open()
    ids = page.images()
    page.grid_keys(Keys.ENTER)
    page.grid_keys(*[Keys.ARROW_RIGHT] * 9)
    page.until(lambda: page.detail() == ids[9])
    page.until(lambda: page.all(f".likeness[data-of='{ids[9]}'] [data-image]"))
    expected = [one["content_id"] for one in page.json(f"/api/similar/{ids[9]}?k=24")["results"]]
    shown = page.js(
        "return [...document.querySelectorAll('.likeness [data-image]')].map((one) => one.dataset.image)"
    )
    assert shown == [one for one in expected if one != ids[9]]


def test_the_copies_of_an_image_lie_beside_it(page: Page) -> None:
    page.open(f"?where=path GLOB '*{COPIES[0]}/copy.png'")
    page.grid_keys(Keys.ENTER)
    page.until(lambda: page.all(".copies [data-image]"))
    (expected,) = page.json(f"/api/copies/{page.images()[0]}")["results"]
    assert page.one(".copies [data-image]").get_attribute("data-image") == expected["content_id"]
    assert page.text(".copies .number") == "copy"


def test_an_image_is_told_with_its_file_its_tags_and_what_is_like_it(page: Page) -> None:
    page.open("?threshold=0.5")
    first = page.images()[1]
    page.click(f".cell[data-image='{first}']")
    page.until(lambda: page.detail() == first)
    told = page.json(f"/api/image/{first}?threshold=0.5")
    assert page.text(".files .path") == told["files"][0]
    counting = [one["tag"] for one in told["tags"] if one["counts"]]
    assert [one.get_attribute("data-tag") for one in page.all(".tags .counts")] == counting[:30]
    assert page.js("return document.querySelector('.tags .score .from').style.left") == "50%"
    page.until(lambda: page.all(".picture.ready"))
    like = page.one(".likeness [data-image]")
    other = like.get_attribute("data-image")
    like.click()
    page.until(lambda: page.detail() == other)
    page.driver.back()
    page.until(lambda: page.detail() == first)
    tag = page.one(".tags .kind-general .name")
    asked = tag.get_attribute("title")
    tag.click()
    page.until(lambda: page.ask().get("where") == asked)


def test_marks_by_key_outlive_a_reload_and_become_a_selection(page: Page) -> None:
    page.open("?where=has('hat')")
    ids, before = page.images(), page.count()
    page.grid_keys("x", Keys.ARROW_RIGHT, "s", "s")
    page.until(lambda: page.all(f".cell.excluded[data-image='{ids[0]}']"))
    page.driver.refresh()
    page.until_shown()
    assert page.all(f".cell.excluded[data-image='{ids[0]}']")
    assert not page.all(".cell.selected")
    page.click(".marksbar .main")
    page.type("dialog [name=name]", "hats", Keys.ENTER)
    page.until(lambda: "@hats" in page.text("dialog p b"))
    page.click("dialog .main")
    page.until(lambda: page.ask() == {"where": "@hats"} and page.count() == before - 1)
    page.until_shown()
    assert ids[0] not in page.images()


def require_saved(page: Page, picked: list[str]) -> None:
    """Save what is selected, and fail unless the selection shows `picked`."""
    page.click(".marksbar .main")
    page.type("dialog [name=name]", "two", Keys.ENTER)
    page.until(lambda: "@two" in page.text("dialog p b"))
    page.click("dialog .main")
    page.until(lambda: page.count() == len(picked))
    page.until_shown()
    assert page.images() == picked


def test_only_what_was_selected_can_be_saved(page: Page) -> None:
    page.open()
    ids = page.images()
    page.grid_keys("s", Keys.ARROW_RIGHT, "s")
    require_saved(page, ids[:2])


def test_what_was_selected_under_another_question_is_saved_whole(page: Page) -> None:
    page.open()
    ids = page.images()
    page.grid_keys("s", Keys.ARROW_RIGHT, "s")
    page.search("width < 1")
    assert page.count() == 0
    require_saved(page, ids[:2])


def test_marks_are_those_of_one_store(page: Page) -> None:
    page.open()
    sizes = page.driver.execute_async_script(
        "const [done] = arguments;"
        "import('/static/marks.js').then(({ Marks }) => {"
        "  new Marks('/one').toggle('an id', 'selected');"
        "  done(['/one', '/two'].map((store) => new Marks(store).selected.size)); });"
    )
    assert sizes == [1, 0]


def test_copies_are_found_compared_at_one_place_and_judged_by_key(page: Page) -> None:
    page.open()
    page.grid_keys("d")
    page.click(".start .main")
    page.until(lambda: page.one(".duplicates").get_attribute("data-state") == "done")
    kinds = [one.text.split("\n")[0] for one in page.all(".pairs li .small")]
    assert kinds.count("copy") == len(COPIES)
    page.all(".pairs li button")[kinds.index("copy")].click()
    one, two = (pane.get_attribute("data-image") for pane in page.all(".panes .zoom"))
    assert one and two and one != two
    page.until(
        lambda: page.js("return [...document.querySelectorAll('.zoom img')].every((one) => one.naturalWidth)")
    )
    page.js(
        "document.querySelector('.zoom').dispatchEvent(new WheelEvent('wheel',"
        "{ deltaY: -900, clientX: 400, clientY: 300, bubbles: true, cancelable: true }))"
    )
    places = page.js(
        "return [...document.querySelectorAll('.zoom img')]"
        ".map(({ style }) => [style.width, style.left, style.top])"
    )
    assert places[0] == places[1]
    assert float(places[0][0].removesuffix("px")) > 2 * page.one(".zoom").size["width"]
    page.keys(" ")
    page.until(lambda: page.one(".compare").get_attribute("data-second") == "true")
    page.keys(" ")
    page.until(lambda: page.one(".compare").get_attribute("data-second") == "false")
    page.keys("1")
    pair = pair_of(bytes.fromhex(one.replace("-", "")), bytes.fromhex(two.replace("-", "")))
    page.until(lambda: page.store.verdicts().get(pair) == "different")
    page.keys(Keys.ESCAPE)
    page.until(lambda: not page.all(".duplicates"))


def review(page: Page) -> None:
    """Find the duplicates of all images, and look at the first copy."""
    page.open()
    page.grid_keys("d")
    page.click(".start .main")
    page.until(lambda: page.one(".duplicates").get_attribute("data-state") == "done")
    kinds = [one.text.split("\n")[0] for one in page.all(".pairs li .small")]
    page.all(".pairs li button")[kinds.index("copy")].click()
    page.until(lambda: page.all(".verdicts kbd"))


def test_a_verdict_is_said_of_the_pair_that_was_seen(page: Page) -> None:
    review(page)
    shown = page.text(".verdicts .small")
    page.js(
        "for (const [key, repeat] of [['1', false], ['2', false], ['2', true]])"
        "  document.body.dispatchEvent(new KeyboardEvent('keydown', { key, repeat, bubbles: true }));"
    )
    page.until(lambda: page.text(".verdicts .small") != shown)  # on to the next
    assert [one.text.split("\n")[-1] for one in page.all(".pairs .decided .small")] == ["different"]
    assert page.requests.count("/api/verdicts") == 1
    assert list(page.store.verdicts().values()) == ["different"]
    page.js(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '2', repeat: true, bubbles: true }))"
    )
    page.keys(Keys.ARROW_UP)
    page.until(lambda: page.text(".verdicts .small") == shown)
    page.keys("0")
    page.until(lambda: not page.store.verdicts() and not page.all(".pairs .decided"))
    assert page.requests.count("/api/verdicts") == 2  # a key that is held says nothing


def test_a_verdict_that_cannot_be_kept_is_told_in_the_review(page: Page) -> None:
    review(page)
    with page.store.writer():
        page.keys("1")
        told = page.until(lambda: page.all(".duplicates [role=alert]"))[0]
        assert "being written" in told.text
        assert not page.all(".pairs .decided")
    page.keys("1")
    page.until(lambda: not page.all(".duplicates [role=alert]"))
    page.until(lambda: list(page.store.verdicts().values()) == ["different"])


def test_a_file_that_is_gone_leaves_its_place_and_says_why(page: Page, pictures: Path) -> None:
    shutil.rmtree(
        page.store.path / "cache" / "thumbnails", ignore_errors=True
    )  # what is made is shown from there
    copy = pictures / "images" / COPIES[0] / "copy.png"
    away = copy.rename(copy.with_suffix(".away"))
    try:
        page.open("?where=path%20GLOB%20'*copy.png'")
        page.until(lambda: len(page.all(".cell.broken")) == 1 and len(page.all(".cell.ready")) == 2)
        page.click(".cell.broken")
        page.until(lambda: "gone" in page.text(".picture .reason"))
    finally:
        away.rename(copy)


def test_a_name_that_is_markup_stays_text(page: Page) -> None:
    page.open("?where=path%20GLOB%20'*onerror*'")
    page.click(".cell.ready")
    page.until(lambda: page.text(".files .path").endswith(MARKUP))
    assert page.driver.title != "run"
    assert not page.all("img[src=x]")


def test_an_image_is_looked_at_closely_and_the_grid_comes_back(page: Page) -> None:
    page.open()
    page.grid_keys("z")
    page.until(lambda: page.js("return document.querySelector('.closely img')?.naturalWidth"))
    width = page.js("return document.querySelector('.closely img').offsetWidth")
    page.keys("+")
    assert page.until(lambda: page.js("return document.querySelector('.closely img').offsetWidth") > width)
    page.keys(Keys.ESCAPE)
    page.until(lambda: not page.all(".closely") and page.all(".detail"))


def test_g_goes_to_a_row_and_a_question_mark_shows_the_keys(page: Page) -> None:
    page.open()
    page.grid_keys("g")
    page.type("dialog [name=row]", "200", Keys.ENTER)
    page.until(lambda: page.cursor() == 199)
    page.grid_keys("?")
    page.until(lambda: len(page.all("dialog.help kbd")) > 20)
    page.keys(Keys.ESCAPE)
    page.until(lambda: not page.all("dialog"))


def test_the_page_is_dark_where_the_system_is(page: Page) -> None:
    page.open()
    light = page.js("return getComputedStyle(document.body).backgroundColor")
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        assert page.js("return getComputedStyle(document.body).backgroundColor") != light
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
