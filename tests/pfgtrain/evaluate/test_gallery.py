"""Characters that are only searched among: they make the search harder, and change nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pfgdata.errors import ConfigError
from pfgtrain.evaluate import (
    EvaluateJob,
    EvaluateOptions,
    EvaluateSetup,
    Guide,
    evaluate,
    gallery_of_job,
    guides_of_folder,
    verdict,
)
from pfgtrain.evaluate.figures import measure
from pfgtrain.generate import PFGModel
from tests.pfgtrain.conftest import Call
from tests.pfgtrain.evaluate.small_evaluation import COUNT, OPTIONS, write_guides
from tests.pfgtrain.evaluate.test_figures import CORNERS, GUIDES, SEEN, VIEWER, pool, value

MORE = [
    Guide(name="4", character="4", views=(), style="a", tags=frozenset({"red_hair"})),
    Guide(name="5", character="5", views=(), style="c", tags=frozenset({"blue_hair"})),
]
NEAR = [*CORNERS, [1, 0.9], [-2, 0.1]]  # 4 stands beside guide 0
WIDER = replace(
    SEEN,
    raw=pool(NEAR, [0, 1, 2, 3, 4, 5], {0: ["glasses"]}),
    ceiling=pool(NEAR, [0, 1, 2, 3, 4, 5], {0: ["glasses"]}),
    others=pool([*CORNERS[:3], [3, 0]], [0, 1, 2, 4]),
)


def test_a_guide_is_looked_for_among_guides_and_gallery() -> None:
    found = measure(VIEWER, WIDER, GUIDES, gallery=MORE, options=EvaluateOptions(resamples=20))
    assert found.chance["guide"] == pytest.approx((1 / 6, 5 / 6))
    assert found.chance["view"] == (0.25, 1)  # three guides have another view, and one more character
    ranks = found.rows["pfg"].retrieval["guide"].ranks
    assert len(ranks) == len(GUIDES)
    alone = measure(VIEWER, SEEN, GUIDES, options=EvaluateOptions(resamples=20))
    assert value(found.rows["ceiling"].retrieval["guide"].top1) == 1
    for row, fewer in zip(ranks, alone.rows["pfg"].retrieval["guide"].ranks, strict=True):
        assert row is not None and fewer is not None
        assert max(row) <= len(GUIDES) + len(MORE)
        assert sum(row) >= sum(fewer) - 2  # the mean that is taken off has moved


def test_within_a_style_its_characters_of_the_gallery_are_searched_too() -> None:
    found = measure(VIEWER, WIDER, GUIDES, gallery=MORE, options=EvaluateOptions(resamples=20))
    sizes = np.array([3, 3, 2, 2])  # nobody is looked for in style c
    assert found.chance["guide_in_style"][0] == pytest.approx(np.mean(1 / sizes))
    assert value(found.rows["style"].retrieval["guide"].top1) == pytest.approx(np.mean(1 / sizes))
    assert value(found.rows["style_hair"].retrieval["guide"].top1) == pytest.approx(
        (1 / 3 + 1 / 3 + 1 + 1) / 4
    )


def test_cosines_tags_and_diversity_are_of_the_guides_alone() -> None:
    wide = measure(VIEWER, WIDER, GUIDES, gallery=MORE, options=EvaluateOptions(resamples=20))
    narrow = replace(
        WIDER,
        raw=WIDER.raw.take(np.arange(4)),
        ceiling=WIDER.ceiling.take(np.arange(4)),
        others=WIDER.others.take(np.arange(3)),
    )
    alone = measure(VIEWER, narrow, GUIDES, options=EvaluateOptions(resamples=20))
    for name in ("pfg", "no_pfg", "shuffled", "copier", "ceiling"):
        assert wide.rows[name].cosines == alone.rows[name].cosines, name
        assert wide.rows[name].scaled == alone.rows[name].scaled
        assert wide.rows[name].attributes == alone.rows[name].attributes
        assert wide.rows[name].face == alone.rows[name].face
    assert (wide.tags, wide.diversity) == (alone.tags, alone.diversity)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    write_guides(tmp_path / "gallery", characters=5, seed=3)
    return tmp_path / "gallery"


def test_nothing_is_drawn_for_the_gallery_and_a_guide_in_it_is_no_rival(
    model: PFGModel, guides: list[Guide], gallery: Path, tmp_path: Path
) -> None:
    others = guides_of_folder(gallery)
    twin = replace(guides[0], character="twin")  # the same image under another name
    setup = EvaluateSetup(guides=guides, gallery=[*guides, *others, twin], options=OPTIONS)
    found = evaluate(model, setup, out_dir=tmp_path / "out")
    assert found.further == len(others)
    assert len(found.guides) == COUNT
    viewer = found.viewers["tagger"]
    assert viewer.chance["guide"][0] == pytest.approx(1 / (COUNT + len(others)))
    assert viewer.rows["ceiling"].retrieval["guide"].ranks == [[1]] * COUNT
    kept = {path.name.partition("-")[0] for path in (tmp_path / "out" / "pictures").rglob("*.png")}
    assert kept == {f"{k:04d}" for k in range(COUNT)} | {"no"}  # no-pfg
    assert f"of {COUNT} guides among {COUNT + len(others)} (" in verdict(found)
    assert {row.edges.guides for row in found.pixels.values() if row.edges} == {COUNT}


def test_where_no_guides_are_named_the_gallery_guides_and_a_limit_leaves_it_whole(
    call: Call, gallery: Path, tmp_path: Path
) -> None:
    code, _, err = call("evaluate", "demo", "--gallery", gallery, "--limit", 2, "--dry-run")
    assert code == 0, err
    assert "2, 2 with another view" in err
    assert "5 characters" in err


def test_the_large_gallery_is_kept_in_the_cache_and_its_lack_says_how_to_draw_it(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "gallery")
    monkeypatch.setenv("PFG_CACHE", str(tmp_path / "cache"))
    job = EvaluateJob(gallery="large")
    with pytest.raises(
        ConfigError, match=r"cache/gallery; draw it .* python -m pipelines.demo_corpus gallery"
    ):
        gallery_of_job(job)
    gallery.rename(tmp_path / "away")
    (tmp_path / "cache").mkdir()
    (tmp_path / "away").rename(tmp_path / "cache" / "gallery")
    assert len(gallery_of_job(job)) == 5


def test_a_gallery_that_is_not_there_is_refused_and_none_is_none(call: Call) -> None:
    code, _, err = call("evaluate", "demo", "--gallery", "nowhere", "--dry-run")
    assert (code, "nowhere: no such folder" in err) == (1, True)
    assert gallery_of_job(EvaluateJob(guides="somewhere")) == []
    with pytest.raises(ConfigError, match="or a gallery"):
        EvaluateJob()
