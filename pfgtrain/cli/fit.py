"""`pfgtrain fit`: a store and its latents to a run."""

from __future__ import annotations

import dataclasses
import os
import shlex
import tomllib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pfgdata.interrupts import INTERRUPTED, stop_on_interrupt
from pfgdata.paths import user_folder, user_path
from pfgdata.screen import ScreenProgress, duration, print_json, print_line, show_facts
from pfgtrain.cli.options import DryRun, Json, ShardsAlias, one_store
from pfgtrain.config import CONFIG_FILE, FitConfig, load_config

if TYPE_CHECKING:
    from pfgdata.records import Progress
    from pfgtrain.fit import FitPlan, FitReport

__all__ = ["EXAMPLE", "fit"]

EXAMPLE = (
    "Examples: pfgtrain fit --store feats/ --steps 2000 --out runs/a; "
    "pfgtrain fit --config pipelines/umamusume_46k.toml; pfgtrain fit --out runs/a --resume"
)
_ROWS, _LEARNS, _TOLD = "Which images", "What learns, from what", "What it is told"
_LENGTH, _OUTPUT = "How long and how fast", "Output"
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(FitConfig)}
_KEYS = {  # of the TOML -> the flag above it, its panel, its help, its default in words where it is None
    "base": (
        "--base",
        _LEARNS,
        "A diffusers folder, single file, hub id, run, or demo.",
        "that of the latents",
    ),
    "base_config": ("--base-config", _LEARNS, "A folder with the configs a single file lacks.", "the hub's"),
    "prediction_type": ("--prediction-type", _LEARNS, "epsilon or v_prediction.", "the base's"),
    "init": ("--init", _LEARNS, "Weights to start from: a run, a .pt or .safetensors.", "fresh"),
    "latents": ("--latents", _ROWS, "A latent set, by the beginning of its id.", "the store's only one"),
    "where": ("--where", _ROWS, "An SQL condition, as in pfgdata query.", "all images"),
    "threshold": ("--threshold", _ROWS, "General tags count from this score on."),
    "character_threshold": ("--character-threshold", _ROWS, "Characters count from this score on."),
    "validation_split": ("--validation-split", _ROWS, "Share of the characters that is held out."),
    "train": ("--train", _LEARNS, "What learns beside the adapter: unet, lora, or (adapter) nothing."),
    "unet_blocks": ("--blocks", _LEARNS, "Of the UNet: all, cross_attention or up_blocks."),
    "r": ("--r", _LEARNS, "Rank of the LoRA."),
    "lora_alpha": ("--lora-alpha", _LEARNS, "Scale of the LoRA, over its rank."),
    "num_tokens": ("--tokens", _LEARNS, "Tokens made of one feature; 0: no adapter.", "--init's, or 5"),
    "adapter_kind": ("--adapter-kind", _LEARNS, "linear or mlp."),
    "standardize_features": (
        "--standardize/--no-standardize",
        _LEARNS,
        "Features less mean, over deviation.",
    ),
    "use_ema": ("--ema/--no-ema", _LEARNS, "Keep a moving average, and use it."),
    "prompt": ("--prompt", _TOLD, "The text that all images share."),
    "caption": ("--caption", _TOLD, "Each image's own text: tags, or a column of the store.", "the prompt"),
    "shuffle_caption": (
        "--shuffle-caption/--no-shuffle-caption",
        _TOLD,
        "Another order of its parts each time.",
    ),
    "keep_tokens": ("--keep-tokens", _TOLD, "Parts that --shuffle-caption leaves in front."),
    "clip_skip": ("--clip-skip", _TOLD, "As kohya and A1111 count: 1 is the last layer.", "the base's"),
    "uncond": ("--uncond", _TOLD, "The tokens of the unconditional side: zeros or eos."),
    "condition_dropout": ("--dropout", _TOLD, "Share of rows without text and tokens."),
    "pfg_dropout": ("--pfg-dropout", _TOLD, "Share of rows without tokens, with text."),
    "caption_dropout_rate": ("--caption-dropout", _TOLD, "Share of rows without text, with tokens."),
    "learning_rate": ("--lr", _LENGTH, "Learning rate of the UNet."),
    "adapter_learning_rate": ("--adapter-lr", _LENGTH, "Learning rate of the adapter."),
    "lora_learning_rate": ("--lora-lr", _LENGTH, "Learning rate of the LoRA."),
    "max_train_steps": ("--steps", _LENGTH, "Optimizer steps.", "what --epochs need"),
    "num_train_epochs": ("--epochs", _LENGTH, "Times each image is seen."),
    "train_batch_size": ("--batch-size", _LENGTH, "Images a process and forward pass."),
    "gradient_accumulation_steps": ("--accumulation", _LENGTH, "Forward passes a step."),
    "mixed_precision": ("--precision", _LENGTH, "auto, no, bf16 or fp16."),
    "seed": ("--seed", _LENGTH, "Of order, noise and dropout."),
}


def _key(name: str) -> Any:
    """The option above the key `name`: None where it is not given, its help showing the key's default."""
    flag, panel, text, *words = _KEYS[name]
    default = words[0] if words else str(_DEFAULTS[name])
    return typer.Option(flag, help=text, rich_help_panel=panel, show_default=default)


_Train = Literal["unet", "adapter", "lora"]
_Blocks = Literal["all", "cross_attention", "up_blocks"]
_Kind = Literal["linear", "mlp"]
_Uncond = Literal["zeros", "eos"]
_Prediction = Literal["epsilon", "v_prediction"]
_Precision = Literal["auto", "no", "fp16", "bf16"]

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        envvar="PFG_STORE",
        parser=user_folder,
        help="The store.",
        show_default="the run's with --resume, else feats",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(parser=user_path, help="A recipe, or a file of its \\[fit] keys.", show_default=False),
]
Out = Annotated[
    Path | None, typer.Option(parser=user_folder, help="The run's folder.", show_default="runs/DATE-TIME")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]


def fit(
    context: typer.Context,
    store: StoreOption = None,
    shards: ShardsAlias = None,
    out: Out = None,
    config: Config = None,
    resume: Resume = False,
    where: Annotated[str | None, _key("where")] = None,
    latents: Annotated[str | None, _key("latents")] = None,
    threshold: Annotated[float | None, _key("threshold")] = None,
    character_threshold: Annotated[float | None, _key("character_threshold")] = None,
    validation_split: Annotated[float | None, _key("validation_split")] = None,
    base: Annotated[str | None, _key("base")] = None,
    base_config: Annotated[str | None, _key("base_config")] = None,
    prediction_type: Annotated[_Prediction | None, _key("prediction_type")] = None,
    init: Annotated[str | None, _key("init")] = None,
    train: Annotated[_Train | None, _key("train")] = None,
    unet_blocks: Annotated[_Blocks | None, _key("unet_blocks")] = None,
    r: Annotated[int | None, _key("r")] = None,
    lora_alpha: Annotated[float | None, _key("lora_alpha")] = None,
    num_tokens: Annotated[int | None, _key("num_tokens")] = None,
    adapter_kind: Annotated[_Kind | None, _key("adapter_kind")] = None,
    standardize_features: Annotated[bool | None, _key("standardize_features")] = None,
    use_ema: Annotated[bool | None, _key("use_ema")] = None,
    prompt: Annotated[str | None, _key("prompt")] = None,
    caption: Annotated[str | None, _key("caption")] = None,
    shuffle_caption: Annotated[bool | None, _key("shuffle_caption")] = None,
    keep_tokens: Annotated[int | None, _key("keep_tokens")] = None,
    clip_skip: Annotated[int | None, _key("clip_skip")] = None,
    uncond: Annotated[_Uncond | None, _key("uncond")] = None,
    condition_dropout: Annotated[float | None, _key("condition_dropout")] = None,
    pfg_dropout: Annotated[float | None, _key("pfg_dropout")] = None,
    caption_dropout_rate: Annotated[float | None, _key("caption_dropout_rate")] = None,
    max_train_steps: Annotated[int | None, _key("max_train_steps")] = None,
    num_train_epochs: Annotated[int | None, _key("num_train_epochs")] = None,
    train_batch_size: Annotated[int | None, _key("train_batch_size")] = None,
    gradient_accumulation_steps: Annotated[int | None, _key("gradient_accumulation_steps")] = None,
    learning_rate: Annotated[float | None, _key("learning_rate")] = None,
    adapter_learning_rate: Annotated[float | None, _key("adapter_learning_rate")] = None,
    lora_learning_rate: Annotated[float | None, _key("lora_learning_rate")] = None,
    mixed_precision: Annotated[_Precision | None, _key("mixed_precision")] = None,
    seed: Annotated[int | None, _key("seed")] = None,
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other key of docs/config.md, its value as in TOML; again for more.",
            rich_help_panel=_LENGTH,
            show_default=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train a base to follow the features of a store's images, on latents made by pfgdata latents.

    A flag stands above --set, that above the same key of --config, and that above the key's default. Ctrl-C
    saves a checkpoint; --resume goes on from the newest, with the config.toml of the run.
    """
    if max_train_steps is not None and num_train_epochs is not None:
        raise typer.BadParameter("--steps and --epochs exclude each other")
    named, run_dir = one_store(context, store, shards), _run_dir(out, resume=resume)
    if resume and config is None and (run_dir / CONFIG_FILE).is_file():
        config = run_dir / CONFIG_FILE
    asked = load_config(config, {**_set(more or []), **_flags(context)})

    from pfgdata.records import NoProgress
    from pfgdata.store import Store
    from pfgtrain.fit import base_of, data_of, plan_fit
    from pfgtrain.fit import fit as run_fit

    place = named or _recorded_store(run_dir, resume=resume) or Path("feats")
    data = data_of(Store.open(place), asked)
    begun = run_dir if resume else None
    if dry_run:
        loaded = base_of(data, asked, run_dir=begun)
        _show_plan(plan_fit(data, loaded, asked), loaded.name, data.latent_set.id, as_json=as_json)
        return
    first = int(os.environ.get("RANK", "0")) == 0  # set by accelerate launch and torchrun
    with ScreenProgress() as screen, stop_on_interrupt() as stop:
        progress: Progress = screen if first else NoProgress()
        loaded = base_of(data, asked, run_dir=begun, progress=progress)
        report = run_fit(data, loaded, asked, run_dir=run_dir, resume=resume, progress=progress, stop=stop)
    if first:
        _show_fit(report, place, as_json=as_json)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _flags(context: typer.Context) -> dict[str, Any]:
    """The keys whose flags were given."""
    return {name: context.params[name] for name in _KEYS if context.params[name] is not None}


def _set(pairs: list[str]) -> dict[str, Any]:
    """The keys of `--set`; a value that is no TOML is taken as text."""
    table: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"--set {pair}: write it KEY=VALUE, for example --set max_grad_norm=0.5")
        try:
            table[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key.strip()] = value
    return table


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
            "images": f"{plan.images:,} of {plan.selected:,} rows; {plan.held_out:,} more held out,"
            f" {plan.without_latent:,} without a latent",
            "buckets": ", ".join(f"{name} {count:,}" for name, count in plan.buckets.items()),
            "base": f"{base}, latents {latents}",
            "steps": f"{plan.steps:,} of {plan.effective_batch} images, {plan.epochs:.3g} epochs",
            "dry run": "nothing was written",
        }
    )
    if as_json:
        print_json(plan.as_dict())


def _show_fit(report: FitReport, store: Path, *, as_json: bool) -> None:
    facts = {"run": f"{report.run}, step {report.last_step:,} of {report.plan.steps:,}"}
    if report.probe_end is not None:
        change = report.probe_end / report.probe_start - 1
        losses = f"{report.probe_start:.4f} at the start, {report.probe_end:.4f} now"
        facts["loss"] = f"{losses} ({change:+.1%}), on the same rows and noise"
    if report.validation_loss is not None:
        facts["held out"] = (
            f"{report.validation_loss:.4f} on {report.plan.held_out:,} images never trained on"
        )
    if report.skipped_steps:
        facts["skipped"] = (
            f"{report.skipped_steps:,} steps without a finite gradient; metrics.jsonl names them"
        )
    facts["took"] = f"{duration(report.seconds)}, {report.images_per_second:.3g} images/s"
    run = shlex.quote(report.run)
    facts["next"] = f"pfgtrain generate {run} GUIDE.png"
    if report.interrupted:
        facts["next"] = f"pfgtrain fit --store {shlex.quote(str(store))} --out {run} --resume"
    show_facts(facts)
    if as_json:
        print_json(report.as_dict())
    else:
        print_line(report.run)
