"""A second encoder: it, its set and its identity are all here, and nothing else knows of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from pfgdata.cli import app
from pfgdata.corpus import plan_segments
from pfgdata.derive import Derivation, DeriveOptions, DeriveReport, Encoder
from pfgdata.errors import ContentError, ModelError, QueryError, StoreError, StoreLockedError
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.records import NoProgress
from pfgdata.store import DerivedIdentity, DerivedInfo, DerivedSet, Snapshot, Store
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger

SMALL = IngestOptions(min_side=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourIdentity(DerivedIdentity):
    space: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourInfo(DerivedInfo):
    author: str


class ColourSet(DerivedSet[ColourIdentity, ColourInfo]):
    name = "colour"
    schema = pa.schema([("content_id", pa.uuid()), ("spread", pa.float32())])
    identity_type = ColourIdentity
    info_type = ColourInfo


@dataclass
class MeanColour:
    """The mean colour of an image, [B, 3]; it refuses images 8 pixels high, and hangs on those of 1,000."""

    hangs: threading.Event | None = None
    batches: list[int] = field(default_factory=list)

    @property
    def writer(self) -> Mapping[str, Any]:
        return {"device": "cpu"}

    def groups(self, widths: npt.ArrayLike, heights: npt.ArrayLike) -> npt.NDArray[np.int64]:
        return np.zeros(len(np.asarray(widths)), np.int64)

    def name(self, group: int) -> str:
        return "all"

    def facts(self, group: int) -> Mapping[str, Any]:
        return {}

    def prepare(
        self, pixels: npt.NDArray[np.uint8], group: int
    ) -> tuple[npt.NDArray[np.float32], Mapping[str, Any]]:
        if pixels.shape[0] == 1000:
            assert self.hangs is not None
            self.hangs.wait(60)
        if pixels.shape[0] == 8:
            raise ContentError("too thin for a colour")
        return pixels.mean(axis=(0, 1)).astype(np.float32), {"spread": float(pixels.std())}

    def encode(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.batches.append(len(batch))
        return np.where(batch == 255, np.inf, batch)  # white has no colour


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """30 small images, one of which is white and one 8 pixels high."""
    make_images(tmp_path / "images", 28)
    Image.new("RGB", (24, 32), "white").save(tmp_path / "images" / "white.png")
    Image.new("RGB", (32, 8), "red").save(tmp_path / "images" / "wide.png")
    return stored(tmp_path)


def stored(tmp_path: Path) -> Store:
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger(), options=SMALL)
    return store


def colours(store: Store) -> ColourSet:
    """The store's set of mean colours, made if there is none."""
    return ColourSet.create(
        store.path, ColourIdentity(space="srgb"), ColourInfo(author="test"), disk=store.disk
    )


def derive(
    store: Store,
    encoder: Encoder,
    *,
    snapshot: Snapshot | None = None,
    stop_after: int = 1000,
    **options: Any,
) -> DeriveReport:
    """Run the pass and check that the report adds up."""
    asked, snapshot = iter(range(stop_after, -1, -1)), snapshot or store.snapshot()
    derivation = Derivation(
        derived=colours(store),
        encoder=encoder,
        roots=store.roots(),
        options=DeriveOptions(**{"batch_size": 4, "threads": 2, **options}),
        progress=NoProgress(),
    )
    report = derivation.run(snapshot, snapshot.everything, stop=lambda: next(asked) == 0)
    assert report.distinct == report.present + report.encoded + report.failed + report.pending
    return report


def test_another_encoder_fills_a_set_of_its_own_kind(store: Store) -> None:
    encoder = MeanColour()
    report = derive(store, encoder)
    assert (report.distinct, report.encoded, report.failed, report.groups) == (30, 28, 2, {"all": 28})
    assert {(Path(file).name, kind, reason) for file, kind, reason in report.failures} == {
        ("white.png", "content", "its colour is not finite in float16"),
        ("wide.png", "content", "too thin for a colour"),
    }
    assert set(encoder.batches) == {4}  # padded, and failed ones keep their slots
    derived = colours(store)
    index, paths = derived.index(), {}
    for row in store.snapshot().images().to_pylist():
        paths[row["content_id"].bytes] = Path(row["root"]) / row["path"]
    (shard,) = index.shards
    for content, row, colour in zip(index.content_ids, index.rows, derived.array_map(shard), strict=True):
        mean = np.asarray(Image.open(paths[content.tobytes()])).mean(axis=(0, 1))
        np.testing.assert_allclose(derived.array_map(shard)[row], colour)
        np.testing.assert_allclose(colour, mean, rtol=1e-3)


def test_its_files_are_named_by_its_kind_and_say_what_wrote_them(store: Store) -> None:
    report = derive(store, MeanColour())
    path = Path(report.path)
    assert path == store.path / "colours" / report.id
    assert json.loads((path / "colours.json").read_text())["identity"] == {"space": "srgb"}
    (shard,) = (path / "shards").iterdir()
    names = {"colours.parquet", "colours.h5", "failures.parquet", "shard.json"}
    assert {file.name for file in shard.iterdir()} == names
    writer = json.loads((shard / "shard.json").read_text())["writer"]
    assert (writer["what"], writer["device"], writer["batch_size"]) == ("colours", "cpu", 4)
    assert [one.id for one in ColourSet.all_of(store.path, disk=store.disk)] == [report.id]
    assert store.latent_sets() == []


def test_it_goes_on_where_it_was_stopped_and_tries_no_content_failure_again(store: Store) -> None:
    first = derive(store, MeanColour(), stop_after=1)
    assert first.interrupted and 0 < first.encoded + first.failed <= 8
    second = derive(store, MeanColour())
    assert (second.present, second.failed) == (first.encoded, 2)
    third = derive(store, MeanColour())
    assert (third.present, third.encoded, third.failed, third.failures) == (28, 0, 2, [])


@dataclass
class Failing(MeanColour):
    """It fails on its fifth batch."""

    def encode(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if len(self.batches) == 4:
            raise ModelError("the device is gone")
        return super().encode(batch)


def test_what_is_encoded_is_kept_when_the_encoder_fails(store: Store) -> None:
    with pytest.raises(ModelError, match="the device is gone"):
        derive(store, Failing())
    (shard,) = colours(store).index().shards
    kept = len(colours(store).array_map(shard))
    again = derive(store, MeanColour())
    assert 14 <= kept <= 16 and (again.present, again.encoded) == (kept, 28 - kept)


def test_shards_close_at_their_bytes(store: Store) -> None:
    derive(store, MeanColour(), shard_bytes=1)
    assert len(colours(store).index().shards) == 8  # 30 images, 4 at a time


def test_one_writes_at_a_time_and_selections_are_of_their_snapshot(store: Store, tmp_path: Path) -> None:
    with colours(store).writer(), pytest.raises(StoreLockedError, match="colour set"):
        derive(store, MeanColour())
    old = store.snapshot()
    make_images(tmp_path / "images" / "more", 1, seed=9)
    ingest(plan_segments([tmp_path / "images"], store.roots()), store, CheapTagger(), options=SMALL)
    derivation = Derivation(
        derived=colours(store),
        encoder=MeanColour(),
        roots=store.roots(),
        options=DeriveOptions(),
        progress=NoProgress(),
    )
    with pytest.raises(StoreError):
        derivation.run(old, store.snapshot().everything, stop=lambda: False)


def test_an_image_that_hangs_fails_alone_and_is_tried_again(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 5)
    Image.new("RGB", (1000, 1000), (10, 20, 30)).save(tmp_path / "images" / "0001-hangs.png")
    store, hangs = stored(tmp_path), threading.Event()
    report = derive(store, MeanColour(hangs=hangs), image_seconds=0.5)
    hangs.set()
    assert report.encoded == 5
    ((file, kind, reason),) = report.failures
    assert (Path(file).name, kind, reason) == ("0001-hangs.png", "access", "decoding took over 0.5 s")
    assert derive(store, MeanColour(hangs=hangs)).encoded == 1


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize("command", ["latents --base=/no/such", "features --extractor=/no/such"])
def test_a_command_without_work_refuses_it_dry_or_not_and_before_a_model_is_looked_for(
    command: str, dry_run: tuple[str, ...], mini_store: Store
) -> None:
    name, model = command.split()
    asked = [name, str(mini_store.path), model, *dry_run]
    nothing = CliRunner().invoke(app, [*asked, "--where", "width = 3"])
    assert isinstance(nothing.exception, QueryError)
    assert "no image is selected by 'width = 3'" in str(nothing.exception)
    with mini_store.writer() as writer:
        writer.set_roots(dict.fromkeys(mini_store.roots(), "/gone"))
    gone = CliRunner().invoke(app, asked)
    assert isinstance(gone.exception, StoreError) and "is not at /gone" in str(gone.exception)
