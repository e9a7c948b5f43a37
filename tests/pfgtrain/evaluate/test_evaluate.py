"""A whole evaluation of a tiny run: rows that bound it, flags, files, what is said of what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pytest
from PIL import Image

from pfgdata.errors import ConfigError, ContentError, RunError
from pfgdata.pages import stylesheet
from pfgtrain.base import Base
from pfgtrain.evaluate import (
    EvaluateOptions,
    EvaluateReport,
    EvaluateSetup,
    Guide,
    TrainingImages,
    Tuning,
    evaluate,
    guides_of_folder,
    report_tables,
    tune,
    verdict,
)
from pfgtrain.evaluate.page import page
from pfgtrain.generate import GenerateOptions, PFGModel, generate, load_run
from tests.doubles import CheapTagger, Watched
from tests.pfgtrain.evaluate.small_evaluation import COUNT, OPTIONS, HairTagger, write_guides
from tests.pfgtrain.export.small_run import make_run


@pytest.fixture(scope="module")
def report(model: PFGModel, guides: list[Guide], training: TrainingImages, place: Path) -> EvaluateReport:
    return evaluate(
        model,
        EvaluateSetup(guides=guides, judge=HairTagger(), training=training, options=OPTIONS),
        out_dir=place / "out",
    )


def test_every_row_is_measured_by_both_viewers(report: EvaluateReport) -> None:
    assert list(report.viewers) == ["tagger", "judge"]
    for viewer in report.viewers.values():
        assert set(viewer.rows) == {
            "pfg",
            "no_pfg",
            "shuffled",
            "style",
            "style_hair",
            "copier",
            "ceiling",
        }
        assert list(viewer.chance) == ["guide", "guide_in_style", "view", "view_in_style"]
        assert len(viewer.rows["pfg"].cosines) == COUNT
    assert report.viewers["judge"].recipe == "webui"


def test_the_guide_through_the_vae_is_first_among_the_guides(report: EvaluateReport) -> None:
    for viewer in report.viewers.values():
        found = viewer.rows["ceiling"].retrieval["guide"]
        assert found.ranks == [[1]] * COUNT
        assert found.top1 is not None
        assert (found.top1.value, found.top1.low) == (1, 1)


def test_a_guide_that_was_trained_on_is_flagged(report: EvaluateReport, place: Path) -> None:
    assert [guide.trained_on for guide in report.guides] == [True, False, False, False]
    assert report.flagged == ["images/0000.png"]
    assert (place / "out" / "index.html").read_text().count("<mark>") == 1
    assert any(note.endswith("is not what was trained on") for note in report.notes)  # record's digest is x


def test_every_part_of_an_evaluation_shows_how_far_it_is(
    model: PFGModel, guides: list[Guide], training: TrainingImages
) -> None:
    watched = Watched()
    evaluate(model, EvaluateSetup(guides=guides, training=training, options=OPTIONS), progress=watched)
    views, pictures = 2 * COUNT, (COUNT + 1) * OPTIONS.images_per_guide
    assert [line for line in watched.ended if not line.startswith("prompts")] == [
        f"guides: {views}/{views} images",
        f"generate: {pictures}/{pictures} steps",
        "nearest: 3/3 searches",
        f"copies: {COUNT}/{COUNT} images",
    ]


def test_the_copier_shows_the_nearest_training_image(
    report: EvaluateReport, model: PFGModel, training: TrainingImages, place: Path
) -> None:
    """The first guide is itself among them, so what is copied is the ceiling."""
    rows, near = report.viewers["tagger"].rows, report.nearest_training
    assert rows["copier"].cosines[0] == pytest.approx(rows["ceiling"].cosines[0])
    assert rows["copier"].cosines[1] != pytest.approx(rows["ceiling"].cosines[1])
    assert near is not None
    assert near.images == 7
    seen = [
        model.feature(np.asarray(Image.open(place / "out" / guide.pictures["vae"][0]))).numpy()
        for guide in report.guides
    ]
    _, through_vae = training.nearest(np.stack(seen))  # blurred as the results are, to compare like with like
    assert near.per_guide == pytest.approx(through_vae.tolist(), abs=1e-4)
    assert near.per_guide[0] < 0.99
    assert near.guides_max == max(near.per_guide)
    assert [len(values) for values in near.per_result] == [2] * COUNT


def test_pictures_are_those_of_generate_and_rows_share_their_noise(
    report: EvaluateReport, model: PFGModel, guides: list[Guide], place: Path
) -> None:
    options = GenerateOptions(
        images_per_guide=2, guidance_scale=3.0, num_inference_steps=1, seed=5, batch_size=1
    )
    made = generate(model, [place / "guides" / guides[1].name], place / "made", options=options)
    ours = [place / "out" / path for path in report.guides[1].pictures["results"]]
    for own, picture in zip(ours, made.pictures, strict=True):
        assert nearly_equal(own, picture.path)
    alone = generate(
        model, [place / "guides" / guides[0].name], place / "alone", options=replace(options, no_pfg=True)
    )
    ours = [place / "out" / path for path in report.no_pfg_pictures]
    for own, picture in zip(ours, alone.pictures, strict=True):
        assert nearly_equal(own, picture.path)


def test_the_report_on_disk_is_the_report(report: EvaluateReport, place: Path) -> None:
    text = (place / "out" / "report.json").read_text()
    assert json.loads(text) == report.as_dict()
    assert report.as_dict()["options"]["seed"] == 5
    assert report.as_dict()["viewers"]["judge"]["rows"]["pfg"]["retrieval"]["guide"]["ranks"]
    assert str(place) not in text


def test_the_page_shows_every_guide_and_all_its_results_from_files_beside_it(
    report: EvaluateReport, place: Path
) -> None:
    page = (place / "out" / "index.html").read_text()
    shown = sources(page)
    assert all((place / "out" / path).is_file() for path in shown)
    order = [page.index(f"<h3>{guide.name}") for guide in report.guides]
    assert order == sorted(order)
    for guide in report.guides:
        assert [kind for kind in guide.pictures if guide.pictures[kind]] != []
        assert {kind: len(paths) for kind, paths in guide.pictures.items()} == {
            "guide": 1,
            "vae": 1,
            "view": 1,
            "results": 2,
            "copy": 1,
        }
        assert all(path in shown for paths in guide.pictures.values() for path in paths)
    assert all(path in shown for path in report.no_pfg_pictures)
    assert not re.search(r"<script|https?://", page)
    assert "rank among guides" in page


def test_the_page_opens_with_guides_beside_their_results_and_has_tables_below(
    report: EvaluateReport, place: Path
) -> None:
    text = (place / "out" / "index.html").read_text()
    assert stylesheet() in text
    assert text.index("<img") < text.index("<h2>") < text.index("<table>")
    shown = sources(text)
    for guide in report.guides:
        first = shown.index(guide.pictures["guide"][0])
        results = guide.pictures["results"]
        assert shown[first + 1 : first + 1 + len(results)] == results  # unpicked, in order
    assert all(f'<a href="{quote(path)}">' in text for path in shown)
    assert verdict(report) in unescape(text[: text.index("<img")])


def test_names_and_notes_are_text_on_the_page(report: EvaluateReport) -> None:
    markup = '<script>x</script><img src=x>"&amp;'
    guides = [
        replace(
            report.guides[0],
            name=markup,
            character=markup,
            style=markup,
            pictures={"guide": [f"pictures/{markup}.png"], "results": []},
        ),
        *report.guides[1:],
    ]
    text = page(replace(report, guides=guides, notes=[markup], model={**report.model, "prompt": markup}))
    assert "<script" not in text and "<img src=x" not in text
    assert text.count(escape(markup)) >= 5
    assert f"pictures/{markup}.png" in sources(text)


def test_many_results_stand_below_each_other_beside_their_guide(report: EvaluateReport) -> None:
    guide = report.guides[0]
    many = replace(guide, pictures={**guide.pictures, "results": [f"{n}.png" for n in range(13)]})
    text = page(replace(report, guides=[many, *report.guides[1:]]))
    assert "repeat(7, minmax(0, 64px)); --lines: 3" in text
    assert sources(text)[1:14] == many.pictures["results"]


def test_without_the_training_images_the_report_says_so_and_lacks_only_them(
    model: PFGModel, guides: list[Guide], tmp_path: Path
) -> None:
    found = evaluate(model, EvaluateSetup(guides=guides, options=OPTIONS, notes=["as asked"]))
    json.dumps(found.as_dict(), allow_nan=False)
    assert found.notes[0] == "as asked"
    assert any("trained on are not here" in note for note in found.notes)
    assert "copier" not in found.viewers["tagger"].rows
    assert found.nearest_training is None
    assert [guide.trained_on for guide in found.guides] == [None] * COUNT
    assert list(found.viewers) == ["tagger"]
    assert found.guides[0].pictures == {}  # nothing is written without a folder
    assert list(tmp_path.iterdir()) == []


def test_batches_and_files_change_no_figure(
    report: EvaluateReport, model: PFGModel, guides: list[Guide], training: TrainingImages
) -> None:
    alone = evaluate(
        model,
        EvaluateSetup(
            guides=guides, judge=HairTagger(), training=training, options=replace(OPTIONS, batch_size=8)
        ),
    )
    for role, viewer in report.viewers.items():
        for name, row in viewer.rows.items():
            other = alone.viewers[role].rows[name]
            assert row.cosines == pytest.approx(other.cosines, abs=0.02)


def test_guides_without_views_styles_and_tags_are_measured_by_what_there_is(
    model: PFGModel, guides: list[Guide], place: Path
) -> None:
    plain = guides_of_folder(place / "guides" / "images")[:3]
    found = evaluate(model, EvaluateSetup(guides=plain, options=OPTIONS))
    assert set(found.viewers["tagger"].rows) == {"pfg", "no_pfg", "shuffled", "ceiling"}
    assert list(found.viewers["tagger"].chance) == ["guide"]
    assert found.viewers["tagger"].diversity.views is None
    assert found.guides[0].character is None
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_verdict_names_the_bounds(report: EvaluateReport) -> None:
    line = verdict(report)
    assert re.match(r"top-1 \d\.\d\d \[\d\.\d\d, \d\.\d\d\] of 4 guides \(chance 0\.25, no PFG ", line)
    assert "ceiling 1.00" in line
    assert "by the judge" in line
    assert "by the run's tagger" in line


def test_how_it_is_drawn_is_measured_beside_real_pictures(report: EvaluateReport) -> None:
    assert list(report.pixels) == ["pfg", "no_pfg", "shuffled", "copier", "ceiling", "guide"]
    for name, row in report.pixels.items():
        assert row.edges is not None and row.lines is not None, name
        assert row.edges.guides == COUNT
    ceiling, guide = report.pixels["ceiling"], report.pixels["guide"]
    assert ceiling.edges is not None and ceiling.edges.value == 1
    assert guide.edges is not None and guide.edges.value != 1
    assert guide.colour is not None and guide.colour.value == 0
    for viewer in report.viewers.values():
        assert viewer.kid_real is not None and viewer.kid_real.guides == COUNT
        assert all(viewer.rows[name].kid is not None for name in ("pfg", "copier", "ceiling"))
        assert viewer.rows["style"].kid is None
    titles = [table.title for table in report_tables(report)]
    assert titles[-2:] == ["how it is drawn", "beside real images"]
    assert any("a face's tags as a share of the ceiling's" in title for title in titles)


def test_what_cannot_be_told_is_refused(model: PFGModel, guides: list[Guide], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 guide: name at least two"):
        evaluate(model, EvaluateSetup(guides=guides[:1]))
    with pytest.raises(ConfigError, match="the run's own tagger"):
        evaluate(model, EvaluateSetup(guides=guides, judge=CheapTagger()))
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = Guide(name="bad.png", character="x", views=(tmp_path / "bad.png",))
    with pytest.raises(ContentError, match=r"bad\.png"):
        evaluate(model, EvaluateSetup(guides=[*guides, bad]), out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(
    model: PFGModel, guides: list[Guide], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    gone = [replace(guide, views=(tmp_path / "gone.png",)) for guide in guides]
    with pytest.raises(RunError, match="file/out: cannot be written; choose another --out"):
        evaluate(model, EvaluateSetup(guides=gone, options=OPTIONS), out_dir=tmp_path / "file" / "out")


def test_guides_of_one_image_are_said_to_miss_each_other(model: PFGModel, guides: list[Guide]) -> None:
    twins = [guides[0], guides[1], replace(guides[0], character="twin")]
    found = evaluate(model, EvaluateSetup(guides=twins, options=OPTIONS))
    assert any(note.startswith("2 guides are the same image") for note in found.notes)
    assert found.viewers["tagger"].rows["ceiling"].retrieval["guide"].ranks == [[2], [1], [2]]


def test_a_run_without_tokens_is_refused(place: Path, guides: list[Guide], tmp_path: Path) -> None:
    make_run(tmp_path / "run", Base.load(str(place / "base")), num_tokens=0)
    with pytest.raises(ConfigError, match="has no tokens"):
        evaluate(load_run(tmp_path / "run", tagger=CheapTagger(), device="cpu"), EvaluateSetup(guides=guides))


@pytest.mark.parametrize("changes", [{"threshold": 0.0}, {"resamples": 0}, {"images_per_guide": 0}])
def test_options_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} is 0"):
        EvaluateOptions(**changes)


def test_the_best_setting_on_other_guides_is_reported_with_all_that_was_tried(
    model: PFGModel, guides: list[Guide], tmp_path: Path
) -> None:
    write_guides(tmp_path / "others", characters=3, seed=1)
    others = guides_of_folder(tmp_path / "others")
    grid = [(1.0, 1.0), (4.0, 2.0)]
    found = tune(model, others, reported=guides, options=OPTIONS, grid=grid)
    assert [(trial.guidance_scale, trial.pfg_scale) for trial in found.trials] == grid
    values = [trial.scaled.value for trial in found.trials if trial.scaled]
    assert values[found.best] == max(values)
    assert found.trials[0] != found.trials[1]
    options = found.applied(OPTIONS)
    assert (options.guidance_scale, options.pfg_scale) == grid[found.best]
    alone = evaluate(
        model, EvaluateSetup(guides=others, options=replace(OPTIONS, guidance_scale=4.0, pfg_scale=2.0))
    )
    assert found.trials[1].scaled == alone.viewers["tagger"].rows["pfg"].scaled
    report = evaluate(model, EvaluateSetup(guides=guides, options=options, tuning=found))
    assert report.as_dict()["tuning"]["best"] == found.best


@pytest.mark.parametrize("hidden", [False, True], ids=["by name", "by image"])
def test_tuning_on_a_reported_character_is_refused(
    model: PFGModel, guides: list[Guide], hidden: bool
) -> None:
    others = [replace(guide, character=None) if hidden else guide for guide in guides[1:3]]
    with pytest.raises(ConfigError, match="tuned on and reported"):
        tune(model, others, reported=guides, options=OPTIONS)


def test_the_best_trial_is_applied_whichever_it_is(
    model: PFGModel, guides: list[Guide], tmp_path: Path
) -> None:
    write_guides(tmp_path / "others", characters=2, seed=2)
    pick: Callable[[list[tuple[float, float]]], Tuning] = lambda grid: tune(  # noqa: E731
        model, guides_of_folder(tmp_path / "others"), reported=guides, options=OPTIONS, grid=grid
    )
    one, other = pick([(1.0, 1.0), (6.0, 3.0)]), pick([(6.0, 3.0), (1.0, 1.0)])
    assert one.applied(OPTIONS) == other.applied(OPTIONS)
    assert one.best == 1 - other.best


def nearly_equal(one: Path, other: Path) -> bool:
    """Whether two pictures are the same but for what kernels round by batch shape."""
    arrays = [np.asarray(Image.open(path).convert("RGB"), np.int16) for path in (one, other)]
    return bool(np.abs(arrays[0] - arrays[1]).max() <= 1)


def sources(page: str) -> list[str]:
    """The pictures of a page."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                found.append(unquote(dict(attrs)["src"] or ""))

    Reader().feed(page)
    return found
