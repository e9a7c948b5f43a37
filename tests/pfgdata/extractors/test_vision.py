"""Models of transformers: from picture to vector they give what transformers' own arithmetic gives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pfgdata.conventions import Convention
from pfgdata.errors import ModelError, PfgError
from pfgdata.extractors import EXTRACTORS, load_extractor
from pfgdata.extractors.stated import stated
from pfgdata.extractors.vision import VisionExtractor
from pfgdata.hub import resolve
from tests.pfgdata.extractors.small_models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    KINDS,
    PROCESSORS,
    SIDE,
    write_model,
)

SHAPES = [(64, 64), (90, 41), (33, 70), (32, 32), (20, 57), (111, 64)]


def pictures() -> list[np.ndarray]:
    """Smooth pictures of several shapes, uint8 [H, W, 3]: an edge shows a wrong place or filter."""
    rng = np.random.default_rng(4)
    small = [rng.integers(0, 256, (7, 5, 3), np.uint8) for _ in SHAPES]
    return [
        np.asarray(Image.fromarray(one).resize(shape, Image.Resampling.BICUBIC))
        for one, shape in zip(small, SHAPES, strict=True)
    ]


def by_pil(name: str) -> Callable[[dict[str, Any], np.ndarray], np.ndarray]:
    """transformers' own processor on Pillow, which needs no torchvision."""

    def run(record: dict[str, Any], picture: np.ndarray) -> np.ndarray:
        import importlib

        room, kind = name.split(".")
        module = importlib.import_module(f"transformers.models.{room}.image_processing_pil_{room}")
        words = {key: value for key, value in record.items() if not key.endswith("_type")}
        processor = getattr(module, kind)(**words)
        return np.asarray(processor(Image.fromarray(picture), return_tensors="np")["pixel_values"][0])

    return run


def dinov3(record: dict[str, Any], picture: np.ndarray) -> np.ndarray:
    """The authors' make_transform: to tensor, resize both sides with antialias, normalise."""
    planes = [
        np.asarray(
            Image.fromarray(plane.astype(np.float32) / 255).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        )
        for plane in picture.transpose(2, 0, 1)
    ]
    mean, std = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return np.asarray((np.stack(planes) - mean) / std)


REFERENCES = {
    "clip": by_pil("clip.CLIPImageProcessorPil"),
    "siglip": by_pil("siglip.SiglipImageProcessorPil"),
    "dinov2": by_pil("bit.BitImageProcessorPil"),
    "dinov3_vit": dinov3,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_vector_is_that_of_transformers_own_processor_and_model(kind: str, tmp_path: Path) -> None:
    import torch

    model = write_model(tmp_path, kind)
    extractor = load_extractor(str(tmp_path), device="cpu")
    assert extractor.identity.node == KINDS[kind][1] and extractor.source == "preprocessor_config.json"
    shown = pictures()
    squares = np.stack([extractor.square(one) for one in shown])
    assert squares.shape == (len(shown), SIDE, SIDE, 3)
    values = np.stack([REFERENCES[kind](PROCESSORS[kind], one) for one in shown]).astype(np.float32)
    with torch.inference_mode():
        wanted = getattr(model(pixel_values=torch.from_numpy(values)), KINDS[kind][1]).numpy()
    found = extractor.features(squares)
    assert found.dtype == np.float16 and found.shape == wanted.shape == (len(shown), extractor.feature_dim)
    differing = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert differing < (0.02 if kind in ("dinov3_vit", "dinov2", "clip") else 2e-3)
    apart = np.abs(wanted[:, None] - wanted[None]).max(-1)[np.triu_indices(len(shown), 1)].min()
    assert np.abs(found - wanted).max() < apart / 2  # and no two pictures are mistaken for each other


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_that_the_model_takes_are_those_of_the_reference(kind: str, tmp_path: Path) -> None:
    write_model(tmp_path, kind)
    extractor = load_extractor(str(tmp_path), device="cpu")
    how = Convention.of(extractor.identity.preprocess)
    for picture in pictures():
        wanted = REFERENCES[kind](PROCESSORS[kind], picture)
        square = extractor.square(picture).astype(np.float64).transpose(2, 0, 1) / 255
        mean, std = (np.array(values)[:, None, None] for values in (how.mean, how.std))
        levels = np.abs((square - mean) / std - wanted) * std * 255
        if kind == "dinov3_vit":  # resized in floating point there
            assert levels.max() < 1.01 and levels.mean() < 0.4  # Pillow rounds after each of two passes
        elif kind == "siglip":
            assert levels.max() < 1e-3
        else:  # of an odd margin transformers' Pillow path cuts one pixel elsewhere than torchvision
            assert levels.max() < 1e-3 or _margin_is_odd(picture, PROCESSORS[kind])


def _margin_is_odd(picture: np.ndarray, record: dict[str, Any]) -> bool:
    shorter = record["size"] if isinstance(record["size"], int) else record["size"]["shortest_edge"]
    height, width = picture.shape[:2]
    longer = int(shorter * max(height, width) / min(height, width))
    return (longer - SIDE) % 2 == 1 or (shorter - SIDE) % 2 == 1


@pytest.mark.parametrize("kind", KINDS)
def test_two_loads_have_one_identity_and_another_config_another(kind: str, tmp_path: Path) -> None:
    write_model(tmp_path, kind)
    first = load_extractor(str(tmp_path), device="cpu").identity
    config = json.loads((tmp_path / "config.json").read_text())
    config["transformers_version"] = "4.0.0"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_extractor(str(tmp_path), device="cpu").identity == first
    inside = config["vision_config"] if kind == "clip" else config
    inside["hidden_act"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_extractor(str(tmp_path), device="cpu").identity != first


def test_a_vector_that_float16_cannot_hold_is_infinite(tmp_path: Path) -> None:
    write_model(tmp_path, "clip", loud=1e7)
    extractor = load_extractor(str(tmp_path), device="cpu")
    found = extractor.features(np.stack([extractor.square(one) for one in pictures()]))
    assert np.isinf(found).any()


class SmallDevice(torch.nn.Module):
    """A model where a GPU has room for `room` pictures at once, and how many it saw each time."""

    def __init__(self, model: Any, room: int) -> None:
        super().__init__()
        self.model, self.room, self.seen = model, room, list[int]()
        self.device, self.dtype = model.device, model.dtype

    def forward(self, pixel_values: torch.Tensor) -> Any:
        self.seen.append(len(pixel_values))
        if len(pixel_values) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return self.model(pixel_values=pixel_values)


def on_small_device(folder: Path, *, room: int) -> tuple[VisionExtractor, SmallDevice]:
    """The extractor of a new model in `folder` on such a device."""
    model = write_model(folder, "dinov2").eval()
    found = resolve(str(folder), what="extractor")
    device = SmallDevice(model, room)
    how, identity = stated(folder, None), load_extractor(str(folder), device="cpu").identity
    return VisionExtractor(device, found=found, how=how, identity=identity, precision="float32"), device


def test_a_batch_that_a_device_has_no_memory_for_goes_in_halves_from_then_on(tmp_path: Path) -> None:
    extractor, device = on_small_device(tmp_path, room=2)
    squares = np.stack([extractor.square(one) for one in pictures()])
    whole = load_extractor(str(tmp_path), device="cpu").features(squares)
    for seen in ([6, 3, 1, 1, 1, 1, 1, 1], [1] * 6):
        device.seen.clear()
        np.testing.assert_allclose(extractor.features(squares), whole, atol=1e-3)
        assert device.seen == seen


def test_a_device_without_memory_for_one_picture_or_that_fails_says_so_in_one_line(tmp_path: Path) -> None:
    extractor, _ = on_small_device(tmp_path, room=0)
    squares = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    with pytest.raises(ModelError, match=r"no memory for one image; stop what else runs there or use"):
        extractor.features(squares)
    extractor, device = on_small_device(tmp_path, room=2)
    device.model.layernorm = torch.nn.Linear(2, 2)  # of 16 numbers
    with pytest.raises(ModelError, match=r"cpu failed on a batch \(mat1 and mat2 shapes cannot be mult"):
        extractor.features(squares)


def test_a_model_that_finds_no_memory_at_load_says_so_in_one_line(tmp_path: Path) -> None:
    write_model(tmp_path, "dinov2")
    code = (
        "import resource, sys, torch, transformers\n"
        "from pfgdata.extractors import load_extractor\n"
        "transformers.Dinov2Model\n"
        "torch.set_num_threads(1)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20),) * 2)\n"  # the picture takes 800
        "load_extractor(sys.argv[1], device='cpu')\n"
    )
    record = {**PROCESSORS["dinov2"], "size": {"shortest_edge": 8192}}
    record["crop_size"] = {"height": 8192, "width": 8192}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert re.search(r"ModelError: \S+: cpu has no memory for it; stop what else", told.stderr), told.stderr


def test_what_a_model_does_not_give_is_refused_by_name(tmp_path: Path) -> None:
    write_model(tmp_path, "dinov2")
    with pytest.raises(ModelError, match="has no vector image_embeds; it gives pooler_output"):
        load_extractor(str(tmp_path), node="image_embeds", device="cpu")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"nothing there says how the model wants its pictures; pass --conv"):
        load_extractor(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"longest_edge": 32}}, "KeyError|height"),
        ({"resample": None}, "no resample"),
        ({"image_mean": None}, "no image_mean"),
        ({"rescale_factor": 0.5}, "rescale_factor 0.5"),
        ({"do_pad": True}, "do_pad"),
        ({"image_processor_type": "OwnProcessor", "size": 32}, "does not say of which sides"),
        ({"image_processor_type": "Siglip2ImageProcessor"}, "keeps each picture's own shape"),
        ({"size": {"height": 32, "width": 48}}, "equal sides"),
    ],
)
def test_a_processor_that_says_too_little_is_one_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_model(tmp_path, "siglip")
    record = {**PROCESSORS["siglip"], **change}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match=message) as refusal:
        load_extractor(str(tmp_path), device="cpu")
    assert "--convention FILE" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": '{"model_type": "bert"}'}, "its model_type is bert; known are clip"),
        ({"config.json": '{"model_type": "siglip2"}'}, "naflex"),
        ({"config.json": "["}, "fetch it again"),
        ({}, "is missing"),
        ({"config.json": '{"model_type": "dinov2"}'}, "nothing there says how"),
    ],
)
def test_a_folder_that_is_no_extractor_is_one_line(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(PfgError, match=message) as refusal:
        load_extractor(str(tmp_path), device="cpu")
    assert "\n" not in str(refusal.value)


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path, "dinov2")
    config = json.loads((tmp_path / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="its weights lack"):
        load_extractor(str(tmp_path), device="cpu")


def test_a_picture_of_another_size_than_the_model_takes_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, "clip")
    how = Convention.of("size 40; channels RGB; square stretch 40 bilinear; output feature")
    with pytest.raises(ModelError, match="cannot take pictures of 40 x 40"):
        load_extractor(str(tmp_path), convention=how, device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", "auto:0", "cuda:999", "tensorrt:999", ""])
def test_a_device_that_is_none_is_one_line(device: str, tmp_path: Path) -> None:
    write_model(tmp_path, "dinov2")
    with pytest.raises(PfgError, match=r"no device|no CUDA for torch|no GPU 999"):
        load_extractor(str(tmp_path), device=device)


def test_a_name_that_looks_like_one_of_the_catalog_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="nearest: clip-l"):
        load_extractor("clip-xl")
    with pytest.raises(ModelError, match="none travels with pfg"):
        load_extractor("demo")
    assert all(entry.licence and "/" in entry.repository for entry in EXTRACTORS.values())
