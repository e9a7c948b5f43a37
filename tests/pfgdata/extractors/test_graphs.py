"""Any graph and a named tensor of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pfgdata.conventions import WD, Convention
from pfgdata.errors import GraphError, ModelError
from pfgdata.extractors import load_extractor
from tests.pfgdata.extractors.small_models import PROCESSORS, SIDE, write_graph

HOW = Convention(
    size=SIDE,
    layout="NCHW",
    channels="RGB",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
    square=(f"stretch {SIDE} bilinear",),
    output="feature",
)


@pytest.fixture
def squares() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def wanted(squares: np.ndarray, weight: np.ndarray, how: Convention = HOW) -> np.ndarray:
    pixels = squares.astype(np.float64)
    if how.channels == "BGR":
        pixels = pixels[..., ::-1]
    if how.mean is not None:
        pixels = (pixels / 255 - np.array(how.mean)) / np.array(how.std)
    return pixels.mean((1, 2)) @ weight


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [3, "C"])
def test_the_only_output_of_a_graph_is_its_feature(
    layout: str, channels: int | str, squares: np.ndarray, tmp_path: Path
) -> None:
    weight = write_graph(tmp_path / "model.onnx", layout=layout, channels=channels, size="S")
    how = Convention.of(HOW.text.replace("NCHW", layout))
    extractor = load_extractor(str(tmp_path / "model.onnx"), convention=how, device="cpu")
    assert extractor.identity.node == "embedding" and extractor.feature_dim == 5
    found = extractor.features(squares)
    np.testing.assert_allclose(found, wanted(squares, weight, how), rtol=2e-3, atol=2e-3)
    assert Convention.of(extractor.identity.preprocess) == how


def test_a_tensor_inside_the_graph_can_be_named_and_several_outputs_must_be(
    squares: np.ndarray, tmp_path: Path
) -> None:
    weight = write_graph(tmp_path / "model.onnx", more=True)
    name = str(tmp_path)
    with pytest.raises(GraphError, match="gives embedding, logits, map; say by --node"):
        load_extractor(name, convention=HOW, device="cpu")
    inside = load_extractor(name, node="hidden", convention=HOW, device="cpu")
    np.testing.assert_allclose(inside.features(squares), wanted(squares, np.eye(3)), rtol=2e-3, atol=2e-3)
    out = load_extractor(name, node="embedding", convention=HOW, device="cpu")
    np.testing.assert_allclose(out.features(squares), wanted(squares, weight), rtol=2e-3, atol=2e-3)
    assert inside.identity != out.identity and inside.identity.weights_sha256 == out.identity.weights_sha256
    with pytest.raises(GraphError, match="no tensor embeding; did you mean embedding"):
        load_extractor(name, node="embeding", convention=HOW, device="cpu")
    with pytest.raises(GraphError, match="map gives 3,072 numbers of float32 an image over 3 axes"):
        load_extractor(name, node="map", convention=HOW, device="cpu")


def test_float16_is_close_and_what_it_cannot_hold_is_infinite(squares: np.ndarray, tmp_path: Path) -> None:
    weight = write_graph(tmp_path / "model.onnx")
    half = load_extractor(str(tmp_path), convention=HOW, device="cpu", precision="float16")
    np.testing.assert_allclose(half.features(squares), wanted(squares, weight), rtol=2e-2, atol=2e-2)
    assert half.writer["compute_dtype"] == "float16"
    write_graph(tmp_path / "loud" / "model.onnx", scale=1e7)
    loud = load_extractor(str(tmp_path / "loud"), convention=HOW, device="cpu")
    assert np.isinf(loud.features(squares)).any()


def test_files_beside_a_graph_say_its_convention(squares: np.ndarray, tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="nothing there says how the model wants its pictures"):
        load_extractor(str(tmp_path), device="cpu")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS["siglip"]))
    by_processor = load_extractor(str(tmp_path), device="cpu")
    assert by_processor.source == "preprocessor_config.json"
    assert "stretch 32 bilinear" in by_processor.identity.preprocess
    stages = [
        {"type": "resize", "size": [SIDE, SIDE], "interpolation": "lanczos"},
        {"type": "to_tensor"},
    ]
    (tmp_path / "preprocess.json").write_text(json.dumps({"stages": stages}))
    assert "stretch 32 lanczos" in load_extractor(str(tmp_path), device="cpu").identity.preprocess
    lines = ["channels = 'BGR'", "square = 'smilingwolf'", "layout = 'NCHW'", "size = 32"]
    (tmp_path / "convention.toml").write_text("\n".join(lines))
    own = load_extractor(str(tmp_path), device="cpu")
    assert own.source == "convention.toml" and Convention.of(own.identity.preprocess).channels == "BGR"


def test_a_taggers_convention_says_how_an_extractor_takes_pictures(
    squares: np.ndarray, tmp_path: Path
) -> None:
    weight = write_graph(tmp_path / "model.onnx", layout="NHWC", scale=1e-2)
    extractor = load_extractor(str(tmp_path), convention=WD, device="cpu")
    assert "output feature" in extractor.identity.preprocess and "labels" not in extractor.identity.preprocess
    np.testing.assert_allclose(extractor.features(squares), wanted(squares, weight, WD), rtol=2e-3, atol=2e-3)


def test_a_convention_of_another_layout_or_size_is_refused(tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx", layout="NHWC")
    with pytest.raises(GraphError, match="layout is NHWC, its convention says NCHW"):
        load_extractor(str(tmp_path), convention=HOW, device="cpu")


def test_a_file_that_is_no_graph_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"is no \.onnx file; name the folder"):
        load_extractor(str(tmp_path / "model.safetensors"), device="cpu")
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(GraphError, match="fetch it again"):
        load_extractor(str(tmp_path / "model.onnx"), convention=HOW, device="cpu")
