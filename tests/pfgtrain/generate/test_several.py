"""A run that reads several feature sets: guides are seen by each extractor, or by the store; exports."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pfgdata.conventions import Convention
from pfgdata.corpus import plan_segments, read_image
from pfgdata.errors import ConfigError, IdentityError, ModelError
from pfgdata.extractors import load_extractor
from pfgdata.ingest import ingest
from pfgdata.store import Store
from pfgtrain.adapter import load_adapter
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord
from pfgtrain.config import AdapterPlan, FeaturePlan, FeatureSource
from pfgtrain.evaluate import EvaluateOptions, EvaluateSetup, evaluate, guides_of_folder
from pfgtrain.export import ExportOptions, export, plan_export
from pfgtrain.generate import (
    CheckpointJob,
    GenerateOptions,
    command_words,
    generate,
    load_adapter_on_base,
    load_run,
)
from pfgtrain.web import WebJob
from tests.conftest import make_images, new_store
from tests.doubles import CheapTagger
from tests.pfgdata.extractors.small_models import SIDE, write_graph
from tests.pfgtrain.export.small_run import make_run
from tests.pfgtrain.tiny_base import build_tiny_base

HOW = Convention(
    size=SIDE,
    layout="NCHW",
    channels="RGB",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
    square=(f"stretch {SIDE} bilinear",),
    output="feature",
)
QUICK = GenerateOptions(images_per_guide=1, num_inference_steps=1, width=64, height=64)


@dataclass(frozen=True)
class Place:
    """A run on the tagger and on `eyes`, its store, and a base."""

    folder: Path
    base: Base
    store: Store

    @property
    def guide(self) -> Path:
        return self.folder / "images" / "0002.png"

    def run(self, name: str, plan: FeaturePlan | None = None, **changes: Any) -> Path:
        plan = plan or FeaturePlan(adapters=(_of(self.tagger, 2), _of(self.eyes, 1)))
        records = plan.as_records()
        return make_run(
            self.folder / name,
            self.base,
            store=str(self.store.path),
            num_tokens=plan.num_tokens,
            features=records,
            **changes,
        )

    @property
    def tagger(self) -> FeatureSource:
        return FeatureSource(label="tagger", feature_dim=768)

    @property
    def eyes(self) -> FeatureSource:
        (found,) = self.store.feature_sets()
        return FeatureSource(
            label="eyes",
            feature_dim=5,
            identity=asdict(found.identity),
            extractor=found.info.extractor,
        )


def _of(source: FeatureSource, tokens: int) -> AdapterPlan:
    return AdapterPlan(sets=(source,), num_tokens=tokens)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    make_images(tmp_path / "images", 4, size=(40, 48))
    make_images(tmp_path / "strangers", 2, size=(40, 48), seed=5)
    store = new_store(tmp_path / "feats")
    ingest(plan_segments([tmp_path / "images"], {}), store, CheapTagger())
    write_graph(tmp_path / "eyes" / "model.onnx")
    extractor = load_extractor(str(tmp_path / "eyes"), convention=HOW, device="cpu")
    _compute(store, extractor, tmp_path / "images")
    base = Base.load(str(build_tiny_base(tmp_path / "base")))
    return Place(tmp_path, base, store)


def _compute(store: Store, extractor: Any, images: Path) -> None:
    """The set `eyes` of all images, as the extractor sees them, with its identity."""
    import pyarrow as pa

    from pfgdata.store import DERIVED_FAILURES_SCHEMA, FEATURES_SCHEMA, FeatureIdentity, FeatureInfo

    read = [read_image(path) for path in sorted(images.iterdir())]
    vectors = extractor.features(np.stack([extractor.square(one.pixels) for one in read]))
    identity = FeatureIdentity.of(extractor.identity)
    made = store.feature_set(identity, FeatureInfo(label="eyes", extractor=extractor.name))
    rows = pa.Table.from_pylist([{"content_id": one.content_id} for one in read], FEATURES_SCHEMA)
    with made.writer() as writer:
        none = DERIVED_FAILURES_SCHEMA.empty_table()
        writer.commit(vectors, rows=rows, failures=none, facts={}, writer={})


def settings_of(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        return json.loads(image.info["pfg"])


def model_of(run: Path, **job: Any) -> Any:
    return load_run(run, tagger=CheapTagger(), device="cpu", which=CheckpointJob(**job))


def test_a_guide_is_seen_by_the_tagger_and_by_the_extractor(place: Place) -> None:
    model = model_of(place.run("run"))
    image = read_image(place.guide)
    seen = model.see(image.pixels, content_id=image.content_id, name="x")
    extractor = load_extractor(str(place.folder / "eyes"), convention=HOW, device="cpu")
    theirs = extractor.features(extractor.square(image.pixels)[None])[0].astype(np.float32)
    assert torch.equal(seen.feature_F, torch.cat([model.look(image.pixels)[1], torch.from_numpy(theirs)]))
    assert seen.how == {"eyes": "computed"}
    report = generate(model, [place.guide], place.folder / "out", options=QUICK)
    told = settings_of(report.pictures[0].path)
    assert (told["features"], told["features_seen"], told["num_tokens"]) == (
        "tagger:2,eyes:1",
        {"eyes": "computed"},
        3,
    )


def test_where_the_extractor_is_gone_the_store_has_the_guide_s_vector(place: Place) -> None:
    run = place.run("run")
    image = read_image(place.guide)
    computed = model_of(run).feature(image.pixels)
    shutil.rmtree(place.folder / "eyes")
    model = model_of(run)
    seen = model.see(image.pixels, content_id=image.content_id, name="x")
    assert seen.how == {"eyes": "stored"}
    torch.testing.assert_close(seen.feature_F, computed, rtol=1e-2, atol=1e-2)
    generate(model, [place.guide], place.folder / "out", options=QUICK)
    stranger = place.folder / "strangers" / "0000.png"
    with pytest.raises(ModelError) as refusal:
        generate(model, [stranger], place.folder / "other", options=QUICK)
    text = str(refusal.value)
    assert str(stranger) in text and "feature set eyes" in text and "--allow-missing" in text
    assert "--extractor eyes=" in text and "\n" not in text and not (place.folder / "other").exists()


def test_what_an_extractor_cannot_see_is_asked_of_the_store(place: Place) -> None:
    class Blind:
        def square(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
            return pixels

        def features(self, squares: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
            return np.full((len(squares), 5), np.nan, np.float16)

    image, stranger = read_image(place.guide), read_image(place.folder / "strangers" / "0000.png")
    run = place.run("run")
    computed = model_of(run).feature(image.pixels)

    def blind(run: Path, **job: Any) -> Any:
        model = model_of(run, **job)
        return replace(model, reader=replace(model.reader, extractors={"eyes": Blind()}))

    for job in ({}, {"allow_missing": True}):
        seen = blind(run, **job).see(image.pixels, content_id=image.content_id, name="x")
        assert seen.how == {"eyes": "stored"}
        torch.testing.assert_close(seen.feature_F, computed, rtol=1e-2, atol=1e-2)
    said = r"no vector of feature set eyes \(what it saw is not finite\), and the run's store "
    with pytest.raises(ModelError, match=f"{said}has none; name"):
        blind(run).see(stranger.pixels, content_id=stranger.content_id, name="x")
    shutil.rmtree(place.store.path)
    with pytest.raises(ModelError, match=f"{said}is not here, or has no such set; name"):
        blind(run).see(image.pixels, content_id=image.content_id, name="x")


def test_what_may_be_missing_is_the_pad_as_on_the_other_side(place: Place) -> None:
    run = place.run("run")
    shutil.rmtree(place.folder / "eyes")
    stranger = place.folder / "strangers" / "0000.png"
    model = model_of(run, allow_missing=True)
    report = generate(model, [stranger], place.folder / "out", options=QUICK)
    assert settings_of(report.pictures[0].path)["features_seen"] == {"eyes": "missing"}
    feature = model.feature(read_image(stranger).pixels)
    assert feature[768:].isnan().all() and feature[:768].isfinite().all()
    tokens, has = model.pipeline.adapter.tell(feature[None])
    assert has.tolist() == [[True, False]] and tokens.isfinite().all()
    alone = model.paint(feature[None], seeds=[0], options=QUICK)
    with torch.no_grad():  # whatever the second adapter has learnt, it is not asked
        for value in model.pipeline.adapter.each[1].parameters():
            value.add_(3.0)
    (again,) = model.paint(feature[None], seeds=[0], options=QUICK)
    assert np.array_equal(np.asarray(alone[0]), np.asarray(again))


def test_an_evaluation_says_how_many_guides_lacked_a_vector(place: Place) -> None:
    run = place.run("run")
    folder = place.folder / "guides"
    shutil.copytree(place.folder / "strangers", folder)
    shutil.copy(place.guide, folder)
    guides = guides_of_folder(folder)
    looked = EvaluateOptions(images_per_guide=1, num_inference_steps=1, resamples=5)
    setup = EvaluateSetup(guides=guides, options=looked)
    assert not any("feature set" in note for note in evaluate(model_of(run), setup).notes)
    shutil.rmtree(place.folder / "eyes")
    notes = evaluate(model_of(run, allow_missing=True), setup).notes
    assert "feature set eyes has no vector of 2 of 3 guides: the pad stood for its tokens" in notes


def test_an_extractor_that_moved_is_named_and_another_is_refused(place: Place) -> None:
    run = place.run("run")
    (place.folder / "eyes").rename(place.folder / "moved")
    model = model_of(run, extractor=f"eyes={place.folder / 'moved'}")
    assert model.see(read_image(place.guide).pixels, content_id=None, name="x").how == {"eyes": "computed"}
    write_graph(place.folder / "other" / "model.onnx", scale=2.0)
    with pytest.raises(IdentityError, match="not the extractor of feature set eyes: another weights_sha256"):
        model_of(run, extractor=f"eyes={place.folder / 'other'}")
    with pytest.raises(ConfigError, match="ears is none of eyes"):
        model_of(run, extractor=f"ears={place.folder / 'moved'}")
    alone = place.run("alone", FeaturePlan.of_tagger(feature_dim=768, num_tokens=2))
    with pytest.raises(ConfigError, match="eyes is not read: the tagger's feature alone is"):
        model_of(alone, extractor=f"eyes={place.folder / 'moved'}")


def test_a_model_s_path_may_have_commas_in_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = place.folder / "eyes, old,2" / "dino,"
    moved.parent.mkdir()
    (place.folder / "eyes").rename(moved)
    model = model_of(place.run("run"), extractor=f"eyes={moved}")
    assert model.see(read_image(place.guide).pixels, content_id=None, name="x").how == {"eyes": "computed"}
    monkeypatch.chdir(place.folder)
    told = WebJob(extractor=f"eyes={moved.relative_to(place.folder)},ears=demo").drawing().extractor
    assert told == f"eyes={moved},ears=demo"


def test_each_adapter_s_tokens_have_a_scale_of_their_own(place: Place) -> None:
    run = place.run("run")
    feature = model_of(run).feature(read_image(place.guide).pixels)[None]
    plain = model_of(run).pipeline.adapter
    scaled = model_of(run, feature_scale="eyes=0.5").pipeline.adapter
    tokens = plain.tell(feature)[0]
    assert torch.equal(plain.scaled(tokens, 1.0), tokens)
    found = scaled.scaled(tokens, 2.0)
    assert torch.equal(found[:, :2], tokens[:, :2] * 2) and torch.equal(found[:, 2:], tokens[:, 2:])
    pictures = [
        model_of(run, **job).paint(feature, seeds=[0], options=replace(QUICK, pfg_scale=scale))[0]
        for job, scale in (({}, 0.0), ({"feature_scale": "eyes=0,tagger=0"}, 1.0), ({}, 1.0))
    ]
    first, second, third = (np.asarray(one) for one in pictures)
    assert np.array_equal(first, second) and not np.array_equal(first, third)
    with pytest.raises(ConfigError, match="dino is none of tagger, eyes"):
        model_of(run, feature_scale="dino=0.5")


def test_a_page_and_its_commands_say_the_same_model(place: Place) -> None:
    job = WebJob(feature_scale="eyes=0.5", extractor="eyes=demo", allow_missing=True).drawing()
    words = command_words(job, [Path("g.png")], run="runs/a")
    assert words[-5:] == ["--extractor", "eyes=demo", "--feature-scale", "eyes=0.5", "--allow-missing"]


def test_an_evaluation_sees_its_guides_as_generate_does(place: Place) -> None:
    run = place.run("run")
    guides = guides_of_folder(place.folder / "images")
    options = EvaluateOptions(images_per_guide=1, num_inference_steps=1, resamples=5)
    report = evaluate(model_of(run), EvaluateSetup(guides=guides, options=options))
    assert len(report.guides) == 4 and report.model["features"] == "tagger:2,eyes:1"
    shutil.rmtree(place.folder / "eyes")
    strangers = guides_of_folder(place.folder / "strangers")
    with pytest.raises(ModelError, match=r"0000\.png: no vector of feature set eyes"):
        evaluate(model_of(run), EvaluateSetup(guides=strangers, options=options))


def test_several_sets_export_to_diffusers_and_to_a_run_and_to_nothing_for_web_uis(place: Place) -> None:
    run = place.run("run")
    assert plan_export(run, ExportOptions()).formats == ("diffusers",)
    for kind in ("adapter", "checkpoint", "unet"):
        with pytest.raises(ConfigError, match=rf"several feature sets \(tagger:2,eyes:1\).*not --as {kind}"):
            plan_export(run, ExportOptions(formats=(kind,)))
    export(run, place.folder / "out", options=ExportOptions(formats=("diffusers", "run")))
    facts = json.loads((place.folder / "out/run-diffusers/adapter/config.json").read_text())
    assert [[one["label"] for one in each["sets"]] for each in facts["features"]] == [["tagger"], ["eyes"]]
    assert facts["features"][1]["sets"][0]["extractor"] == "eyes" and facts["feature_dim"] == 773
    given = RunRecord.read(place.folder / "out/run-run").features_read
    assert given.text == "tagger:2,eyes:1" and given.sets[1].extractor == "eyes"
    named = CheckpointJob(extractor=f"eyes={place.folder / 'eyes'}")
    ours, theirs = (
        load_run(one, base=place.base, tagger=CheapTagger(), device="cpu", which=named).feature(
            read_image(place.guide).pixels
        )
        for one in (run, place.folder / "out/run-run")
    )
    assert torch.equal(ours, theirs)


def test_one_other_set_folds_to_the_two_keys_and_is_used_from_them(place: Place) -> None:
    run = place.run("run", FeaturePlan(adapters=(_of(place.eyes, 3),)), train="adapter")
    report = export(run, place.folder / "out", options=ExportOptions(formats=("adapter",)))
    assert any("only pfgtrain can use it" in note for note in report.notes)
    file = place.folder / "out" / "run-n3.safetensors"
    assert sorted(load_file(file)) == ["pfg_linear.bias", "pfg_linear.weight"]
    assert load_adapter(file, cross_attention_dim=place.base.cross_attention_dim).feature_dim == 5
    job = CheckpointJob(extractor=f"eyes={place.folder / 'eyes'}")
    image = read_image(place.guide)
    model = load_adapter_on_base(file, place.base, tagger=CheapTagger(), device="cpu", which=job)
    assert torch.equal(model.feature(image.pixels), model_of(run).feature(image.pixels))
