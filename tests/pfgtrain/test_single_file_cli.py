"""A base that is a single file, on the command line: every command can use it, or refuse it by its header."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from pfgdata.cli import app as pfgdata_app
from pfgdata.hub import write_tensors
from pfgdata.taggers import OnnxTagger
from pfgdata.vaes import Vae
from pfgtrain.adapter import PFGLinear, save_adapter
from pfgtrain.base import Base
from pfgtrain.cli import app as pfgtrain_app
from tests.pfgdata.hub.ldm import ldm_tensors
from tests.pfgtrain.conftest import Call
from tests.pfgtrain.export.small_model import build_whole_base
from tests.pfgtrain.export.small_run import make_run
from tests.pfgtrain.small_store import build_latents, build_store
from tests.pfgtrain.tiny_base import WIDTH


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_whole_base(tmp_path_factory.mktemp("base") / "whole", linear=False)


@pytest.fixture
def file(configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The base as one file, with an empty cache and no hub."""
    monkeypatch.setenv("PFG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_tensors(tmp_path / "m.safetensors", ldm_tensors(configs))
    return tmp_path / "m.safetensors"


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "guide.png")
    return tmp_path / "guide.png"


@pytest.mark.parametrize(("app", "needed"), [(pfgdata_app, 1), (pfgtrain_app, 2)])
def test_every_command_that_takes_a_base_takes_what_its_file_lacks(app: typer.Typer, needed: int) -> None:
    command = typer.main.get_command(app)
    found = {
        name: {flag for parameter in one.params for flag in parameter.opts}
        for name, one in command.commands.items()  # type: ignore[attr-defined]
    }
    with_base = {name: flags for name, flags in found.items() if "--base" in flags}
    assert with_base
    for name, flags in with_base.items():
        assert set(("--base-config", "--prediction-type")[:needed]) <= flags, name


def test_published_weights_on_a_file_take_its_configs_and_its_prediction(
    call: Call, file: Path, configs: Path, guide: Path, tmp_path: Path
) -> None:
    save_adapter(PFGLinear(768, 2, WIDTH), tmp_path / "x-n2.pt")
    asked = ["generate", guide, "--adapter", tmp_path / "x-n2.pt", "--tagger", "demo", "--base", file]
    asked += ["--out", tmp_path / "made", "--json", "-n", 1, "--steps", 1, "--size", 16]
    code, _, err = call(*asked)
    assert code == 1 and "pass --base-config DIR" in err
    told = []
    for kind in ("epsilon", "v_prediction"):
        code, out, err = call(*asked, "--base-config", configs, "--prediction-type", kind)
        assert code == 0, err
        (picture,) = json.loads(out)["pictures"]
        with Image.open(picture["path"]) as made:
            told.append(json.loads(made.text["pfg"])["prediction_type"])  # type: ignore[attr-defined]
    assert told == ["epsilon", "v_prediction"]
    assert f"unpacking {file}" not in err  # once


def test_a_run_on_a_file_is_used_with_its_configs_when_the_cache_is_gone(
    call: Call, file: Path, configs: Path, guide: Path, tmp_path: Path
) -> None:
    numbers, feats, run = list(range(24)), tmp_path / "feats", tmp_path / "a"
    store = build_store(feats, numbers, shard_rows=9, tagger=OnnxTagger.load("demo"), feature_dim=768)
    vae = Vae.load(str(file), config=configs, device="cpu")
    build_latents(store, numbers, vae_digest=vae.digest, shard_rows=9, base_name=str(file))
    code, _, err = call("fit", "--shards", feats, "--steps", 1, "--out", run, "--train", "adapter")
    assert code == 0, err
    (tmp_path / "guides").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copyfile(guide, tmp_path / "guides" / name)
    for asked, ends in (
        (("generate", run, guide, "-n", 1, "--steps", 1, "--size", 16), "made"),
        (("export", run, "--to", tmp_path / "out", "--as", "diffusers"), "formats"),
        (("evaluate", run, "--guides", tmp_path / "guides"), "size 40x40: sides of base"),  # loaded, that is
    ):
        shutil.rmtree(tmp_path / "cache")
        code, _, err = call(*asked)
        assert code == 1 and "pass --base-config DIR" in err
        code, _, err = call(*asked, "--base-config", configs, "--prediction-type", "epsilon")
        assert "--base-config" not in err and ends in err, err
        code, _, err = call(*asked, "--base-config", configs, "--prediction-type", "v_prediction")
        assert code == 1 and "learned to predict epsilon; leave out --prediction-type" in err


def test_a_file_of_another_width_is_refused_before_it_is_unpacked(
    call: Call, file: Path, configs: Path, guide: Path, tmp_path: Path
) -> None:
    store = build_store(tmp_path / "feats", list(range(24)), shard_rows=9)
    build_latents(store, list(range(24)), vae_digest="x", shard_rows=9, base_name=str(configs))
    save_adapter(PFGLinear(768, 2, WIDTH + 1), tmp_path / "x.pt")
    wide = make_run(tmp_path / "a", Base.load(str(configs)), cross_attention_dim=2 * WIDTH)
    begin = ("fit", "--shards", store.path, "--out", tmp_path / "b", "--init", tmp_path / "x.pt")
    for asked, said in (
        (("generate", guide, "--adapter", tmp_path / "x.pt"), "34 rows are no whole number of tokens"),
        (begin, "34 rows are no whole number of tokens"),
        ((*begin, "--dry-run"), "34 rows are no whole number of tokens"),
        (("generate", wide, guide), "32 wide; base"),
        (("export", wide, "--to", tmp_path / "out"), "32 wide; base"),
    ):
        code, _, err = call(*asked, "--base", file, "--base-config", configs)
        assert code == 1 and said in err
        assert not (tmp_path / "cache").exists() and not (tmp_path / "b").exists()
