"""Guides, and settings to keep: what cannot be is one line before anything is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfgdata.errors import ConfigError, QueryError, RunError
from pfgdata.store import Store
from pfgtrain.checkpoint import RunRecord
from pfgtrain.evaluate import EvaluateJob, EvaluateSetup, Guide, guides_of_job, tuned
from pfgtrain.generate import PFGModel
from tests.pfgtrain.evaluate.small_evaluation import OPTIONS


def test_an_expression_that_selects_no_image_is_refused_and_an_empty_one_too(place: Path) -> None:
    store, record = Store.open(place / "feats"), RunRecord.read(place / "run")
    with pytest.raises(ConfigError, match=r"feats: no image is selected by 'width > 9000'; try it with"):
        guides_of_job(EvaluateJob(where="width > 9000"), record, store=store)
    with pytest.raises(QueryError, match="the expression is empty"):
        guides_of_job(EvaluateJob(where=""), record, store=store)


def test_a_run_that_cannot_keep_what_is_chosen_is_refused_before_anything_is_drawn(
    model: PFGModel, guides: list[Guide], closed_to_us: Path
) -> None:
    setup, before = EvaluateSetup(guides=guides, options=OPTIONS), list(closed_to_us.iterdir())
    job = EvaluateJob(guides="guides", tune=str(closed_to_us / "absent"), keep=True)
    with pytest.raises(ConfigError, match="absent: no such folder"):  # the run's folder takes a file
        tuned(setup, model, job, run=closed_to_us)
    assert list(closed_to_us.iterdir()) == before
    closed_to_us.chmod(0o500)
    with pytest.raises(RunError, match=r"sampling\.json: not written \(Permission denied\); leave out"):
        tuned(setup, model, job, run=closed_to_us)


def test_an_empty_name_of_a_folder_of_guides_is_where_one_stands(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place / "guides")
    found, _ = guides_of_job(EvaluateJob(guides=""), RunRecord.read(place / "run"), store=None)
    assert [guide.name for guide in found] == [f"images/000{number}.png" for number in (0, 2, 4, 6)]
