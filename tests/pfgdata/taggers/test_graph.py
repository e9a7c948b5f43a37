"""The feature is found in every form a graph comes in, and never in a wrong place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pfgdata.errors import GraphError
from pfgdata.taggers import OnnxTagger
from tests.pfgdata.taggers.graphs import FEATURE_DIM, SIDE, TAGS, Form, write_tagger

FORMS = {
    "nhwc": Form(),
    "nchw": Form(layout="NCHW"),
    "fixed batch": Form(batch=4),
    "float16": Form(half=True, half_io=True),
    "float16 inside": Form(half=True, layout="NCHW"),
    "gemm": Form(dense="gemm"),
    "gemm, transposed": Form(dense="gemm_transposed"),
    "half weights behind a cast": Form(dense="cast"),
    "embedding exposed first": Form(embedding="embedding"),
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(3)
    colours = rng.integers(0, 256, (6, 1, 1, 3)) // 2 + rng.integers(0, 128, (6, SIDE, SIDE, 3))
    return colours.astype(np.uint8)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_scores_and_features_are_those_of_the_weights(form: Form, images: np.ndarray, tmp_path: Path) -> None:
    expected_scores, expected_features = write_tagger(tmp_path, form).expected(images)
    tagger = OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
    scores, features = tagger.predict(images)
    tolerance = 1e-2 if form.half or form.dense == "cast" else 1e-5
    np.testing.assert_allclose(scores, expected_scores, atol=tolerance)
    np.testing.assert_allclose(features, expected_features, atol=tolerance)
    assert scores.dtype == features.dtype == np.float32
    assert (tagger.feature_dim, tagger.image_size, tagger.batch_size) == (FEATURE_DIM, SIDE, form.batch)
    assert tagger.identity.feature_node == (form.embedding or "penultimate")


def test_a_dense_layer_without_bias_is_found(images: np.ndarray, tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(dense="no_bias"))
    assert OnnxTagger.load(str(tmp_path), device="cpu", threads=1).predict(images)[1].shape == (
        6,
        FEATURE_DIM,
    )


def test_external_weights_cut_short_are_named(tmp_path: Path) -> None:
    write_tagger(tmp_path, external=True)
    weights = tmp_path / "model.onnx_data"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(GraphError, match=r"model\.onnx_data is cut short; fetch it again"):
        OnnxTagger.load(str(tmp_path), device="cpu")


def test_external_weights_are_loaded_from_the_folder_and_counted_in_the_hash(
    images: np.ndarray, tmp_path: Path
) -> None:
    expected, _ = write_tagger(tmp_path, external=True).expected(images)
    first = OnnxTagger.load(str(tmp_path), device="cpu", threads=1)
    np.testing.assert_allclose(first.predict(images)[0], expected, atol=1e-5)
    data = tmp_path / "model.onnx_data"
    data.write_bytes(data.read_bytes() + b"\0")
    assert OnnxTagger.load(str(tmp_path)).identity.weights_sha256 != first.identity.weights_sha256
    data.rename(tmp_path / "blob")
    data.symlink_to("blob")  # as in Hugging Face's cache
    np.testing.assert_allclose(OnnxTagger.load(str(tmp_path)).predict(images)[0], expected, atol=1e-5)
    data.unlink()
    with pytest.raises(GraphError, match=r"needs model\.onnx_data beside it"):
        OnnxTagger.load(str(tmp_path))


def test_a_graph_whose_scores_are_not_the_sigmoid_of_its_dense_layer_is_refused(tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(tail="scrambled"))
    with pytest.raises(GraphError, match="its feature cannot be trusted"):
        OnnxTagger.load(str(tmp_path), device="cpu", threads=1)


def test_a_graph_in_float16_is_held_to_the_same_proof(tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(tail="scrambled", half=True))
    with pytest.raises(GraphError, match="its feature cannot be trusted"):
        OnnxTagger.load(str(tmp_path), device="cpu", threads=1)


@pytest.mark.parametrize("tail", ["logits", "scaled"])
def test_a_graph_without_sigmoid_scores_is_refused(tail: str, tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(tail=tail))
    with pytest.raises(GraphError, match=r"no output \(\w+\) comes from a sigmoid"):
        OnnxTagger.load(str(tmp_path), device="cpu", threads=1)


def test_scores_of_another_width_than_the_vocabulary_are_refused(tmp_path: Path) -> None:
    write_tagger(tmp_path, Form(num_tags=len(TAGS) + 2))
    with pytest.raises(GraphError, match=r"gives 9 scores, selected_tags\.csv names 7 tags"):
        OnnxTagger.load(str(tmp_path), device="cpu", threads=1)


def test_a_file_that_is_no_onnx_model_is_named(tmp_path: Path) -> None:
    write_tagger(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(GraphError, match=r"model\.onnx"):
        OnnxTagger.load(str(tmp_path))
