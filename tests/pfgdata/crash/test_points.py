"""The registry of crash points is whole: all of it is reached, nothing else is, and the page lists it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from pfgdata.corpus import plan_segments
from pfgdata.files import CRASH_POINTS, CrashPoint
from pfgdata.ingest import IngestJob, PartWork, PlanOut, Share, adopt, make_parts, write_plan
from pfgdata.store import Store, repair, verify
from tests.conftest import make_images
from tests.doubles import CheapTagger
from tests.pfgdata.crash.life import OPTIONS, LoggingDisk, live, make_corpora

PAGE = Path(__file__).parents[3] / "docs" / "crash-safety.md"


def test_a_store_in_its_life_reaches_every_crash_point_and_no_other(tmp_path: Path) -> None:
    corpora, disk = make_corpora(tmp_path), LoggingDisk(tmp_path / "log")
    live(corpora, tmp_path / "feats", disk)
    in_life: Counter[CrashPoint] = Counter(disk.counts)
    store = Store.open(tmp_path / "feats", disk=disk)
    broken = store.snapshot().shards[0].path / "images.parquet"
    broken.write_bytes(broken.read_bytes()[:-1])
    repair(store, verify(store.path))
    adopt_one_part(store, tmp_path)
    assert set(disk.counts) == set(CRASH_POINTS)
    assert set(CRASH_POINTS) - set(in_life) == {"file linked", "set aside", "set aside durable"}


def adopt_one_part(store: Store, place: Path) -> None:
    """Adopt a part of new images."""
    make_images(place / "late", 2, seed=77)
    segments, job = plan_segments([place / "late"], store.roots()), IngestJob()
    plan, _ = write_plan(segments, store, job, out=PlanOut(folder=place / "plan"))
    assert plan is not None
    work = PartWork(plan=plan, share=Share(), folder=store.parts)
    make_parts(work, CheapTagger(), options=OPTIONS)
    assert adopt(store).tagged == 2


def test_the_page_on_crash_safety_lists_exactly_the_crash_points() -> None:
    steps = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert steps == list(CRASH_POINTS)
