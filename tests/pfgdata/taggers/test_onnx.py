"""The tagger as other rooms see it: names, batches, identity, and the one that travels in the package."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from pfgdata.conventions import WD
from pfgdata.errors import ConfigError, ModelError, ModelNotFoundError, VocabularyError
from pfgdata.taggers import CATALOG, DEFAULT_TAGGER, OnnxTagger, Tagger
from tests.pfgdata.taggers.graphs import FEATURE_DIM, SIDE, TAGS, Form, write_tagger


@pytest.fixture(scope="module")
def demo() -> OnnxTagger:
    return OnnxTagger.load("demo", threads=1)


def pictures(count: int, side: int) -> np.ndarray:
    """Smooth pictures of different colours, uint8 [count, side, side, 3]."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.float32)
    return np.repeat(np.repeat(corners, side // 4, axis=1), side // 4, axis=2).astype(np.uint8)


def test_a_fixed_batch_is_padded_and_the_padding_is_dropped(tmp_path: Path) -> None:
    write_tagger(tmp_path / "fixed", Form(batch=4))
    write_tagger(tmp_path / "free")
    images = pictures(6, SIDE)
    fixed = OnnxTagger.load(str(tmp_path / "fixed"), threads=1).predict(images)
    free = OnnxTagger.load(str(tmp_path / "free"), threads=1).predict(images)
    np.testing.assert_allclose(fixed[0], free[0], atol=1e-6)
    np.testing.assert_allclose(fixed[1], free[1], atol=1e-6)


def test_no_images_give_no_rows(tmp_path: Path) -> None:
    write_tagger(tmp_path)
    scores, features = OnnxTagger.load(str(tmp_path), device="cpu", threads=1).predict(pictures(0, SIDE))
    assert (scores.shape, features.shape) == ((0, len(TAGS)), (0, FEATURE_DIM))


def test_images_of_another_size_are_our_own_bug(tmp_path: Path) -> None:
    write_tagger(tmp_path)
    with pytest.raises(ValueError, match="not uint8"):
        OnnxTagger.load(str(tmp_path), device="cpu", threads=1).predict(pictures(1, 2 * SIDE))


def test_identity_holds_the_hash_of_the_file_and_the_pixel_path(tmp_path: Path) -> None:
    write_tagger(tmp_path)
    identity = OnnxTagger.load(str(tmp_path), preprocess="webui").identity
    assert identity.weights_sha256 == hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    assert (identity.preprocess, identity.name, identity.revision) == ("webui", str(tmp_path), None)


def test_the_onnx_file_itself_is_a_name(tmp_path: Path) -> None:
    write_tagger(tmp_path)
    (tmp_path / "model.onnx").rename(tmp_path / "other.onnx")
    assert OnnxTagger.load(str(tmp_path / "other.onnx"), threads=1).image_size == SIDE


def test_what_is_missing_in_a_folder_is_named(tmp_path: Path) -> None:
    write_tagger(tmp_path)
    (tmp_path / "selected_tags.csv").unlink()
    with pytest.raises(VocabularyError, match=r"selected_tags\.csv is missing"):
        OnnxTagger.load(str(tmp_path))
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ModelNotFoundError, match=r"model\.onnx is missing"):
        OnnxTagger.load(str(tmp_path))


def test_an_unknown_preprocessing_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="kohya, webui"):
        OnnxTagger.load("demo", preprocess="kohia")


def test_a_misspelt_catalog_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelNotFoundError, match=DEFAULT_TAGGER):
        OnnxTagger.load("wd-v1-4-vit-tager-v2")


def test_cuda_asked_for_and_not_there_is_an_error() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has CUDA here")
    with pytest.raises(ModelError, match="no CUDA for onnxruntime here: onnxruntime"):
        OnnxTagger.load("demo", device="cuda")


def test_the_catalog_knows_the_taggers_of_both_generations() -> None:
    wolves = [entry for entry in CATALOG.values() if entry.convention == WD]
    assert len(wolves) == 10
    assert CATALOG[DEFAULT_TAGGER].repository == "SmilingWolf/wd-v1-4-vit-tagger-v2"
    assert {entry.feature_dim for entry in wolves} == {768, 1024}


def test_each_entry_of_the_catalog_says_its_licence_and_its_gate() -> None:
    assert all(entry.licence for entry in CATALOG.values())
    assert {name for name, entry in CATALOG.items() if entry.gated} == {
        name for name in CATALOG if name.startswith("animetimm")
    }


def test_an_onnx_tagger_is_a_tagger(demo: OnnxTagger) -> None:
    tagger: Tagger = demo  # mypy compares the protocol
    assert tagger.vocabulary.names[0] == "general"


def test_the_demo_tagger_has_the_interface_of_the_default_one(demo: OnnxTagger) -> None:
    assert (demo.feature_dim, demo.image_size, demo.batch_size) == (768, 448, None)
    assert not demo.untrained
    assert demo.identity.name == "demo"


def test_the_demo_tagger_tells_pictures_apart_and_scores_like_a_real_one(demo: OnnxTagger) -> None:
    scores, features = demo.predict(pictures(8, 448))
    assert (scores[:, demo.vocabulary.rating_ids].argmax(1) == 0).all()
    assert ((scores >= 0.05).sum(1) < 0.4 * len(demo.vocabulary)).all()
    centred = features - features.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert (centred @ centred.T)[np.triu_indices(8, 1)].max() < 0.9


def test_a_batch_gives_what_its_images_give_alone(demo: OnnxTagger) -> None:
    images = pictures(3, 448)
    together = demo.predict(images)[1]
    alone = np.concatenate([demo.predict(image[None])[1] for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_copy_without_the_marker_counts_as_trained(tmp_path: Path) -> None:
    write_tagger(tmp_path / "a")
    assert not OnnxTagger.load(str(tmp_path / "a"), threads=1).untrained
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "UNTRAINED").touch()
    assert OnnxTagger.load(str(tmp_path / "b"), threads=1).untrained


def test_a_model_newer_than_onnxruntime_says_so_however_long_its_path_is(tmp_path: Path) -> None:
    for change, words in (
        ({"ir_version": 99}, ["Unsupported model IR version: 99, max supported IR version: "]),
        ({"opset": 99}, ["Opset 99 is under development", "is till opset "]),
    ):
        folder = tmp_path / ("x" * 200) / "-".join(change)
        write_tagger(folder)
        model = onnx.load(folder / "model.onnx")
        model.ir_version = change.get("ir_version", model.ir_version)
        model.opset_import[0].version = change.get("opset", model.opset_import[0].version)
        onnx.save(model, folder / "model.onnx")
        with pytest.raises(ModelError) as caught:
            OnnxTagger.load(str(folder))
        for word in (*words, "is too old for it", "upgrade it"):
            assert word in str(caught.value), caught.value
