"""The page shows a report's figures, takes names for text, and needs nothing but itself."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from pfgdata.corpus import plan_segments
from pfgdata.images import decode
from pfgdata.ingest import ingest
from pfgdata.pages import stylesheet
from pfgdata.records import TaggerIdentity
from pfgdata.report import StoreReport, report_page
from pfgdata.report.figures import FailureFigures, IngestFigures
from pfgdata.report.marks import compact, percent, plural, size_text
from pfgdata.store import Store, StoreIdentity
from pfgdata.vocabulary import Vocabulary
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.query.rows import VOCABULARY, row
from tests.pfgdata.report.small_reports import Page, contents, drawn_store, failure, report_of

DEMO = Path(__file__).parents[3] / "pipelines" / "demo" / "images"
MARKUP = "<img src=x onerror=alert(1)>'\"&amp;</title><script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> StoreReport:
    return report_of(drawn_store(tmp_path_factory.mktemp("drawn") / "feats"))


def pictures_of(page: Page) -> list[bytes]:
    """The bytes of the pictures that stand in the page."""
    found = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert all(value.startswith("data:image/jpeg;base64,") for value in found)
    return [b64decode(value.partition(",")[2]) for value in found]


def names_of(page: Page) -> list[str]:
    """What the pictures are called when a pointer rests on them."""
    return [value for tag, name, value in page.attributes if (tag, name) == ("figure", "title")]


def test_the_page_has_the_figures_of_the_report(report: StoreReport) -> None:
    page = Page(report_page(report))
    assert page.open == []
    bars = page.bars
    wanted = {
        "Ratings and formats": [*report.rows.ratings, *report.rows.formats],
        "Tags": report.general.top,
        "Characters": report.characters.top,
    }
    for title, counted in wanted.items():
        for one in counted:
            assert bars[title][one.name] == f"{one.count:,}"
    text = " ".join(page.text)
    assert (
        f"{report.rows.without_character} images ({report.rows.without_character / 115:.1%}) without" in text
    )
    for policy in report.rows.policies:
        row_text = rf"{policy.resolution} {policy.used} of {policy.buckets} {policy.cropped:.1%}"
        assert row_text in text
    tooltips = [text for text in page.text if re.search(r": [\d,]+ (images|scores)$", text)]
    shown = sum(int(text.rpartition(": ")[2].split()[0].replace(",", "")) for text in tooltips)
    rows, sizes = report.rows, report.rows.sizes
    assert sizes is not None
    histograms = (
        rows.tags_per_image,
        rows.general_scores,
        rows.character_scores,
        sizes.megapixels,
        sizes.ratios,
    )
    assert shown == sum(sum(found.counts) for found in histograms) + report.images  # and the grid's
    for failed in report.failures:
        assert failed.reason in page.text and failed.example in page.text


def test_the_page_needs_no_script_and_no_network(report: StoreReport) -> None:
    text = report_page(report)
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
    links = [
        value for _, name, value in page.attributes if name in ("href", "src", "action", "data", "srcset")
    ]
    assert all(value.startswith("data:image/jpeg;base64,") for value in links)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "://" not in text and "url(" not in text and "@import" not in text
    assert stylesheet() in text


def test_names_tags_reasons_columns_and_conditions_are_text(tmp_path: Path) -> None:
    odd = Vocabulary(
        names=tuple(f"{name}{MARKUP}" if n > 3 else name for n, name in enumerate(VOCABULARY.names)),
        categories=VOCABULARY.categories,
        counts=VOCABULARY.counts,
    )
    tagger = TaggerIdentity(
        name=MARKUP, revision=None, weights_sha256=MARKUP, feature_node="f", preprocess="kohya", decode="1"
    )
    identity = StoreIdentity(tagger=tagger, vocabulary_digest=odd.digest, feature_dim=4)
    store = Store.create(tmp_path / "<b>feats", identity=identity, vocabulary=odd)
    name = MARKUP.replace("/", "|")
    rows = [row(f"{n}{name}.png", {"smile": 0.9, "hatsune_miku": 0.9}) for n in range(3)]
    for one in rows:
        one.update(character=f"hatsune_miku{MARKUP}", format=MARKUP, content_id=b"0123456789abcdef")
    writer = {"what": "ingest", "images": 3, "provider": MARKUP, "versions": {MARKUP: MARKUP}}
    with store.writer() as writing:
        held = contents(rows, [failure(name, MARKUP)])
        writing.commit(replace(held, writer={**writer, "seconds": {"total": 1, "read": 1}}))
    store.write_column("style", pa.table({"path": [one["path"] for one in rows], "value": [MARKUP] * 3}))
    report = report_of(store, f"path <> '{MARKUP.replace(chr(39), chr(39) * 2)}'")
    text = report_page(report)
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "img" not in page.tags  # no picture of these can be read
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert MARKUP in page.text  # the reason, as it is
    assert page.bars["Tags"] == {f"smile{MARKUP}": "3"}
    assert page.bars["style"] == {MARKUP: "3"}
    assert page.bars["Ratings and formats"][MARKUP] == "3"
    assert "None of 3 pictures could be read: they are gone, or changed." in page.text
    assert f"path <> '{MARKUP.replace(chr(39), chr(39) * 2)}'" in page.text


def test_it_opens_with_pictures_each_of_another_character(tmp_path: Path) -> None:
    paths = make_images(tmp_path / "images", 30)
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger())
    report = report_of(store, pictures=6)
    text = report_page(report)
    page = Page(text)
    shown = pictures_of(page)
    assert len(shown) == 6 and text.index("<img") < text.index("<h2>")
    named = [one.character for one in report.examples if one.character is not None]
    assert len(set(named)) == len(named) == min(6, report.characters.different)
    for data, one in zip(shown, report.examples, strict=True):
        picture = decode(data).array
        source = decode((tmp_path / "images" / one.file).read_bytes()).array
        assert picture.shape == source.shape
        assert abs(picture.astype(int) - source.astype(int)).mean() < 12
        assert one.jpeg == data and (one.width, one.height) == (24, 32)
    assert report_of(store, pictures=6).examples == report.examples
    for path in paths[:29]:
        path.unlink()
    left = report_of(store, pictures=6)
    assert [one.file for one in left.examples] in ([], ["0029.png"])
    assert left.examples_not_read + len(left.examples) == 12  # twice six were tried
    assert report_of(store, pictures=0).examples == []


def test_pictures_without_characters_are_spread_over_all_rows(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 41)
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger())
    report = report_of(store, "character is null or not character is null", pictures=5)
    assert len(report.examples) == 5
    nobody = report_of(store, "character is null", pictures=5)
    rows = [int(one.file[:4]) for one in nobody.examples]
    assert len(set(rows)) == min(5, nobody.images)


def test_pictures_are_bounded_in_bytes(tmp_path: Path) -> None:
    noise = tmp_path / "images"
    noise.mkdir()
    for number in range(8):
        Image.effect_noise((900, 900), 200 + number).save(noise / f"{number}.png")
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([noise], {}), store, CheapTagger())
    report = report_of(store, pictures=8)
    assert len(report.examples) == 8
    assert max(len(one.jpeg) for one in report.examples) < 100_000  # 256 pixels of noise
    assert len(report_page(report)) < 8 * 140_000 + 60_000
    with Image.open(BytesIO(report.examples[0].jpeg)) as picture:
        assert picture.size == (256, 256)


def test_near_copies_are_counted_and_shown_when_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, source in enumerate(sorted(DEMO.glob("*/00/*-v0.*"))[::12][:3]):
        with Image.open(source) as opened:
            picture = opened.convert("RGB")
        picture.save(folder / f"{number}.png")
        if number == 0:
            picture.resize((180, 180), Image.Resampling.LANCZOS).save(folder / "0-small.jpg", quality=80)
            ImageDraw.Draw(picture).text((40, 200), "HELLO", fill=(255, 0, 0), font_size=22)
            picture.save(folder / "0-text.png")
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([folder], {}), store, CheapTagger())
    assert report_of(store).near is None
    report = report_of(store, duplicates=True, pictures=0)
    assert report.near is not None
    assert report.near.kinds["copy"] == 1 and report.near.kept >= 1
    pairs = {(star.keep.file, kind, one.file) for star in report.near.stars for kind, one in star.members}
    assert ("0.png", "copy", "0-small.jpg") in pairs
    page = Page(report_page(report))
    assert any(name.startswith("0-small.jpg · 180 x 180") for name in names_of(page))
    value: dict[str, Any] = report.as_dict()["near"]
    assert value["kinds"]["copy"] == 1 and "jpeg" not in str(value)


def test_of_many_ingests_and_reasons_the_page_shows_some_and_says_so(report: StoreReport) -> None:
    ingest_row = IngestFigures(
        began="2026-11-29T10:00:00+00:00",
        images=7,
        shards=1,
        seconds=2.0,
        images_per_second=3.5,
        stages={"read": 0.5, "model": 1.5},
        writer={"provider": "CPU", "pfg": "1"},
    )
    ingests = [replace(ingest_row, images=1000 + n) for n in range(30)]
    failures = [FailureFigures(kind="content", reason=f"why {n}", count=1, example="x") for n in range(30)]
    page = Page(report_page(replace(report, ingests=ingests, failures=failures)))
    assert "the last 20 of 30" in page.text and "1,029" in page.text
    assert "1,010" in page.text and "1,009" not in page.text
    assert any("30 reasons, the first 20" in text for text in page.text)
    assert "why 19" in page.text and "why 20" not in page.text
    assert sum(text.startswith("read 0.5, model 1.5") for text in page.text) == 8


def test_pages_of_stores_with_nothing_to_show_stand(tmp_path: Path) -> None:
    empty = Page(report_page(report_of(new_store(tmp_path / "empty"))))
    assert empty.open == [] and "0 images" in " ".join(empty.text)
    nothing = Page(report_page(report_of(drawn_store(tmp_path / "drawn"), "width > 1000000")))
    assert nothing.open == [] and "Failures by reason" in nothing.text


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (compact(0), "0"),
        (compact(999), "999"),
        (compact(12_345), "12.3k"),
        (compact(598_016), "598k"),
        (compact(2.5e6), "2.5M"),
        (size_text(999), "999 bytes"),
        (size_text(1_036_790), "1.04 MB"),
        (percent(0.379), "37.9%"),
        (percent(56 / 598_016), "0.009%"),
        (percent(0), "0.0%"),
        (plural(1, "image"), "1 image"),
        (plural(2000, "image"), "2,000 images"),
    ],
)
def test_numbers_for_people(found: str, wanted: str) -> None:
    assert found == wanted
