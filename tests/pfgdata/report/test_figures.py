"""A report's figures are those that a plain count over every row gives."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pfgdata.images import BucketPolicy, bucket_sizes, crop_to_bucket
from pfgdata.report import StoreReport
from pfgdata.report.crops import policy_figures
from pfgdata.report.figures import Histogram
from pfgdata.store import Store
from tests.conftest import new_store
from tests.doubles import CHARACTERS, GENERAL_TAGS, Watched
from tests.pfgdata.query.rows import VOCABULARY, add_shard, row, store_of
from tests.pfgdata.report.small_reports import contents, drawn_store, failure, report_of

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return drawn_store(tmp_path_factory.mktemp("drawn") / "feats")


@pytest.fixture(scope="module")
def visible(store: Store) -> Rows:
    rows: Rows = store.snapshot().images().to_pylist()
    assert len(rows) == 115
    return rows


@pytest.fixture(scope="module")
def report(store: Store) -> StoreReport:
    return report_of(store)


def binned(values: list[float], edges: list[float]) -> list[int]:
    """Each value in the bin that it is in, one after the other."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        place = next(n for n, high in enumerate(edges[1:]) if value < high or n == len(counts) - 1)
        counts[place] += 1
    return counts


def scores_of(rows: Rows, names: tuple[str, ...]) -> list[float]:
    ids = {VOCABULARY.index(name) for name in names}
    pairs = (zip(one["tag_ids"], one["tag_scores"], strict=True) for one in rows)
    return [score for both in pairs for tag, score in both if tag in ids]


def test_rows_contents_bytes_and_shards(report: StoreReport, store: Store, visible: Rows) -> None:
    assert report.images == report.total == len(visible)
    assert report.contents == len({one["content_id"] for one in visible})
    assert report.rows.bytes == sum(one["size"] for one in visible)
    assert report.rows.animated == sum(one["frames"] > 1 for one in visible)
    files = [file for folder in (store.path / "shards").iterdir() for file in folder.iterdir()]
    sizes = sum(file.stat().st_size for file in files if file.name != "shard.json")
    assert sum(report.store_bytes.values()) == sizes
    assert report.shards == 3


def test_ratings_formats_tags_and_characters_most_first(report: StoreReport, visible: Rows) -> None:
    for counted, name in ((report.rows.ratings, "rating"), (report.rows.formats, "format")):
        wanted = Counter(one[name] for one in visible).most_common()
        assert [(one.name, one.count) for one in counted] == wanted
    for found, names, least in (
        (report.general, GENERAL_TAGS, 0.35),
        (report.characters, CHARACTERS, 0.85),
    ):
        counts = {name: sum(s >= np.float16(least) for s in scores_of(visible, (name,))) for name in names}
        assert {one.name: one.count for one in found.top} == {k: v for k, v in counts.items() if v}
        assert [one.count for one in found.top] == sorted(counts.values(), reverse=True)[: found.different]
    best = [one["character_score"] for one in visible]
    assert report.rows.without_character == sum(s is None or s < np.float16(0.85) for s in best)
    assert sum(report.images_per_character) == sum(one.count for one in report.characters.top)


def test_scores_are_binned_with_those_on_an_edge_above_it(report: StoreReport, visible: Rows) -> None:
    edges = [float(np.float16(edge)) for edge in report.rows.general_scores.edges]
    for found, names in (
        (report.rows.general_scores, GENERAL_TAGS),
        (report.rows.character_scores, CHARACTERS),
    ):
        assert found.counts == binned(scores_of(visible, names), edges)
    for place, name in enumerate(("general", "sensitive", "questionable", "explicit")):
        values = [one["rating_scores"][place] for one in visible]
        assert report.rows.rating_scores[name].counts == binned(values, edges)


def test_tags_of_an_image(report: StoreReport, visible: Rows) -> None:
    ids = {VOCABULARY.index(name) for name in GENERAL_TAGS}
    counts = Counter(
        sum(
            s >= np.float16(0.35)
            for tag, s in zip(one["tag_ids"], one["tag_scores"], strict=True)
            if tag in ids
        )
        for one in visible
    )
    found = report.rows.tags_per_image
    assert found.edges == list(range(len(found.counts) + 1))
    assert found.counts == [counts[number] for number in range(len(found.counts))]


def test_sizes(report: StoreReport, visible: Rows) -> None:
    sizes = report.rows.sizes
    assert sizes is not None
    widths, heights = ([one[name] for one in visible] for name in ("width", "height"))
    assert sizes.width == (min(widths), int(np.median(widths)), max(widths))
    assert sizes.height == (min(heights), int(np.median(heights)), max(heights))
    millions = [w * h / 1e6 for w, h in zip(widths, heights, strict=True)]
    assert sizes.megapixels.counts == binned(millions, sizes.megapixels.edges)
    grid = [[0] * (len(sizes.grid.widths) - 1) for _ in range(len(sizes.grid.heights) - 1)]
    for w, h in zip(widths, heights, strict=True):
        place = [
            next(n for n, (low, high) in enumerate(pairwise(edges)) if low <= max(side, 32) < high)
            for side, edges in ((h, sizes.grid.heights), (w, sizes.grid.widths))
        ]
        grid[place[0]][place[1]] += 1
    assert sizes.grid.counts == grid
    assert sum(sizes.ratios.counts) == len(visible)


def test_buckets_waste_what_a_crop_to_them_cuts_away() -> None:
    policy = BucketPolicy.derive(512, 64)
    sizes = [(600, 400), (600, 400), (513, 512), (50, 70), (3000, 500), (640, 448)]
    crops, scales = [], []
    buckets = bucket_sizes(policy)
    for width, height in sizes:
        ratio = np.abs(np.log([w / h for w, h in buckets]) - np.log(width / height)).round(9)
        bucket = buckets[int(np.argmin(ratio))]
        _, box = crop_to_bucket(np.zeros((height, width, 3), np.uint8), bucket)
        crops.append(1 - bucket[0] * bucket[1] / (box.resized_width * box.resized_height))
        scales.append(max(bucket[0] / width, bucket[1] / height))
    unique = sorted(set(sizes))
    widths, heights = np.array(unique).T
    found = policy_figures(widths, heights, np.array([sizes.count(one) for one in unique]), policy)
    assert found.cropped == pytest.approx(np.mean(crops))
    assert found.cropped_much == pytest.approx(np.mean(np.array(crops) > 0.1))
    assert found.upscaled == pytest.approx(np.mean(np.array(scales) > 1))
    enlarged = [scale for scale in scales if scale > 1]
    assert found.upscale == pytest.approx(np.quantile(enlarged, 0.5, method="inverted_cdf"))
    assert sum(found.crop.counts) == sum(one.count for one in found.largest) == len(sizes)
    assert (found.resolution, found.buckets) == (512, len(buckets))


def test_failures_are_counted_by_reason_whatever_numbers_are_in_it(report: StoreReport) -> None:
    assert [(one.kind, one.reason, one.count, one.example) for one in report.failures] == [
        ("content", "… x …, a side under the limit of … pixels", 2, "a.png"),
        ("access", "permission denied", 1, "d.png"),
    ]
    assert report.failed == 3


def test_equal_bytes_are_named_most_first(report: StoreReport) -> None:
    # 003.png itself is hidden: of its three rows two are seen
    assert [one.count for one in report.again] == [2, 2]
    assert {one.name for one in report.again} <= {"007.png", "118.png", "060.png", "061.png"}


def test_a_condition_or_tags_choose_the_images_and_nothing_else(store: Store, visible: Rows) -> None:
    some = report_of(store, "format = 'png' and width > 1000")
    rows = [one for one in visible if one["format"] == "png" and one["width"] > 1000]
    assert (some.images, some.total) == (len(rows), len(visible))
    assert some.where == "format = 'png' and width > 1000"
    assert some.rows.general_scores.counts == binned(
        scores_of(rows, GENERAL_TAGS), [float(np.float16(edge)) for edge in some.rows.general_scores.edges]
    )
    assert some.rows.bytes == sum(one["size"] for one in rows)
    assert some.failed == 3
    tagged = report_of(store, tags="smile limit:4")
    assert tagged.images == 4
    assert tagged.where is not None and "has('smile')" in tagged.where


def test_a_store_without_images_and_one_of_failures_alone(tmp_path: Path) -> None:
    empty = report_of(new_store(tmp_path / "empty"))
    assert (empty.images, empty.contents, empty.shards, empty.failed) == (0, 0, 0, 0)
    assert empty.rows.sizes is None and empty.rows.policies == [] and empty.examples == []
    store = store_of(tmp_path / "failed")
    with store.writer() as writer:
        writer.commit(contents([], [failure("x.png", "empty file")]))
    failed = report_of(store)
    assert (failed.images, failed.failed) == (0, 1)
    nothing = report_of(drawn_store(tmp_path / "drawn"), "width > 1000000")
    assert nothing.images == 0 and nothing.rows.sizes is None


def test_images_without_tags_or_character_are_counted(tmp_path: Path) -> None:
    report = report_of(store_of(tmp_path / "feats", [row("a.png"), row("b.png", {"smile": 0.9})]))
    assert report.rows.tags_per_image.counts == [1, 1]
    assert report.rows.without_character == 2
    assert (report.characters.different, report.images_per_character) == (0, [])


def test_images_without_a_rating_are_of_no_rating(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"rating": None, "rating_scores": None}
    some = report_of(store_of(tmp_path / "some", [row("a.png"), row("b.png", **nothing)]))
    assert [(one.name, one.count) for one in some.rows.ratings] == [("general", 1)]
    assert {sum(found.counts) for found in some.rows.rating_scores.values()} == {1}
    none = report_of(store_of(tmp_path / "none", [row("a.png", **nothing)]))
    assert none.rows.ratings == [] and none.images == 1


def test_own_columns_are_told_by_their_kind(tmp_path: Path) -> None:
    store = store_of(tmp_path / "feats", [row(f"{n}.png") for n in range(6)])
    paths = [f"{n}.png" for n in range(5)]
    columns: dict[str, Any] = {
        "good": [True, True, False, None, True],
        "score": [0.0, 1.0, 2.0, 4.0, float("nan")],
        "style": ["ink", "ink", "<b>", "a" * 200, None],
        "words": [["a"], [], ["b", "a"], None, ["c"]],
        "fold": [1, 0, 1, 1, None],
        "numbers": [[1.0], [2.0], [], [3.0], [4.0]],
    }
    for name, values in columns.items():
        store.write_column(name, pa.table({"path": paths, "value": values}))
    found = {one.name: one for one in report_of(store).columns}
    assert [(one.name, one.count) for one in found["good"].top] == [("true", 3), ("false", 1)]
    assert found["score"].histogram == Histogram(edges=[0.0, 1.0, 2.0, 3.0, 4.0], counts=[1, 1, 1, 1])
    assert (found["score"].images, found["score"].different) == (5, 4)
    assert [one.name for one in found["style"].top] == ["ink", "<b>", f"{'a' * 79}…"]
    assert [(one.name, one.count) for one in found["fold"].top] == [("1", 3), ("0", 1)]
    assert [(one.name, one.count) for one in found["words"].top] == [("a", 2), ("b", 1), ("c", 1)]
    assert (found["words"].images, found["words"].different) == (4, 3)
    assert (found["numbers"].images, found["numbers"].top, found["numbers"].histogram) == (5, [], None)
    some = report_of(store, "style = 'ink'")
    assert next(one for one in some.columns if one.name == "style").images == 2
    (store.path / "columns" / "good.parquet").write_bytes(b"no column")
    damaged = next(one for one in report_of(store).columns if one.name == "good")
    assert damaged.problem is not None and "good" in damaged.problem


def test_the_layout_of_shards_changes_no_figure(tmp_path: Path) -> None:
    rows = [row(f"{n}.png", {"smile": n / 20, "hatsune_miku": 0.9}) for n in range(1, 20)]
    one, many = store_of(tmp_path / "one", rows), store_of(tmp_path / "many", rows[:4], rows[4:])
    add_shard(many, [])
    first, second = report_of(one).as_dict(), report_of(many).as_dict()
    for name in ("rows", "general", "characters", "contents", "images_per_character"):
        assert first[name] == second[name]


def test_reading_says_how_far_it_is(store: Store) -> None:
    progress = Watched()
    report_of(store, progress=progress, pictures=2)
    assert "ask: 2/2 questions" in progress.ended
    assert "read: 115/115 rows" in progress.ended
