"""A fit by `--where @NAME`: the run records what the name meant, and goes on with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pfgdata.errors import RunError
from pfgdata.query import Thresholds, select
from pfgdata.store import SavedSelection, Store
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord
from pfgtrain.evaluate import training_images
from pfgtrain.fit import data_of, fit, go_on
from tests.pfgtrain.fit.small_fit import SMALL, StopAfter, make_data

USUAL = {"general": 0.35, "character": 0.85}


@pytest.fixture
def store(tmp_path: Path, base: Base) -> Store:
    """A store of the test's own, with a selection of all its images but the first."""
    store = make_data(tmp_path / "feats", base).store
    every = select(store.snapshot(), None, Thresholds())
    store.write_selection(SavedSelection(name="kept", text=None), every.content_ids[1:])
    store.write_selection(SavedSelection(name="good", text="@kept", thresholds=USUAL, uses=("kept",)))
    return store


def test_a_run_records_what_its_selection_meant_and_resumes_by_it(
    store: Store, base: Base, tmp_path: Path
) -> None:
    config, run = replace(SMALL, where="@good"), tmp_path / "run"
    data = data_of(store, config)
    fit(data, base, config, run_dir=run, stop=StopAfter(1))
    record = RunRecord.read(run)
    assert (record.selection_expression, record.selection_count) == ("@good", len(data.selection))
    assert record.selections["good"] == {
        "text": "@kept",
        "language": "sql",
        "thresholds": USUAL,
        "frozen": None,
    }
    assert record.selections["kept"]["frozen"] == data.selection.digest == record.selection_digest
    go_on(data_of(store, config), base, config, run_dir=run, stop=StopAfter(2))
    tagger = store.identity.tagger
    seen = training_images(store, record, tagger=tagger)
    assert seen is not None and not seen.changed

    fewer = data.selection.content_ids[1:]
    store.write_selection(SavedSelection(name="kept", text=None), fewer, replace=True)
    text = "@kept and width > 1"
    store.write_selection(SavedSelection(name="good", text=text, thresholds=USUAL), replace=True)
    said = (
        r"another selection_digest, selection_count, .*\(@good was '@kept' at 0.35/0.85, is "
        rf"'@kept and width > 1' at 0.35/0.85\) \(@kept was frozen \({data.selection.digest[:8]}\), is frozen"
    )
    with pytest.raises(RunError, match=said) as caught:
        go_on(data_of(store, config), base, config, run_dir=run)
    assert "\n" not in str(caught.value)
    seen = training_images(store, record, tagger=tagger)
    assert seen is not None and seen.changed
