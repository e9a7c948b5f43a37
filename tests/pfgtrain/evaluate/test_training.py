"""What a run was trained on, asked again: nearest images by brute force, membership, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfgdata.corpus import WalkOptions, plan_segments
from pfgdata.errors import AccessError, IdentityError
from pfgdata.ingest import IngestOptions, ingest
from pfgdata.records import Selection, content_id
from pfgdata.store import FAILURES_SCHEMA, ShardContents, Store, images_table
from pfgtrain.base import Base
from pfgtrain.batches import held_out, join
from pfgtrain.evaluate import TrainingImages, guides_of_selection, training_images
from pfgtrain.evaluate.guides import read_view
from pfgtrain.evaluate.measures import cosines
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.corpus.packing import make_zip
from tests.pfgtrain.export.small_run import record_of
from tests.pfgtrain.small_store import (
    FEATURE_DIM,
    build_latents,
    build_store,
    content_of,
    feature_of,
    image_row,
)
from tests.pfgtrain.tiny_base import build_tiny_base

NUMBERS = [*range(30), 3, 4]  # two images twice


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return build_store(tmp_path / "feats", NUMBERS, shard_rows=7)


def trained(store: Store, base: Base, **changes: object) -> TrainingImages:
    found = training_images(store, record_of(base, **changes), tagger=CheapTagger().identity)
    assert found is not None
    return found


def test_the_nearest_image_is_that_of_a_search_through_all(store: Store, base: Base) -> None:
    training = trained(store, base)
    features = np.stack([feature_of(number) for number in range(30)]).astype(np.float64)
    asked = np.random.default_rng(0).normal(size=(9, FEATURE_DIM))
    all_of_them = cosines(asked, features, mean_F=features.mean(axis=0))
    rows, found = training.nearest(asked)
    assert found == pytest.approx(all_of_them.max(axis=1), abs=1e-5)
    ids = [training.selection.content_ids[row].tobytes() for row in rows]
    assert ids == [content_of(int(number)) for number in all_of_them.argmax(axis=1)]


def test_an_image_is_its_own_nearest(store: Store, base: Base) -> None:
    _, found = trained(store, base).nearest(feature_of(5)[None])
    assert found == pytest.approx([1])


def test_an_image_stands_once_however_many_rows_it_has(store: Store, base: Base) -> None:
    assert len(trained(store, base)) == 30


def test_only_the_runs_own_selection_counts(store: Store, base: Base) -> None:
    hers = trained(store, base, selection_expression="character = 'special_week'")
    assert len(hers) == 10
    assert hers.holds(content_of(3))
    assert not hers.holds(content_of(4))
    none = record_of(base, selection_expression="character = 'special_week'", thresholds={"character": 0.99})
    assert training_images(store, none, tagger=CheapTagger().identity) is None


def test_a_selection_that_is_no_longer_the_runs_is_known(store: Store, base: Base) -> None:
    now = trained(store, base)
    assert now.changed
    assert not trained(store, base, selection_digest=now.selection.digest).changed


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_images_held_out_and_those_without_a_latent_were_not_trained_on(
    share: float, store: Store, base: Base
) -> None:
    latent_set = build_latents(store, list(range(20)), vae_digest="x", shard_rows=8)
    snapshot = store.snapshot()
    images = join(snapshot.everything, latent_set.index(), []).images
    away = held_out(snapshot, images, share=share, character_threshold=0.85)
    trained_on = images.take(np.flatnonzero(~away))
    assert away.any() == bool(share)
    known = {
        "latents_id": latent_set.id,
        "held_out_count": int(away.sum()),
        "trained_digest": trained_on.digest,
        "selection_digest": snapshot.everything.digest,
    }
    found = trained(store, base, **known)
    assert found.selection.digest == trained_on.digest
    assert found.doubt is None
    for number in range(30):
        assert found.holds(content_of(number)) == (content_of(number) in ids_of(trained_on))

    for lost in ({"latents_id": "another"}, {"trained_digest": "another"}):
        found = trained(store, base, **{**known, **lost})
        assert len(found) == 30
        assert found.doubt is not None and found.doubt.startswith("the run's latents are gone or have grown")


def ids_of(images: Selection) -> set[bytes]:
    return {row.tobytes() for row in images.content_ids}


def test_a_file_that_is_not_here_has_no_pixels(store: Store, base: Base) -> None:
    assert trained(store, base).pixels(0) is None


@pytest.mark.parametrize("linked", ["a file", "a folder"])
def test_an_image_behind_a_link_has_the_pixels_that_were_ingested(
    linked: str, base: Base, tmp_path: Path
) -> None:
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    images.mkdir()
    elsewhere.mkdir()
    Image.new("RGB", (8, 6), "red").save(elsewhere / "red.png")
    name = "red.png" if linked == "a file" else "further/red.png"
    target = elsewhere / "red.png" if linked == "a file" else elsewhere
    (images / name.split("/")[0]).symlink_to(target)
    data = (elsewhere / "red.png").read_bytes()
    store = build_store(tmp_path / "feats", [], shard_rows=1)
    row = {**image_row(0, name), "root": str(images), "content_id": content_id(data)}
    with store.writer() as writer:
        writer.commit(
            ShardContents(
                images=images_table([row]),
                features=feature_of(0)[None],
                failures=FAILURES_SCHEMA.empty_table(),
            )
        )
    pixels = trained(store, base).pixels(0)
    assert pixels is not None
    assert pixels.shape == (6, 8, 3)
    Image.new("RGB", (8, 6), "blue").save(elsewhere / "red.png")
    assert trained(store, base).pixels(0) is None  # a link does not make another image the one trained on


def test_a_store_of_another_tagger_is_refused(store: Store, base: Base) -> None:
    with pytest.raises(IdentityError, match="cheap"):
        training_images(store, record_of(base), tagger=CheapTagger(preprocess="webui").identity)


def test_rows_are_looked_at_and_guide_from_within_an_archive_and_behind_a_link(
    tmp_path: Path, base: Base
) -> None:
    packed, linked = make_images(tmp_path / "elsewhere", 2)
    (tmp_path / "images").mkdir()
    make_zip(tmp_path / "images" / "a.zip", [("b/c.png", packed.read_bytes())])
    (tmp_path / "images" / "link.png").symlink_to(linked)
    store = new_store(tmp_path / "feats")
    segments = plan_segments([tmp_path / "images"], {}, options=WalkOptions(archives=True, follow_links=True))
    ingest(segments, store, CheapTagger())
    training = trained(store, base)
    assert all(training.pixels(row) is not None for row in range(2))
    guides = guides_of_selection(store, store.snapshot(), store.snapshot().everything)
    assert [guide.name for guide in guides] == ["a.zip!b/c.png", "link.png"]
    ids = [read_view(guide, guide.views[0]).content_id for guide in guides]
    assert ids == [content_id(packed.read_bytes()), content_id(linked.read_bytes())]
    linked.write_bytes(packed.read_bytes())
    with pytest.raises(AccessError, match=r"link\.png: cannot be read \(changed since its ingest"):
        read_view(guides[1], guides[1].views[0])


@pytest.mark.slow
def test_what_an_ingest_admitted_beyond_the_usual_limit_can_be_looked_at(tmp_path: Path, base: Base) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (20_200, 10_000), 200).save(tmp_path / "images" / "scan.jpg")
    store, segments = new_store(tmp_path / "feats"), plan_segments([tmp_path / "images"], {})
    ingest(segments, store, CheapTagger(), options=IngestOptions(max_megapixels=400))
    pixels = trained(store, base).pixels(0)
    assert pixels is not None
    assert pixels.shape == (10_000, 20_200, 3)
    (guide,) = guides_of_selection(store, store.snapshot(), store.snapshot().everything)
    assert read_view(guide, guide.views[0]).pixels.shape == (10_000, 20_200, 3)
