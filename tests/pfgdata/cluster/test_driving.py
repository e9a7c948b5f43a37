"""An ingest and a derived set by workers of a small engine: what one process makes, whatever befalls them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pfgdata.cluster import ClusterIngest, Queue, derive_on
from pfgdata.cluster.driving import Answered, Brought, Crew, Driver, Event, Finished, Joined
from pfgdata.cluster.host import Data, Spec
from pfgdata.corpus import plan_segments
from pfgdata.derive import Derivation, DeriveOptions, DerivePlan, DeriveReport
from pfgdata.errors import ClusterError, IdentityError
from pfgdata.ingest import IngestJob, ingest, open_or_create, plan_from
from pfgdata.records import NoProgress, Progress, during
from pfgdata.store import DerivedIndex, Span, Store, list_parts, verify
from pfgdata.taggers import OnnxTagger
from tests.conftest import make_images
from tests.doubles import Watched
from tests.engine import HandEngine
from tests.pfgdata.crash.life import require_equal
from tests.pfgdata.derive.test_derive import ColourSet, MeanColour, colours, derive, stored
from tests.pfgdata.ingest.test_adopt import see

JOB = IngestJob(batch_size=8, threads=1, tagger="demo")
IMAGES = 128  # nine spans of 16 for two workers: a stop after four turns leaves some
COUNT = IMAGES + 3  # a copy, and two that are broken


@pytest.fixture(scope="module")
def demo() -> OnnxTagger:
    return OnnxTagger.load("demo", device="cpu", threads=1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "images"
    paths = make_images(folder, IMAGES)
    shutil.copy2(paths[0], folder / "0000twin.png")
    for name in ("broken.png", "0100x.png"):
        (folder / name).write_bytes(b"this is no image")
    return folder


@pytest.fixture(scope="module")
def usual(images: Path, demo: OnnxTagger, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What one ingest makes of them."""
    store = open_or_create(tmp_path_factory.mktemp("usual") / "feats", demo)
    ingest(plan_segments([images], {}), store, demo, options=JOB)
    return store


def run(
    engine: HandEngine, images: Path, store: Store, demo: OnnxTagger, *, stop_after: int = 10_000
) -> tuple[dict[str, object], Watched]:
    """Ingest on the engine; the report adds up."""
    asked, progress = iter(range(stop_after, -1, -1)), Watched()
    report = ClusterIngest(engine, JOB).run(
        plan_segments([images], store.roots()),
        store,
        demo,
        progress=progress,
        stop=lambda: next(asked) == 0,
    )
    assert report.pending >= 0 and report.refused == []
    done = report.tagged + report.copied + len(report.failures)
    assert engine.deaths or sum(rate.images for rate in report.workers.values()) == done
    return report.as_dict(), progress


@pytest.mark.parametrize("blind", [False, True])
def test_workers_that_see_the_store_or_do_not_make_what_one_ingest_makes(
    blind: bool, images: Path, usual: Store, demo: OnnxTagger, tmp_path: Path
) -> None:
    store = open_or_create(tmp_path / "feats", demo)
    engine = HandEngine(blind=store.parts if blind else None)
    report, _ = run(engine, images, store, demo)
    assert (report["found"], report["failed"], report["pending"], report["shards"]) == (COUNT, 2, 0, 1)
    require_equal(see(store), see(usual))
    assert verify(store.path, deep=True) == [] and list_parts(store.disk, store.parts) == []


def test_an_image_that_kills_its_workers_is_named_and_all_others_are_in(
    images: Path, usual: Store, demo: OnnxTagger, tmp_path: Path
) -> None:
    store = open_or_create(tmp_path / "feats", demo)
    engine = HandEngine(
        kills=lambda payload: any(task.found.key.path == b"0007.png" for task in plan_from(payload))
    )
    report, progress = run(engine, images, store, demo)
    assert (report["failed"], report["pending"]) == (3, 0)
    failures = {one["path"]: one["reason"] for one in store.snapshot().failures().to_pylist()}
    assert failures["0007.png"] == "each worker that was given it died"
    seen, expected = see(store), see(usual)
    assert seen.rows == {name: row for name, row in expected.rows.items() if name != "0007.png!None"}
    assert engine.deaths == 3 * 5 and any("it died" in said for said in progress.said)  # 16, 8, ... 1
    report, _ = run(HandEngine(), images, store, demo)
    assert (report["tagged"], report["unchanged"], report["failed"]) == (0, IMAGES, 3)


def test_a_part_that_came_damaged_is_refused_and_done_again(
    images: Path, usual: Store, demo: OnnxTagger, tmp_path: Path
) -> None:
    store = open_or_create(tmp_path / "feats", demo)
    report, progress = run(HandEngine(blind=store.parts, damaged=1), images, store, demo)
    assert report["pending"] == 0 and any(
        "its bytes are not" in said or "shard.json" in said for said in progress.said
    )
    require_equal(see(store), see(usual))


@pytest.mark.parametrize("lost", [False, True], ids=["damaged", "never there"])
def test_workers_that_bring_nothing_whole_end_the_run(
    images: Path, demo: OnnxTagger, tmp_path: Path, lost: bool
) -> None:
    store = open_or_create(tmp_path / "feats", demo)
    engine = HandEngine(lost=store.parts) if lost else HandEngine(blind=store.parts, damaged=1_000_000)
    with pytest.raises(
        ClusterError, match=r"no worker is left: .*(is not here|its bytes are not|shard\.json)"
    ):
        ClusterIngest(engine, JOB).run(plan_segments([images], {}), store, demo)
    assert store.snapshot().num_images == 0


def test_a_stop_keeps_what_is_done_and_the_next_run_takes_parts_that_were_left(
    images: Path, usual: Store, demo: OnnxTagger, tmp_path: Path
) -> None:
    store = open_or_create(tmp_path / "feats", demo)
    report, _ = run(HandEngine(), images, store, demo, stop_after=4)
    assert report["interrupted"] and report["pending"]
    report, _ = run(HandEngine(), images, store, demo)
    assert not report["interrupted"] and report["pending"] == 0
    require_equal(see(store), see(usual))


class Unmounting(HandEngine):
    """Its workers do not see the images."""

    unmounted: Path

    @contextmanager
    def crew(self, spec: Spec, *, gpu: bool | None, progress: Progress) -> Iterator[Crew]:
        shutil.rmtree(self.unmounted)
        with super().crew(spec, gpu=gpu, progress=progress) as crew:
            yield crew


def test_a_worker_that_cannot_load_ends_the_run_with_its_reason(demo: OnnxTagger, tmp_path: Path) -> None:
    store = open_or_create(tmp_path / "feats", demo)
    make_images(tmp_path / "images", 2)
    engine = Unmounting()
    engine.unmounted = tmp_path / "images"
    with pytest.raises(ClusterError, match=r"no worker is left: .*nothing is there; mount it"):
        ClusterIngest(engine, JOB).run(plan_segments([tmp_path / "images"], {}), store, demo)


def test_without_ray_one_line_says_what_to_install(images: Path, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('as if it were not installed')\n")
    words = ["ingest", str(images), "--store", str(tmp_path / "feats"), "--tagger", "demo"]
    done = subprocess.run(
        [sys.executable, "-m", "pfgdata", *words, "--cluster", "auto"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'pfg[cluster]'" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@dataclass(frozen=True)
class ColourSource:
    """Loads MeanColour, or finds that it is another one here."""

    is_other: bool = False

    def load(self, *, gpu: bool) -> MeanColour:
        if self.is_other:
            raise IdentityError("another colour here")
        return MeanColour()


def derived_on(engine: HandEngine, store: Store, source: ColourSource | None = None) -> DeriveReport:
    """Colours by the engine's workers."""
    snapshot = store.snapshot()
    derivation = Derivation(
        derived=colours(store),
        encoder=MeanColour(),
        roots=store.roots(),
        options=DeriveOptions(batch_size=4, threads=1),
        progress=NoProgress(),
    )
    report, rates = derive_on(
        engine, source or ColourSource(), derivation, snapshot, snapshot.everything, stop=lambda: False
    )
    assert report.distinct == report.present + report.encoded + report.failed + report.pending
    assert engine.deaths or sum(rate.images for rate in rates.values()) == report.encoded + len(
        report.failures
    )
    return report


def arrays(one: ColourSet) -> dict[bytes, tuple[float, ...]]:
    """The array of each content; one twice fails."""
    index: DerivedIndex = one.index()
    found = {
        content.tobytes(): tuple(one.array_map(index.shards[shard])[row].tolist())
        for content, shard, row in zip(index.content_ids, index.shard_index, index.rows, strict=True)
    }
    assert len(found) == len(index.rows)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """28 images and a white one, which has no colour."""
    make_images(tmp_path / "images", 28)
    shutil.copy2(tmp_path / "images" / "0001.png", tmp_path / "images" / "twin.png")
    Image.new("RGB", (24, 32), "white").save(tmp_path / "images" / "white.png")
    return stored(tmp_path)


def test_a_derived_set_by_workers_is_that_of_one_pass(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "copy")
    other = Store.open(tmp_path / "copy")
    expected = derive(other, MeanColour())
    report = derived_on(HandEngine(damaged=1), store)
    assert (report.encoded, report.failed, report.groups) == (28, 1, {"all": 28})
    assert report.failures == expected.failures and (expected.encoded, expected.failed) == (28, 1)
    ours, theirs = arrays(colours(store)), arrays(colours(other))
    assert ours.keys() == theirs.keys()
    for content, colour in ours.items():
        np.testing.assert_allclose(colour, theirs[content])
    assert len(colours(store).index().shards) == 1
    again = derived_on(HandEngine(), store)
    assert (again.present, again.encoded, again.failed) == (28, 0, 1)


def test_an_image_of_a_set_that_kills_its_workers_is_named(store: Store) -> None:
    content = store.snapshot().images().to_pylist()[5]["content_id"].bytes

    def kills(payload: bytes) -> bool:
        return any(image.content_id == content for image in DerivePlan.of_bytes(payload).items(0))

    report = derived_on(HandEngine(kills=kills), store)
    assert (report.encoded, report.failed, report.pending) == (27, 2, 0)
    assert "each worker that was given it died" in {reason for _, _, reason in report.failures}


def test_a_worker_with_another_encoder_is_refused_by_name(store: Store) -> None:
    with pytest.raises(ClusterError, match="no worker is left: another colour here"):
        derived_on(HandEngine(), store, ColourSource(is_other=True))


@dataclass
class Voices:
    """A crew in a time of its own: `a` and `b` answer in turn, through with what they had; `mute` never."""

    now: float = 0.0
    given: list[tuple[str, Span]] = field(default_factory=list)
    works: dict[str, Span] = field(default_factory=dict)
    heard: int = 0
    places: int = 3
    hopes: bool = True

    def events(self, seconds: float) -> list[Event]:
        self.now += seconds
        self.heard += 1
        if self.heard == 1:
            return [Joined(name, {}) for name in ("a", "b", "mute")]
        name = "ab"[self.heard % 2]
        if done := self.works.pop(name, None):
            return [Brought(name, done, None), Finished(name, {}, None)]
        return [Answered(name, 0, 0.0)]

    def give(self, worker: str, span: Span, payload: bytes) -> None:
        self.given.append((worker, span))
        self.works[worker] = span

    def dismiss(self, worker: str) -> None: ...

    def stop(self) -> None: ...

    def label(self, worker: str) -> str:
        return worker


@dataclass
class LongCommits:
    """Work whose every result takes minutes to keep."""

    crew: Voices

    def payload(self, span: Span) -> bytes:
        return b""

    def check(self, span: Span, data: Data | None) -> Span:
        return span

    def take(self, span: Span, fresh: Sequence[Span], data: Data | None) -> None:
        self.crew.now += 150

    def fail(self, span: Span) -> None: ...

    def told(self, worker: str, facts: Mapping[str, Any]) -> None: ...


def test_nobody_is_silent_while_the_driver_does_not_listen() -> None:
    crew, progress = Voices(), Watched()
    spans = [Span("p" * 12, 0, at, at + 4) for at in range(0, 40, 4)]
    driver = Driver(crew, LongCommits(crew), Queue(spans, now=0.0), progress, clock=lambda: crew.now)
    with during(progress, "tag", total=40, brief=False):
        driver.run(lambda: False)
    assert progress.said == ["worker mute is silent; its images are given again"]
    assert Counter(span for _, span in crew.given) == Counter([*spans, crew.works["mute"]])
