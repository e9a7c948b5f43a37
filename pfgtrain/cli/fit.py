"""`pfgtrain fit`: a store and its latents to a run."""

from __future__ import annotations

import dataclasses
import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pfgdata.screen import INTERRUPTED, ScreenProgress, duration, show_facts, stop_on_interrupt
from pfgtrain.cli.options import DryRun, Json
from pfgtrain.config import CONFIG_FILE, FitConfig, load_config

if TYPE_CHECKING:
    from pfgdata.records import Progress
    from pfgtrain.fit import FitPlan, FitReport

__all__ = ["EXAMPLE", "fit"]

EXAMPLE = (
    "Examples: pfgtrain fit --shards feats/ --steps 2000 --out runs/a; "
    "pfgtrain fit --config pipelines/umamusume_46k.toml; pfgtrain fit --out runs/a --resume"
)
_ROWS, _LEARNS, _LENGTH = "Which images", "What learns, from what", "How long and how fast"
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(FitConfig)}
_KEYS = {  # of the TOML -> the flag above it, its panel, its help, its default in words where it is None
    "base": ("--base", _LEARNS, "A diffusers folder, hub id, or demo.", "the one the latents are of"),
    "latents": ("--latents", _ROWS, "A latent set, by the beginning of its id.", "the store's only one"),
    "where": ("--where", _ROWS, "An SQL condition, as in pfgdata query.", "all images"),
    "threshold": ("--threshold", _ROWS, "General tags count from this score on."),
    "character_threshold": ("--character-threshold", _ROWS, "Characters count from this score on."),
    "train": ("--train", _LEARNS, "unet (with the adapter) or adapter (alone)."),
    "num_tokens": ("--tokens", _LEARNS, "Tokens made of one feature."),
    "prompt": ("--prompt", _LEARNS, "The text that all images share."),
    "uncond": ("--uncond", _LEARNS, "The tokens of the unconditional side: zeros or eos."),
    "condition_dropout": ("--dropout", _LEARNS, "Share of rows trained on the unconditional side."),
    "learning_rate": ("--lr", _LEARNS, "Learning rate of the UNet."),
    "adapter_learning_rate": ("--adapter-lr", _LEARNS, "Learning rate of the adapter."),
    "max_train_steps": ("--steps", _LENGTH, "Optimizer steps.", "what --epochs need"),
    "num_train_epochs": ("--epochs", _LENGTH, "Times each image is seen."),
    "train_batch_size": ("--batch-size", _LENGTH, "Images a process and forward pass."),
    "seed": ("--seed", _LENGTH, "Of order, noise and dropout."),
}


def _key(name: str) -> Any:
    """The option above the key `name`: None where it is not given, its help showing the key's default."""
    flag, panel, text, *words = _KEYS[name]
    default = words[0] if words else str(_DEFAULTS[name])
    return typer.Option(flag, help=text, rich_help_panel=panel, show_default=default)


Shards = Annotated[
    Path | None,
    typer.Option(envvar="PFG_STORE", help="The store.", show_default="the run's with --resume, else feats"),
]
Config = Annotated[
    Path | None, typer.Option(help="A recipe, or a file of its \\[fit] keys.", show_default=False)
]
Out = Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/DATE-TIME")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]


def fit(
    context: typer.Context,
    shards: Shards = None,
    out: Out = None,
    config: Config = None,
    resume: Resume = False,
    latents: Annotated[str | None, _key("latents")] = None,
    where: Annotated[str | None, _key("where")] = None,
    threshold: Annotated[float | None, _key("threshold")] = None,
    character_threshold: Annotated[float | None, _key("character_threshold")] = None,
    base: Annotated[str | None, _key("base")] = None,
    train: Annotated[Literal["unet", "adapter"] | None, _key("train")] = None,
    num_tokens: Annotated[int | None, _key("num_tokens")] = None,
    prompt: Annotated[str | None, _key("prompt")] = None,
    uncond: Annotated[Literal["zeros", "eos"] | None, _key("uncond")] = None,
    condition_dropout: Annotated[float | None, _key("condition_dropout")] = None,
    learning_rate: Annotated[float | None, _key("learning_rate")] = None,
    adapter_learning_rate: Annotated[float | None, _key("adapter_learning_rate")] = None,
    max_train_steps: Annotated[int | None, _key("max_train_steps")] = None,
    num_train_epochs: Annotated[int | None, _key("num_train_epochs")] = None,
    train_batch_size: Annotated[int | None, _key("train_batch_size")] = None,
    seed: Annotated[int | None, _key("seed")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train a base to follow the features of a store's images, on latents made by pfgdata latents.

    A flag stands above the same key of --config, and that above the key's default. Ctrl-C saves a checkpoint;
    --resume goes on from the newest, with the config.toml of the run.
    """
    if max_train_steps is not None and num_train_epochs is not None:
        raise typer.BadParameter("--steps and --epochs exclude each other")
    run_dir = _run_dir(out, resume=resume)
    if resume and config is None and (run_dir / CONFIG_FILE).is_file():
        config = run_dir / CONFIG_FILE
    asked = load_config(config, {name: context.params[name] for name in _KEYS})

    from pfgdata.records import NoProgress
    from pfgdata.store import Store
    from pfgtrain.fit import base_of, data_of, plan_fit
    from pfgtrain.fit import fit as run_fit

    store = shards or _recorded_store(run_dir, resume=resume) or Path("feats")
    data = data_of(Store.open(store), asked)
    loaded = base_of(data, asked, run_dir=run_dir if resume else None)
    if dry_run:
        _show_plan(plan_fit(data, loaded, asked), loaded.name, data.latent_set.id, as_json=as_json)
        return
    first = int(os.environ.get("RANK", "0")) == 0  # set by accelerate launch and torchrun
    with ScreenProgress() as screen, stop_on_interrupt() as stop:
        progress: Progress = screen if first else NoProgress()
        report = run_fit(data, loaded, asked, run_dir=run_dir, resume=resume, progress=progress, stop=stop)
    if first:
        _show_fit(report, store, as_json=as_json)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _run_dir(out: Path | None, *, resume: bool) -> Path:
    if out is not None:
        return out
    if resume:
        raise typer.BadParameter("--resume needs --out, the folder of the run")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise typer.BadParameter("several processes need --out, for they must agree on the folder")
    return Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")


def _recorded_store(run_dir: Path, *, resume: bool) -> Path | None:
    """The store that the run to go on with was begun on."""
    from pfgtrain.checkpoint import RunRecord

    return Path(RunRecord.read(run_dir).store) if resume else None


def _show_plan(plan: FitPlan, base: str, latents: str, *, as_json: bool) -> None:
    show_facts(
        {
            "images": f"{plan.images:,} of {plan.selected:,} rows; {plan.without_latent:,} have no latent",
            "buckets": ", ".join(f"{name} {count:,}" for name, count in plan.buckets.items()),
            "base": f"{base}, latents {latents}",
            "steps": f"{plan.steps:,} of {plan.effective_batch} images, {plan.epochs:.3g} epochs",
            "dry run": "nothing was written",
        }
    )
    if as_json:
        print(json.dumps(plan.as_dict()))


def _show_fit(report: FitReport, shards: Path, *, as_json: bool) -> None:
    facts = {"run": f"{report.run}, step {report.last_step:,} of {report.plan.steps:,}"}
    if report.probe_end is not None:
        change = report.probe_end / report.probe_start - 1
        losses = f"{report.probe_start:.4f} at the start, {report.probe_end:.4f} now"
        facts["loss"] = f"{losses} ({change:+.1%}), on the same rows and noise"
    facts["took"] = f"{duration(report.seconds)}, {report.images_per_second:.3g} images/s"
    facts["next"] = f"pfgtrain generate {report.run} GUIDE.png"
    if report.interrupted:
        facts["next"] = f"pfgtrain fit --shards {shards} --out {report.run} --resume"
    show_facts(facts)
    print(json.dumps(report.as_dict()) if as_json else report.run)
