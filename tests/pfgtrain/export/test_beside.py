"""An exported adapter is drawn with as its run is: the .json beside it says how, and is not contradicted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pfgdata.errors import IdentityError, PfgError, RunError
from pfgtrain.base import Base
from pfgtrain.export import ExportOptions, export
from pfgtrain.generate import GenerateOptions, generate, load_adapter_on_base, load_run
from tests.conftest import make_images
from tests.doubles import CheapTagger, Watched
from tests.pfgtrain.export.small_model import build_whole_base
from tests.pfgtrain.export.small_run import FEATURE_DIM, make_run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(build_whole_base(tmp_path_factory.mktemp("base") / "whole", linear=False)))


@pytest.fixture
def run(base: Base, tmp_path: Path) -> Path:
    return make_run(
        tmp_path / "a",
        base,
        train="adapter",
        uncond="eos",
        empty_prompt="zeros",
        text_layer=base.text_layer - 1,
        prompt="a picture of *",
        resolution=32,
    )


@pytest.fixture
def adapter(run: Path, tmp_path: Path) -> Path:
    export(run, tmp_path / "out", options=ExportOptions(formats=("adapter",)))
    return tmp_path / "out" / "a-n3.safetensors"


@pytest.mark.parametrize("name", ["a-n3.safetensors", "a-n3-to-copy/a-n3.pt"])
def test_an_exported_adapter_gives_the_picture_of_its_run(
    base: Base, run: Path, adapter: Path, name: str
) -> None:
    progress, file = Watched(), adapter.parent / name
    model = load_adapter_on_base(file, base, tagger=CheapTagger(), device="cpu", progress=progress)
    assert progress.said == [f"{file.name} is used as its .json says; the prompt was: a picture of *"]
    feature_1F = torch.rand(1, FEATURE_DIM, generator=torch.Generator().manual_seed(3))
    options = GenerateOptions(num_inference_steps=2)
    ours, of_run = (
        np.asarray(one.paint(feature_1F, seeds=[7], options=options)[0])
        for one in (model, load_run(run, base=base, tagger=CheapTagger(), device="cpu"))
    )
    assert ours.shape == (32, 32, 3)
    assert np.array_equal(ours, of_run)


@pytest.mark.parametrize(
    ("other", "error", "says"),
    [
        ({"num_tokens": 4}, RunError, "the run says 4 tokens"),
        ({"prediction_type": "v_prediction"}, IdentityError, "predicts v_prediction, .* predicts epsilon"),
        ({"text_layer": 9}, IdentityError, "read layer 9 of its texts, base .* has 3"),
        ({"files": {"a-n3.safetensors": "ab" * 32}}, RunError, "is of another file than a-n3.safetensors"),
        ({"files": ["a-n3.safetensors"]}, RunError, "not as export writes it"),
        ({"tagger": {"name": "demo"}}, RunError, "not as export writes it .*; export again"),
    ],
)
def test_what_contradicts_the_json_beside_is_refused_in_one_line(
    base: Base, adapter: Path, other: dict[str, Any], error: type[PfgError], says: str
) -> None:
    document = adapter.with_suffix(".json")
    document.write_text(json.dumps({**json.loads(document.read_text()), **other}))
    with pytest.raises(error, match=says) as caught:
        load_adapter_on_base(adapter, base, tagger=CheapTagger(), device="cpu")
    assert "\n" not in str(caught.value)


def test_another_tagger_than_the_json_beside_names_is_refused(base: Base, adapter: Path) -> None:
    tagger = CheapTagger(preprocess="webui")
    with pytest.raises(
        IdentityError, match=r"a-n3.safetensors is of tagger .*preprocessing kohya against webui"
    ):
        load_adapter_on_base(adapter, base, tagger=tagger, device="cpu")


def test_one_folder_up_is_looked_for_the_json_from_within_the_folder_too(
    base: Base, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(adapter.parent / "a-n3-to-copy")
    with pytest.raises(IdentityError, match=r"a-n3\.pt is of tagger .*preprocessing kohya against webui"):
        load_adapter_on_base(Path("a-n3.pt"), base, tagger=CheapTagger(preprocess="webui"), device="cpu")


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text('{"sd version": "SD1"}')])
def test_without_a_json_of_export_the_training_is_assumed(
    base: Base, adapter: Path, change: Callable[[Path], Any]
) -> None:
    change(adapter.with_suffix(".json"))
    progress = Watched()
    model = load_adapter_on_base(adapter, base, tagger=CheapTagger(), device="cpu", progress=progress)
    assert (model.prompt, model.uncond, model.text_layer) == ("", "zeros", base.text_layer)
    assert "does not record its training" in progress.said[0]


def test_an_adapter_whose_name_is_no_text_still_draws(base: Base, adapter: Path, tmp_path: Path) -> None:
    odd = (adapter.parent / "a-n3-to-copy" / "a-n3.pt").rename(tmp_path / "a\udcff-n3.pt")
    (guide,) = make_images(tmp_path / "guides", 1)
    model = load_adapter_on_base(odd, base, tagger=CheapTagger(), device="cpu")
    report = generate(model, [guide], tmp_path / "drawn", options=GenerateOptions(num_inference_steps=1))
    with Image.open(report.pictures[0].path) as picture:
        assert json.loads(picture.info["pfg"])["weights"] == r"a\xff-n3.pt"


def test_a_base_of_the_prediction_type_that_is_asked_for_is_taken(base: Base, tmp_path: Path) -> None:
    learned = replace(base, prediction_type="v_prediction")
    run = make_run(tmp_path / "v", learned, train="adapter")
    export(run, tmp_path, options=ExportOptions(formats=("adapter",)))
    model = load_adapter_on_base(tmp_path / "v-n3.safetensors", learned, tagger=CheapTagger(), device="cpu")
    assert model.base.prediction_type == "v_prediction"
