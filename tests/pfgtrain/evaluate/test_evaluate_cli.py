"""`pfgtrain evaluate`: names to objects, tables on stdout, the verdict for people."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pfgdata import hub
from pfgdata.corpus import plan_segments
from pfgdata.ingest import ingest
from pfgdata.store import Store, StoreIdentity
from pfgdata.taggers import OnnxTagger
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, Sampling
from pfgtrain.evaluate import EvaluateJob, guides_of_job
from tests.conftest import make_images
from tests.pfgtrain.conftest import Call
from tests.pfgtrain.evaluate.small_evaluation import write_guides
from tests.pfgtrain.export.small_run import make_run
from tests.pfgtrain.tiny_base import build_tiny_base

FAST = ["-n", 1, "--steps", 1, "--device", "cpu"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Guides, and a run of the demo tagger whose store is there."""
    place = tmp_path_factory.mktemp("evaluation")
    write_guides(place / "guides", characters=3)
    tagger = OnnxTagger.load("demo")
    identity = StoreIdentity(
        tagger=tagger.identity, vocabulary_digest=tagger.vocabulary.digest, feature_dim=tagger.feature_dim
    )
    store = Store.create(place / "feats", identity=identity, vocabulary=tagger.vocabulary)
    make_images(place / "corpus", 4, seed=9)
    ingest(plan_segments([place / "corpus"], {}), store, tagger)
    base = Base.load(str(build_tiny_base(place / "base")))
    make_run(place / "run", base, tagger=tagger.identity, store=str(place / "feats"))
    make_run(place / "moved", base, tagger=tagger.identity, store=str(place / "gone"))
    return place


def test_a_run_is_measured_by_its_tagger_and_the_demo_judge(call: Call, place: Path) -> None:
    code, out, err = call("evaluate", place / "run", "--guides", place / "guides", *FAST)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "tagger demo: who is it"
    assert lines[1].startswith("tagger\tscaled\ttop-1 guide\ttop-5 guide")
    assert [line.split("\t")[0] for line in lines[2:10]] == [
        "pfg",
        "no_pfg",
        "shuffled",
        "style",
        "style_hair",
        "copier",
        "ceiling",
        "chance",
    ]
    assert "judge demo: who is it" in lines
    assert err.splitlines()[-1].startswith("top-1 ")
    assert "by the judge" in err
    page = place / "run" / "evaluation" / "index.html"
    assert page.is_file()
    assert str(page) in err


def test_json_is_the_report_and_a_store_that_is_not_here_is_said(
    call: Call, place: Path, tmp_path: Path
) -> None:
    args = [
        "--guides",
        place / "guides",
        "--limit",
        2,
        "--out",
        tmp_path / "out",
        "--json",
        "--judge",
        "demo",
    ]
    code, out, err = call("evaluate", place / "moved", *args, *FAST)
    assert code == 0, err
    assert json.loads(out) == json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads(out)["notes"][:2] == [
        "the run's store, gone, is not here; name it by --shards",
        "2 of 3 guides, evenly spread over their order, as asked",
    ]
    code, _, err = call("evaluate", place / "moved", "--where", "width > 0", *args[2:], *FAST)
    assert code == 1
    assert "gone" in err


def test_a_limit_takes_guides_of_both_styles_where_they_take_turns(place: Path, tmp_path: Path) -> None:
    write_guides(tmp_path / "guides", characters=12, views=1)
    job = EvaluateJob(guides=str(tmp_path / "guides"), limit=6)
    found, notes = guides_of_job(job, RunRecord.read(place / "moved"), store=None)
    assert notes == ["6 of 12 guides, evenly spread over their order, as asked"]
    assert {guide.style for guide in found} == {"a", "b"}
    names = [guide.name for guide in found]
    assert names == sorted(set(names))
    assert len(names) == 6


def test_images_of_the_store_guide_and_are_flagged(call: Call, place: Path, tmp_path: Path) -> None:
    args = ["--where", "width > 0", "--shards", place / "feats", "--out", tmp_path / "out", "--json"]
    code, out, err = call("evaluate", place / "moved", *args, "--limit", 2, *FAST)
    assert code == 0, err
    assert [guide["trained_on"] for guide in json.loads(out)["guides"]] == [True] * 2
    assert "trained on  2 guides" in err


def test_a_store_that_only_has_the_name_of_a_given_away_runs_store_is_not_asked(
    call: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Base.load(str(place / "base"))
    make_run(tmp_path / "given", base, tagger=OnnxTagger.load("demo").identity, store="feats")
    monkeypatch.chdir(place)  # where another store is called feats
    args = ["--guides", place / "guides", "--out", tmp_path / "out", "--json", "--limit", 2]
    code, out, err = call("evaluate", tmp_path / "given", *args, *FAST)
    assert code == 0, err
    assert json.loads(out)["notes"][0] == "the run's store, feats, is not here; name it by --shards"
    assert [guide["trained_on"] for guide in json.loads(out)["guides"]] == [None] * 2
    code, _, err = call("evaluate", tmp_path / "given", "--where", "width > 0", *FAST)
    assert code == 1
    assert "feats, did not come with it; name one by --shards" in err


def test_a_store_that_cannot_be_asked_any_more_is_said_unless_it_was_named(
    call: Call, place: Path, tmp_path: Path
) -> None:
    base, tagger = Base.load(str(place / "base")), OnnxTagger.load("demo").identity
    expression = "mood = 'gone'"
    make_run(
        tmp_path / "run", base, tagger=tagger, store=str(place / "feats"), selection_expression=expression
    )
    args = ["evaluate", tmp_path / "run", "--guides", place / "guides", "--out", tmp_path / "out", *FAST]
    code, _, err = call(*args)
    assert code == 0, err
    assert "the run's store cannot be asked what was trained on" in err
    assert str(place) not in (tmp_path / "out" / "report.json").read_text()
    code, _, err = call(*args, "--shards", place / "feats")
    assert code == 1
    assert "mood" in err


def test_a_judge_that_cannot_be_is_refused_before_tuning(call: Call, place: Path, tmp_path: Path) -> None:
    judge = ["--judge", hub.resolve("demo", what="tagger").folder]
    args = ["--guides", place / "guides", "--tune", tmp_path / "absent", *judge, "--out", tmp_path / "out"]
    code, _, err = call("evaluate", place / "run", *args, *FAST)
    assert code == 1
    assert "the run's own tagger" in err


def test_tuning_comes_first_and_is_shown(call: Call, place: Path, tmp_path: Path) -> None:
    write_guides(tmp_path / "others", characters=2, seed=1)
    args = ["--guides", place / "guides", "--tune", tmp_path / "others", "--out", tmp_path / "out"]
    run = shutil.copytree(place / "run", tmp_path / "run")
    code, out, err = call("evaluate", run, *args, *FAST, "--guidance-rescale", 0.5, "--keep")
    assert code == 0, err
    assert "tried on 2 other guides" in out
    assert out.count("\tused") == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    best = report["tuning"]["trials"][report["tuning"]["best"]]
    assert report["options"]["guidance_scale"] == best["guidance_scale"]
    assert len(report["tuning"]["trials"]) == 5
    kept = Sampling.read(run)
    assert kept is not None and kept.guidance_scale == best["guidance_scale"]
    assert kept.guidance_rescale == report["options"]["guidance_rescale"] == 0.5
    assert any("as chosen by --tune, with guidance rescale 0.5" in note for note in report["notes"])


def test_what_a_run_keeps_is_what_generate_and_evaluate_draw_with(
    call: Call, place: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(place / "run", tmp_path / "run")
    Sampling(guidance_scale=4.25, guidance_rescale=0.5, pfg_scale=0.75).write(run)
    guide = next((place / "guides" / "images").iterdir())
    for flags, expected in (([], (4.25, 0.75)), (["--guidance", 2], (2.0, 0.75))):
        code, out, err = call("generate", run, guide, *FAST, *flags)
        assert code == 0, err
        with Image.open(out.splitlines()[0]) as picture:
            settings = json.loads(picture.info["pfg"])
        assert (settings["guidance_scale"], settings["pfg_scale"]) == expected
        assert settings["guidance_rescale"] == 0.5
    code, out, err = call("evaluate", run, "--guides", place / "guides", *FAST, "--json")
    assert code == 0, err
    options = json.loads(out)["options"]
    assert (options["guidance_scale"], options["guidance_rescale"]) == (4.25, 0.5)
    assert call("evaluate", run, "--guides", place / "guides", "--keep")[0] == 2  # nothing is chosen


def test_nothing_is_kept_in_the_run_that_travels_inside_the_package(
    call: Call, place: Path, tmp_path: Path
) -> None:
    args = ["--guides", place / "guides", "--tune", tmp_path / "absent", "--keep"]
    code, _, err = call("evaluate", "demo", *args, *FAST)
    assert (code, "make a copy: pfgtrain export demo --as run --to FOLDER" in err) == (2, True), err


def test_a_dry_run_says_what_would_be_made(call: Call, place: Path, tmp_path: Path) -> None:
    args = ["--guides", place / "guides", "-n", 5, "--out", tmp_path / "out", "--dry-run"]
    code, out, err = call("evaluate", place / "run", *args, "--json")
    assert code == 0, err
    assert json.loads(out) == {"guides": 3, "with_another_view": 3, "gallery": 0, "pictures": 20}
    assert "3, 3 with another view" in err
    assert "20" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 2, "name the guides"),
        (["--guides", "guides", "--where", "width > 0"], 2, "name the guides"),
        (["--guides", "absent"], 1, "absent: no such folder"),
        (["--guides", "guides", "--judge", "base"], 1, r"model.onnx is missing"),
        (["--guides", "guides", "--judge", "no-such"], 1, "judge no-such: no such folder"),
        (["--guides", "guides", "--threshold", "2"], 1, "threshold is 2"),
    ],
)
def test_a_mistake_is_one_line(
    call: Call,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(place)
    found, _, err = call("evaluate", "run", *more, *FAST)
    assert found == code
    *loading, last = err.splitlines()
    assert message in last
    assert all(re.match(r"(hash|load): \d", line) for line in loading)  # said only on a slow machine
