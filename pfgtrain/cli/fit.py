"""`pfgtrain fit`: a store and its latents to a run."""

from __future__ import annotations

import os
import shlex
import tomllib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.flags import from_fields
from pfgdata.interrupts import INTERRUPTED, stop_on_interrupt
from pfgdata.paths import user_folder, user_path, user_store
from pfgdata.screen import ScreenProgress, duration, print_json, print_line, show_facts
from pfgtrain.cli.options import OUTPUT, DryRun, Json, ShardsAlias, one_store, option
from pfgtrain.config import CONFIG_FILE, FitConfig, load_config

if TYPE_CHECKING:
    from pfgdata.records import Progress
    from pfgtrain.base import Base
    from pfgtrain.fit import FitPlan, FitReport, Forecast, Timing

__all__ = ["EXAMPLE", "fit"]

EXAMPLE = (
    "Examples: pfgtrain fit --store feats/ --steps 2000 --out runs/a; "
    "pfgtrain fit --config pipelines/umamusume_46k.toml; pfgtrain fit --out runs/a --resume"
)
_ROWS, _LEARNS, _TOLD = "Which images", "What learns, from what", "What it is told"
_LENGTH = "How long and how fast"
_PANELS = {
    _ROWS: "where latents threshold character_threshold validation_split",
    _LEARNS: "base base_config prediction_type init train unet_blocks r lora_alpha features allow_missing"
    " num_tokens adapter_kind standardize_features use_ema",
    _TOLD: "prompt caption shuffle_caption keep_tokens clip_skip uncond empty_prompt condition_dropout"
    " pfg_dropout feature_dropout caption_dropout_rate",
    _LENGTH: "max_train_steps num_train_epochs train_batch_size gradient_accumulation_steps learning_rate"
    " adapter_learning_rate lora_learning_rate mixed_precision seed",
}
_FLAGS = {  # of the keys with a shorter flag than their name
    "adapter_learning_rate": "--adapter-lr",
    "caption_dropout_rate": "--caption-dropout",
    "condition_dropout": "--dropout",
    "gradient_accumulation_steps": "--accumulation",
    "learning_rate": "--lr",
    "lora_learning_rate": "--lora-lr",
    "max_train_steps": "--steps",
    "mixed_precision": "--precision",
    "num_tokens": "--tokens",
    "num_train_epochs": "--epochs",
    "standardize_features": "--standardize",
    "train_batch_size": "--batch-size",
    "unet_blocks": "--blocks",
    "use_ema": "--ema",
}

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        envvar="PFG_STORE",
        parser=user_store,
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

TimedSteps = Annotated[
    int | None,
    option(
        OUTPUT,
        "--timed-steps",
        min=1,
        metavar="N",
        help="With --dry-run: do so many steps, keep nothing of them, and foretell the time.",
        show_default="none",
    ),
]


@from_fields(FitConfig, _PANELS, flags=_FLAGS, layered=True)
def fit(
    context: typer.Context,
    store: StoreOption = None,
    shards: ShardsAlias = None,
    out: Out = None,
    config: Config = None,
    resume: Resume = False,
    *,
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
    timed_steps: TimedSteps = None,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Train a base to follow the features of a store's images, on latents made by pfgdata latents.

    A flag stands above --set, that above the same key of --config, and that above the key's default. Ctrl-C
    saves a checkpoint; --resume goes on from the newest, with the config.toml of the run.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    if {"max_train_steps", "num_train_epochs"} <= set(given):
        raise typer.BadParameter("--steps and --epochs exclude each other")
    if timed_steps and not dry_run:
        raise typer.BadParameter("--timed-steps is of use with --dry-run; a fit says itself how fast it is")
    named, run_dir = one_store(context, store, shards), _run_dir(out, resume=resume)
    if resume and config is None and (run_dir / CONFIG_FILE).is_file():
        config = run_dir / CONFIG_FILE
    set_keys = _set(more or [])
    if "num_train_epochs" in given:
        set_keys.pop("max_train_steps", None)  # or the steps of --set would stand above the flag
    asked = load_config(config, {**set_keys, **given})

    from pfgdata.records import NoProgress, during_one
    from pfgdata.store import Store
    from pfgtrain.fit import base_of, data_of, forecast_fit, go_on, plan_fit, time_fit
    from pfgtrain.fit import fit as begin

    path = named or _recorded_store(run_dir, resume=resume) or Path("feats")
    data = data_of(Store.open(path), asked)
    begun = run_dir if resume else None
    first = int(os.environ.get("RANK", "0")) == 0  # set by accelerate launch and torchrun
    if dry_run:
        with ScreenProgress() as screen:
            progress: Progress = screen if first else NoProgress()
            loaded = base_of(data, asked, run_dir=begun, progress=progress)
            plan = plan_fit(data, loaded, asked, processes=_processes())
            with during_one(progress, "forecast", unit="fits"):
                forecast = forecast_fit(data, loaded, asked, plan)
            timing = None
            if timed_steps:
                timing = time_fit(data, loaded, asked, plan, steps=timed_steps, progress=progress)
        if first:
            what = f"{_told(loaded)}, latents {data.latent_set.id}"
            _show_plan(plan, forecast, timing, base=what, as_json=as_json)
        return
    with ScreenProgress() as screen, stop_on_interrupt() as stop:
        progress = screen if first else NoProgress()
        loaded = base_of(data, asked, run_dir=begun, progress=progress)
        train = go_on if resume else begin
        report = train(data, loaded, asked, run_dir=run_dir, progress=progress, stop=stop)
    if first:
        _show_fit(report, path, as_json=as_json)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def _set(pairs: list[str]) -> dict[str, Any]:
    """The keys of `--set`; a value that is no TOML is taken as text."""
    table: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"--set {pair}: write it KEY=VALUE, for example --set max_grad_norm=0.5")
        try:
            table[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):  # TOMLDecodeError; thousands of digits, or of brackets
            table[key.strip()] = value
    return table


def _run_dir(out: Path | None, *, resume: bool) -> Path:
    if out is not None:
        return out
    if resume:
        raise typer.BadParameter("--resume needs --out, the folder of the run")
    if _processes() > 1:
        raise typer.BadParameter("several processes need --out, for they must agree on the folder")
    return Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")


def _processes() -> int:
    """How many there are, as accelerate launch and torchrun say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _recorded_store(run_dir: Path, *, resume: bool) -> Path | None:
    """The store that the run to go on with was begun on."""
    from pfgtrain.checkpoint import RunRecord

    return Path(RunRecord.read(run_dir).store) if resume else None


def _told(base: Base) -> str:
    """A base by its name, and what its configs say that a fit follows."""
    ends = ", zero terminal SNR" if base.scheduler_config.get("rescale_betas_zero_snr") else ""
    return f"{base.name} ({base.family.facts.title}, {base.prediction_type}{ends})"


def _show_plan(plan: FitPlan, forecast: Forecast, timing: Timing | None, *, base: str, as_json: bool) -> None:
    each = forecast.operations
    reducing = f", gradients' buffers {_gb(forecast.reducing)}" if plan.processes > 1 else ""
    work = each * plan.effective_batch * plan.steps / plan.processes
    show_facts(
        {
            "images": f"{plan.images:,} of {plan.selected:,} rows; {plan.held_out:,} more held out,"
            f" {plan.without_latent:,} without a latent",
            "buckets": ", ".join(f"{name} {count:,}" for name, count in plan.buckets.items()),
            "base": base,
            "steps": f"{plan.steps:,} of {plan.effective_batch} images, {plan.epochs:.3g} epochs",
            "memory": f"{_gb(forecast.memory)}: weights {_gb(forecast.weights)}, text encoders"
            f" {_gb(forecast.texts)}, optimizer {_gb(forecast.optimizer)}, average {_gb(forecast.average)},"
            f" a pass {_gb(forecast.passing)}{reducing}",
            "disk": f"{_gb(forecast.disk)}, a checkpoint {_gb(forecast.checkpoint)}",
            "work": f"{each / 1e12:.3g} TFLOP an image; {duration(work / 30e12)} at 30 TFLOP/s,"
            f" {duration(work / 150e12)} at 150",
            "time": _show_time(timing),
            "dry run": "nothing was written",
        }
    )
    if as_json:
        times = timing.as_dict() if timing else None
        print_json({**plan.as_dict(), "forecast": forecast.as_dict(), "timing": times})


def _show_time(timing: Timing | None) -> str:
    if timing is None:
        return "--timed-steps 10 measures it on this machine"
    return (
        f"{duration(timing.seconds)} on this machine, by {timing.steps} steps of {timing.step:.3g} s: all"
        f" steps {duration(timing.training)}, loading {duration(timing.loading)}, looks and pictures"
        f" {duration(timing.looking)}; less the writing of checkpoints"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"


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
