"""The shipped recipes load, every key is one that a step knows, and they are the runs they say they are."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pfgdata.cli import ingest as ingest_cli
from pfgdata.cli import latents as latents_cli
from pfgdata.cli import query as query_cli
from pfgdata.conventions import PREPROCESSINGS as SQUARES
from pfgdata.conventions import Labels
from pfgdata.errors import ConfigError
from pfgdata.latents import LatentJob
from pfgdata.records import NoProgress
from pfgdata.store import Store
from pfgdata.taggers import CATALOG, DEFAULT_TAGGER, OnnxTagger
from pfgtrain.base import Base
from pfgtrain.checkpoint import RunRecord, Sampling
from pfgtrain.cli import evaluate as evaluate_cli
from pfgtrain.cli import generate as generate_cli
from pfgtrain.config import load_config
from pfgtrain.evaluate import EvaluateJob
from pipelines.recipe import (
    RECIPES,
    GenerateTable,
    IngestTable,
    QueryTable,
    Recipe,
    find_recipe,
    read_recipe,
)
from pipelines.steps import run_steps
from tests.conftest import make_images
from tests.doubles import Watched
from tests.pfgdata.extractors.small_models import write_graph
from tests.pfgdata.taggers.seers import Seer, write_labels, write_seer
from tests.pfgtrain.evaluate.small_evaluation import write_guides
from tests.pfgtrain.export.small_run import make_run
from tests.pfgtrain.tiny_base import build_tiny_base

SDXL = ["illustrious_600k", "noobai_vpred", "sdxl_lora_12gb"]
LARGE = ["umamusume_46k", "umamusume_46k_stage1", "anime_600k", *SDXL]


@pytest.mark.parametrize("name", [*LARGE, "demo"])
def test_a_shipped_recipe_loads_with_known_keys_only(name: str) -> None:
    recipe = read_recipe(find_recipe(name))
    assert recipe.name == name
    assert recipe.latents is not None
    assert recipe.ingest.preprocess in (None, *SQUARES)
    assert recipe.ingest.tagger == "demo" or recipe.ingest.tagger in CATALOG
    assert load_config(find_recipe(name), {}) == recipe.fit


@pytest.mark.parametrize("name", LARGE)
def test_what_is_encoded_is_what_is_trained_on(name: str) -> None:
    recipe = read_recipe(find_recipe(name))
    assert recipe.latents is not None
    assert recipe.fit is not None
    assert recipe.latents.where == recipe.fit.where
    runs = {"umamusume_46k": "runs/umamusume_46k_stage1"}  # whose VAE is that of the latents
    assert recipe.fit.base == runs.get(name, recipe.latents.base)


@pytest.mark.parametrize("name", LARGE)
def test_a_large_recipe_says_what_it_takes(name: str) -> None:
    head = find_recipe(name).read_text().split("[ingest]")[0]
    for word in ("place", "isk", "emory", "Time"):
        assert word in head


def test_the_article_s_run_is_the_article_s() -> None:
    recipe = read_recipe(find_recipe("umamusume_46k"))
    fit = recipe.fit
    assert fit is not None
    assert recipe.ingest.tagger == DEFAULT_TAGGER
    assert (fit.train, fit.num_tokens, fit.prompt) == ("unet", 5, "illustration of umamusume")
    assert (fit.learning_rate, fit.adapter_learning_rate) == (5e-6, 5e-6)
    assert (fit.train_batch_size, fit.num_train_epochs, fit.max_train_steps) == (20, 10, None)
    assert (fit.uncond, fit.condition_dropout) == ("eos", 0.0)


@pytest.mark.parametrize("name", SDXL)
def test_an_sdxl_recipe_is_of_its_size_and_saves_memory(name: str) -> None:
    recipe = read_recipe(find_recipe(name))
    fit = recipe.fit
    assert fit is not None and recipe.latents is not None
    assert recipe.latents.resolution == 1024
    assert fit.gradient_checkpointing
    frugal = (fit.optimizer, fit.full_bf16, fit.fused_backward_pass) == ("adafactor", True, True)
    assert frugal == (fit.train == "unet")
    assert fit.prediction_type == ("v_prediction" if name == "noobai_vpred" else None)


def in_the_demo_s_size(name: str, images: Path) -> Recipe:
    """A shipped recipe with all its keys, but for images, models and lengths."""
    recipe = read_recipe(find_recipe(name))
    assert recipe.latents is not None and recipe.fit is not None
    base = recipe.fit.base if name == "umamusume_46k" else "demo"
    return dataclasses.replace(
        recipe,
        folder=images,
        ingest=dataclasses.replace(recipe.ingest, images=".", tagger="demo", preprocess=None),
        query=None,
        latents=dataclasses.replace(recipe.latents, base="demo", where=None, resolution=64),
        fit=dataclasses.replace(
            recipe.fit, base=base, where=None, max_train_steps=2, train_batch_size=4, num_train_epochs=1
        ),
        generate=recipe.generate
        and dataclasses.replace(
            recipe.generate, guides=["guide.jpg"], images_per_guide=1, num_inference_steps=2
        ),
    )


def test_both_stages_of_the_article_run_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pictures = sorted((find_recipe("demo").parent / "demo" / "images").rglob("*.jpg"))
    for picture in pictures[:8]:
        shutil.copy(picture, tmp_path / "images")
    shutil.copy(pictures[9], tmp_path / "images" / "guide.jpg")
    out, results = tmp_path / "out", dict[str, dict[str, str]]()
    for name in ("umamusume_46k_stage1", "umamusume_46k"):
        recipe = in_the_demo_s_size(name, tmp_path / "images")
        ran = run_steps(recipe, out, progress=NoProgress(), stop=lambda: False)
        results[name] = {step.name: step.result for step in ran}
    second = results["umamusume_46k"]
    assert second["ingest"].startswith("9 images = 0 tagged + 0 copied + 9 unchanged")
    assert second["latents"].startswith("9 images = 0 encoded + 9 present")
    assert second["generate"].startswith("1 pictures of 1 guides")
    runs = out / "runs"
    one, two = (RunRecord.read(runs / name) for name in results)
    assert (one.num_tokens, one.caption, one.base_name) == (0, "tags", "demo")
    assert (two.num_tokens, two.caption) == (5, None)
    assert (two.base_name, two.base_revision) == (str(runs / "umamusume_46k_stage1"), "step-00000002")


def test_a_model_beside_a_recipe_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "x.toml").write_text('[ingest]\nimages = "."\n')
    recipe = read_recipe(tmp_path / "x.toml")
    assert recipe.model("models/mine") == str(tmp_path / "models" / "mine")
    assert recipe.model("org/model") == "org/model"
    assert read_recipe(find_recipe("demo")).model("demo") == "demo"  # though a folder of that name is there


def test_a_path_in_a_recipe_begins_at_its_folder_or_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "model").mkdir(parents=True)
    (tmp_path / "x.toml").write_bytes(b'\xef\xbb\xbf[ingest]\nimages = "~/images"\n')
    recipe = read_recipe(tmp_path / "x.toml")
    assert recipe.paths(recipe.ingest.images) == [tmp_path / "home" / "images"]
    assert recipe.path("images") == tmp_path / "images"
    assert recipe.model("~/model") == str(tmp_path / "home" / "model")
    (tmp_path / "~" / "model").mkdir(parents=True)
    assert recipe.model("~/model") == str(tmp_path / "~" / "model")
    assert find_recipe("~/../x.toml") == tmp_path / "home" / ".." / "x.toml"


def test_a_key_of_another_table_and_an_unknown_table_are_refused(tmp_path: Path) -> None:
    good = '[ingest]\nimages = "."\n'
    for text, said in [
        (good + "[latents]\nbase = 'demo'\nlearning_rate = 1.0\n", "learning_rate"),
        (good + "[fit]\nimages = '.'\n", "images"),
        (good + "[fitt]\n", "fitt"),
        ("fit = 3\n" + good, r"fit = 3 is no table; write \[fit\]"),
        ("[ingest\n", "not TOML"),
        ("[ingest]\nbatch_size = 4\n", "images"),
        ("[ingest]\nimages = 4\n", "images = 4 is not text"),
        (good + "recipe = 'kohya'\n", "unknown key 'recipe'; here it is preprocess"),
        (good + "limits = 4\n", "unknown key 'limits'"),
        ("[ingest]\nimages = '.'\nlimits = {min_side = 4}\n", "unknown key 'limits'; known are"),
    ]:
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_recipe(tmp_path / "x.toml")


def test_a_recipe_says_of_an_ingest_and_of_a_question_all_that_the_command_can(tmp_path: Path) -> None:
    command = inspect.signature(ingest_cli.ingest).parameters
    fields = {field.name for field in dataclasses.fields(IngestTable)}
    of_many_machines = {"plan_out", "range_rows", "plan", "part", "parts", "context", "cluster", "workers"}
    assert set(command) - fields == {"store", "root", "recipe", "dry_run", "json", *of_many_machines}
    pictures = sorted((find_recipe("demo").parent / "demo" / "images").rglob("*.jpg"))[:4]
    for folder, picture in zip(("a", "a/drafts", "b", "c"), pictures, strict=True):
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(picture, tmp_path / folder / "x.jpg")
    (tmp_path / "a" / "x.txt").write_text("a face")
    with zipfile.ZipFile(tmp_path / "b" / "more.zip", "w") as archive:
        archive.write(pictures[3], "y.jpg")
    (tmp_path / "x.toml").write_text(
        '[ingest]\nimages = ["a", "b"]\ntagger = "demo"\nexclude = ["drafts/"]\narchives = true\n'
        'sidecars = true\ndevice = "cpu"\nprecision = "float32"\nmin_side = 8\n'
        '[query]\nexpression = "captions is null"\ncolumns = "path, format"\nlimit = 1\nseconds = 30\n'
    )
    recipe = read_recipe(tmp_path / "x.toml")
    heard = Watched()
    ran = list(run_steps(recipe, tmp_path / "out", progress=heard, stop=lambda: False))
    assert ran[0].result.startswith("3 images = 3 tagged + 0 copied")
    assert ran[1].result == "2 of 3 images match: captions is null"
    assert "  more.zip: jpeg" in heard.said
    store = Store.open(tmp_path / "out" / "feats")
    assert sorted(store.read_column("captions")["value"].to_pylist()) == ["a face"]


def test_what_a_recipe_cannot_say_of_a_command_is_a_place_output_or_named_here() -> None:
    told: dict[tuple[Callable[..., Any], Any], set[str]] = {
        (query_cli.query, QueryTable): {"store", "sql", "explain", "as_json", "as_csv", "parquet", "count"},
        (latents_cli.latents, LatentJob): {"store", "dry_run", "json", "cluster", "workers"},
        (generate_cli.generate, GenerateTable): {"paths", "out", "size", "as_json"},
        (evaluate_cli.evaluate, EvaluateJob): {"run", "shards", "out", "dry_run", "as_json"},
    }
    for (command, table), beside in told.items():
        fields = {field.name for field in dataclasses.fields(table)}
        assert set(inspect.signature(command).parameters) - fields == beside


def test_a_recipe_says_at_which_model_to_look(tmp_path: Path) -> None:
    asked = 'checkpoint = "best"\nno_ema = true\ntagger = "demo"\ndevice = "cpu"\n'
    (tmp_path / "x.toml").write_text(f'[ingest]\nimages = "."\n[generate]\n{asked}')
    table = read_recipe(tmp_path / "x.toml").generate
    assert table is not None
    assert (table.checkpoint, table.no_ema, table.tagger, table.device) == ("best", True, "demo", "cpu")


def test_a_recipe_measures_and_draws_as_the_commands_can(tmp_path: Path) -> None:
    run, adapter, pictures = tmp_path / "out/runs/x", tmp_path / "pfg.safetensors", tmp_path / "images"
    pictures.mkdir()
    for number, picture in enumerate(sorted((RECIPES / "demo" / "images").rglob("*.jpg"))[::40]):
        shutil.copy(picture, pictures / f"{number}.jpg")
    base = Base.load(str(build_tiny_base(tmp_path / "base")))
    tagger = OnnxTagger.load("demo").identity
    make_run(run, base, tagger=tagger, store=str(tmp_path / "out/feats"), num_tokens=3, feature_dim=768)
    (checkpoint,) = (run / "checkpoints").iterdir()
    shutil.copy(checkpoint / "adapter.safetensors", adapter)
    write_guides(tmp_path / "others", characters=2, seed=1)
    fast = 'device = "cpu"\nimages_per_guide = 1\nnum_inference_steps = 1\n'
    (tmp_path / "x.toml").write_text(
        f'[ingest]\nimages = "images"\ntagger = "demo"\n[evaluate]\nwhere = "path < \'4\'"\nlimit = 3\n'
        f'tune = "others"\nkeep = true\n{fast}[generate]\nguides = ["images/0.jpg"]\nbase = "base"\n'
        f'tagger = "demo"\nadapter = "pfg.safetensors"\n{fast}'
    )
    out = tmp_path / "out"
    steps = list(run_steps(read_recipe(tmp_path / "x.toml"), out, progress=NoProgress(), stop=lambda: False))
    report = json.loads((out / "evaluation" / "fit" / "report.json").read_text())
    assert [guide["name"] for guide in report["guides"]] == ["0.jpg", "1.jpg", "2.jpg"]
    best = report["tuning"]["trials"][report["tuning"]["best"]]["guidance_scale"]
    kept = Sampling.read(run)
    assert kept is not None and report["options"]["guidance_scale"] == kept.guidance_scale == best
    with Image.open(next((out / "pictures").glob("0-*.png"))) as drawn:
        assert json.loads(drawn.info["pfg"])["weights"] == "pfg.safetensors"
    assert [step.name for step in steps] == ["ingest", "evaluate", "generate"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[evaluate]\n", "name the guides: guides, a folder, or where"),
        ("[evaluate]\nguides = 'a'\nkeep = true\n", "name a folder of guides to tune on"),
        ("[evaluate]\nguides = 'a'\nthreshold = 2.0\n", "threshold is 2.0"),
        ("[generate]\nadapter = 'a.pt'\n", "an adapter needs a base"),
        ("[generate]\nbatch_size = 0\n", "batch_size is 0"),
    ],
)
def test_what_cannot_be_is_refused_before_any_step(table: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(f'[ingest]\nimages = "."\n{table}')
    with pytest.raises(ConfigError, match=said):
        read_recipe(tmp_path / "x.toml")


def test_steps_without_a_table_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "only.toml").write_text('[ingest]\nimages = "."\n')
    recipe = read_recipe(tmp_path / "only.toml")
    left_out = {field.name for field in dataclasses.fields(Recipe)} - {"name", "folder", "ingest"}
    assert all(getattr(recipe, name) is None for name in left_out)


def test_a_recipe_may_name_its_latent_set_and_needs_no_tagger_for_a_store_that_has_one(
    tmp_path: Path,
) -> None:
    for index in range(3):
        shutil.copy(sorted((find_recipe("demo").parent / "demo" / "images").rglob("*.jpg"))[index], tmp_path)
    tables = '[ingest]\nimages = "."\n{tagger}\n[latents]\nbase = "demo"\nresolution = {size}\n'
    fit = '[fit]\nmax_train_steps = 1\ntrain_batch_size = 2\nlatents = "{latents}"\n'

    def steps(text: str) -> dict[str, str]:
        (tmp_path / "x.toml").write_text(text)
        recipe = read_recipe(tmp_path / "x.toml")
        ran = run_steps(recipe, tmp_path / "out", progress=NoProgress(), stop=lambda: False)
        return {step.name: step.result for step in ran}

    steps(tables.format(tagger='tagger = "demo"', size=64))
    steps(tables.format(tagger="", size=128))
    (small,) = (
        one.id
        for one in Store.open(tmp_path / "out" / "feats").latent_sets()
        if one.identity.resolution == 64
    )
    only = '[ingest]\nimages = "."\n' + fit.format(latents=small)
    done = steps(only)
    assert done["ingest"].startswith("3 images = 0 tagged + 0 copied + 3 unchanged")
    assert done["fit"].startswith("step 1 of 1")
    assert RunRecord.read(tmp_path / "out" / "runs" / "x").latents_id == small


def test_a_recipe_makes_features_by_an_extractor_beside_it(tmp_path: Path) -> None:
    for index in range(3):
        shutil.copy(sorted((find_recipe("demo").parent / "demo" / "images").rglob("*.jpg"))[index], tmp_path)
    write_graph(tmp_path / "models" / "small" / "model.onnx", scale=1e-2)
    how = "size = 32\nlayout = 'NCHW'\nchannels = 'RGB'\nsquare = 'stretch 32 bilinear'\n"
    (tmp_path / "models" / "small" / "convention.toml").write_text(how)
    ingest, features = "[ingest]\nimages = '.'\ntagger = 'demo'\n", "[features]\nextractor = 'models/small'\n"
    (tmp_path / "x.toml").write_text(f"{ingest}{features}label = 'second'\ndevice = 'cpu'\n")
    recipe = read_recipe(tmp_path / "x.toml")
    ran = run_steps(recipe, tmp_path / "out", progress=NoProgress(), stop=lambda: False)
    done = {step.name: step.result for step in ran}
    assert done["features"] == "second: 3 images = 3 made + 0 present + 0 failed + 0 pending"
    (made,) = Store.open(tmp_path / "out" / "feats").feature_sets()
    assert made.label == "second" and made.feature_dim == 5


def test_a_recipe_tags_by_a_tagger_and_its_convention_beside_it(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 2)
    seer = Seer(size=32, output="logits")
    write_seer(tmp_path / "tagger", seer)
    write_labels(tmp_path / "tagger", seer, Labels(file="tag_mapping.json"))
    (tmp_path / "how.toml").write_text(
        'channels = "BGR"\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\nsize = 32\n'
        'square = "stretch 32 bicubic"\noutput = "logits"\nlabels = "tag_mapping.json"\n'
    )
    (tmp_path / "x.toml").write_text(
        '[ingest]\nimages = "images"\ntagger = "tagger"\nconvention = "how.toml"\nbatch_size = 2\n'
    )
    recipe = read_recipe(tmp_path / "x.toml")
    (done,) = run_steps(recipe, tmp_path / "out", progress=NoProgress(), stop=lambda: False)
    assert done.result.startswith("2 images = 2 tagged")
