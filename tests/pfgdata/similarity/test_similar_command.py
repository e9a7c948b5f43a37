"""`pfgdata similar` on real images: stored ones by path and id, files that are tagged first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.errors import PfgError
from pfgdata.ingest import IngestJob, IngestOptions, ingest, open_or_create, tagger_for

DEMO = Path(__file__).parents[3] / "pipelines" / "demo"
VIEWS = [DEMO / "images/lorelei/00" / f"lorelei-d0000-v{view}" for view in range(4)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve portraits of lorelei, tagged by the demo tagger."""
    path = tmp_path_factory.mktemp("similar") / "feats"
    tagger = tagger_for(None, IngestJob(tagger="demo"))
    images = [one for number in range(3) for one in VIEWS[0].parent.glob(f"lorelei-d000{number}-v*")]
    ingest(plan_segments(images, {}), open_or_create(path, tagger), tagger, options=IngestOptions())
    return path


def asked(store: Path, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["similar", *arguments, "--store", str(store), "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def views(answer: dict[str, Any]) -> list[str]:
    return [Path(one["path"]).name.split("-v")[0] for one in answer["results"]]


def test_a_stored_image_finds_its_other_views_first_by_file_path_and_id(store: Path) -> None:
    file = next(VIEWS[0].parent.glob("lorelei-d0000-v0*"))
    (by_file,) = asked(store, str(file), "-k", "11")
    assert views(by_file)[:3] == ["lorelei-d0000"] * 3
    assert by_file["tagged_now"] == []
    assert file.name not in {Path(one["path"]).name for one in by_file["results"]}
    assert len(by_file["results"]) == 11
    (by_path,) = asked(store, file.name, "-k", "11")
    (by_id,) = asked(store, by_file["content_id"][0], "-k", "11")
    assert by_file["results"] == by_path["results"] == by_id["results"]
    first = by_file["results"][0]
    assert Path(first["file"]).is_file() and "solo" in first["shared_tags"]
    assert not {"general", "sensitive"} & set(first["shared_tags"])


def test_a_file_that_is_not_in_the_store_is_tagged_and_that_is_said(store: Path) -> None:
    guide = DEMO / "guides/lorelei/00/lorelei-g0000-v0.webp"
    result = CliRunner().invoke(app, ["similar", str(guide), "--store", str(store), "-k", "2", "--json"])
    assert "tagged now by demo" in result.stderr
    assert json.loads(result.stdout)["tagged_now"] == [str(guide)]


def test_a_mean_is_one_query_and_where_and_center_hold(store: Path) -> None:
    names = [next(one.parent.glob(f"{one.name}*")).name for one in VIEWS[:2]]
    (answer,) = asked(store, *names, "--mean", "-k", "4")
    assert answer["query"] == names and views(answer)[:2] == ["lorelei-d0000"] * 2
    one, two = asked(store, *names, "--center", "--where", "path not like '%d0000%'")
    assert len(one["results"]) == len(two["results"]) == 8
    assert one["results"][-1]["score"] < 0.1


def test_what_is_no_image_is_one_line(store: Path) -> None:
    result = CliRunner().invoke(app, ["similar", "no-such", "--store", str(store)])
    assert isinstance(result.exception, PfgError)
    assert "no such file here, and no image of" in str(result.exception)
