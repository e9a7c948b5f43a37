"""From the command line's options to a stage that trains or an asset that is written."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from pfgdata.errors import ConfigError
from pfgdata.screen import ScreenProgress
from pfgdata.store import Store
from pipelines.demo_models import base, data, prepare, release, tagger, text, vae
from pipelines.demo_models import export as assets
from pipelines.demo_models.files import fresh
from pipelines.demo_models.loop import LoopRecipe, Task, Trainer
from pipelines.demo_models.recipe import RECIPE_FILE, Recipe, load_recipe, with_steps
from pipelines.demo_models.split import load_split
from pipelines.recipe import read_recipe

RUN_RECIPE = Path(__file__).with_name("demo_run.toml")


def device_of(name: str) -> torch.device:
    """'auto' is the GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def trainer(options: argparse.Namespace, name: str) -> Trainer:
    """The stage `name` as far as its checkpoint got."""
    recipe = load_recipe(options.recipe or RECIPE_FILE)
    task, loop = _task(options, name, recipe)
    return Trainer(task, recipe=loop, folder=options.out / name)


def _task(options: argparse.Namespace, name: str, recipe: Recipe) -> tuple[Task, LoopRecipe]:
    split, device, root, out = load_split(), device_of(options.device), options.corpus, options.out
    if name == "text":
        words = with_steps(recipe.text, options.steps)
        return text_task(options, recipe=words), words.loop
    if name == "vae":
        pixels = with_steps(recipe.vae, options.steps)
        return vae.load_task(root, out, recipe=pixels, split=split, device=device), pixels.loop
    classes = with_steps(recipe.tagger if name == "tagger" else recipe.judge, options.steps)
    return tagger.load_task(root, out, recipe=classes, split=split, device=device), classes.loop


def text_task(options: argparse.Namespace, *, recipe: text.TextRecipe) -> text.TextTask:
    """The text stage on the trained tagger's features, which are kept: a later tagger changes nothing."""
    if options.bpe is None or not options.bpe.is_file():
        raise ConfigError("the text stage needs --bpe bpe_simple_vocab_16e6.txt.gz, from open_clip_torch")
    folder: Path = options.out / "text"
    rows = data.portrait_rows(options.corpus, load_split())
    kept = folder / "features.npy"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(kept, portrait_features(options, count=len(rows)))
    return text.TextTask(
        rows,
        np.load(kept),
        recipe=recipe,
        tokenizer=folder / "tokenizer",
        bpe=options.bpe,
        device=device_of(options.device),
    )


def portrait_features(options: argparse.Namespace, *, count: int) -> np.ndarray:
    """Features [count, F] that the trained tagger gives the portraits, the first rows of its own corpus."""
    made = trained(options, "tagger")
    assert isinstance(made.task, tagger.ClassifierTask)
    with torch.inference_mode():
        _, features = made.task.look(assets.averaged(made), np.arange(count))
    return features


def trained(options: argparse.Namespace, name: str) -> Trainer:
    """The stage `name`, which must have a checkpoint."""
    made = trainer(options, name)
    if made.step == 0:
        raise ConfigError(f"{made.folder}: no checkpoint; run the stage {name} first")
    return made


def train(options: argparse.Namespace) -> None:
    """Train the stage to its last step."""
    torch.set_num_threads(options.threads)
    trainer(options, options.stage).run()


def start(options: argparse.Namespace) -> None:
    """Write what the UNet's stages begin with: the base OUT/start, captions in OUT/feats, an adapter.

    The store is that of demo_stage1.toml, whose [ingest] must have run.
    """
    recipe, fit = load_recipe(options.recipe or RECIPE_FILE), read_recipe(RUN_RECIPE).fit
    assert fit is not None and fit.where is not None and fit.num_tokens is not None
    folder = base.write_start(options.out, recipe=recipe.base, text_width=recipe.text.width)
    store = Store.open(options.out / "feats")
    rows = data.portrait_rows(options.corpus, load_split())
    captions = prepare.write_captions(store, rows, options.corpus / "portraits")
    held = prepare.write_whitening(
        store,
        options.out / prepare.ADAPTER_START,
        where=fit.where,
        num_tokens=fit.num_tokens,
        context_width=recipe.text.width,
        seed=recipe.base.seed,
    )
    print(json.dumps({"base": str(folder), "captions": captions, "variance_held": round(held, 4)}))


def export(options: argparse.Namespace) -> None:
    """Write the asset of the stage `options.name` into OUT/export and say what was measured on it."""
    torch.set_num_threads(options.threads)
    folder = options.out / "export"
    if options.name == "base":
        recipe = load_recipe(options.recipe or RECIPE_FILE)
        print(release.release_base(options.out, recipe=recipe.base, text_width=recipe.text.width))
        return
    if options.name == "run":
        index = options.corpus / "guides.jsonl"
        rows = data.read_rows(options.corpus / "guides", index, corpus="guides", split=load_split())
        with ScreenProgress() as progress:
            print(release.release_run(options.out, rows, progress=progress))
        return
    made = trained(options, options.name)
    if options.name == "vae":
        numbers = assets.export_vae(made, fresh(folder / "demo_base" / "vae"))
    elif options.name == "text":
        numbers = assets.export_text(made, folder / "demo_base", tokenizer=made.folder / "tokenizer")
    else:
        rows = data.training_rows(options.corpus, load_split())
        numbers = assets.export_classifier(made, rows, fresh(folder / f"demo_{options.name}"))
    print(json.dumps({key: round(value, 4) for key, value in numbers.items()}))
