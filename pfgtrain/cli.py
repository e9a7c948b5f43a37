"""The command `pfgtrain`: a command parses, turns names into objects, makes one library call, and prints.

Torch and diffusers are imported inside the commands, so `pfgtrain --help` answers in about 0.2 s. Of several
processes (accelerate launch) only the first prints.
"""

from __future__ import annotations

import dataclasses
import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from pfgdata.screen import INTERRUPTED, ScreenProgress, duration, run_app, show_facts, stop_on_interrupt
from pfgtrain.config import CONFIG_FILE, FitConfig, load_config

if TYPE_CHECKING:
    from pfgdata.records import Progress
    from pfgtrain.fit import FitPlan, FitReport
    from pfgtrain.generate import GenerateReport, PFGModel

__all__ = ["app", "main"]

_ROWS, _LEARNS, _LENGTH = "Which images", "What learns, from what", "How long and how fast"
_PICTURE, _MODEL, _OUTPUT = "The pictures", "The model", "Output"
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


def _in(panel: str, *flags: str, help: str, **more: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*flags, help=help, rich_help_panel=panel, **more)


Shards = Annotated[
    Path | None,
    typer.Option(envvar="PFG_STORE", help="The store.", show_default="the run's with --resume, else feats"),
]
Config = Annotated[
    Path | None, typer.Option(help="A recipe, or a file of its \\[fit] keys.", show_default=False)
]
Out = Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/DATE-TIME")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
DryRun = Annotated[bool, _in(_OUTPUT, "--dry-run", help="Say what would be done, and do nothing.")]
Json = Annotated[bool, _in(_OUTPUT, "--json", help="Print the result as JSON on stdout.")]

app = typer.Typer(
    name="pfgtrain",
    help="From a feature store to a Prompt Free Generation model, and from guide images to pictures.",
    epilog=(
        "Example: pfgtrain fit --shards feats/ --out runs/a, then pfgtrain generate runs/a guide.png. "
        "PFG_STORE sets the default store; PFG_DEBUG=1 shows tracebacks. "
        "Exit codes: 0 done, 1 you can fix it, 2 wrong usage, 130 interrupted."
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Run `pfgtrain` with the process's arguments, and exit."""
    run_app(app, name="pfgtrain")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"pfgtrain {version('pfg')}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


@app.command(
    epilog=(
        "Examples: pfgtrain fit --shards feats/ --steps 2000 --out runs/a; "
        "pfgtrain fit --config pipelines/umamusume_46k.toml; pfgtrain fit --out runs/a --resume"
    )
)
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


@app.command(
    epilog=(
        "Examples: pfgtrain generate runs/a guide.png more.png -n 4; "
        "pfgtrain generate --adapter pfg-n5.pt --base BASE guide.png"
    )
)
def generate(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="A run, then guide images; with --adapter only those."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder.", show_default="pictures/ in RUN, or here")
    ] = None,
    images_per_guide: Annotated[int, _in(_PICTURE, "-n", help="Pictures a guide.")] = 4,
    guidance_scale: Annotated[float, _in(_PICTURE, "--guidance", help="1 or less: none.")] = 7.5,
    pfg_scale: Annotated[float, _in(_PICTURE, "--pfg-scale", help="Multiplies the guide's tokens.")] = 1.0,
    no_pfg: Annotated[bool, _in(_PICTURE, "--no-pfg", help="Leave the tokens out, on both sides.")] = False,
    prompt: Annotated[str | None, _in(_PICTURE, help="Text.", show_default="the run's")] = None,
    negative_prompt: Annotated[str, _in(_PICTURE, "--negative", help="What to lead away from.")] = "",
    uncond: Annotated[
        str | None, _in(_PICTURE, help="The pad: zeros or eos.", show_default="the run's")
    ] = None,
    num_inference_steps: Annotated[int, _in(_PICTURE, "--steps", help="Of the sampler.")] = 25,
    seed: Annotated[int, _in(_PICTURE, help="Of the first picture of each guide.")] = 0,
    size: Annotated[
        str | None, _in(_PICTURE, metavar="WxH|N", help="Pixels.", show_default="the run's")
    ] = None,
    batch_size: Annotated[int, _in(_PICTURE, help="Pictures at once.")] = 4,
    adapter: Annotated[
        Path | None, _in(_MODEL, help="Published weights, .pt or .safetensors.", show_default="the run's")
    ] = None,
    base: Annotated[str | None, _in(_MODEL, help="The base.", show_default="the run's")] = None,
    tagger: Annotated[str | None, _in(_MODEL, help="The tagger.", show_default="the run's")] = None,
    device: Annotated[str | None, _in(_MODEL, help="cpu, cuda, cuda:N.", show_default="a GPU if any")] = None,
    as_json: Json = False,
) -> None:
    """Make pictures of what guide images show, and a contact sheet with the guides on the left.

    Prints the paths of the pictures, then the sheet's. The tagger of an --adapter is not on record: it is
    taken to be wd-v1-4-vit-tagger-v2 with the squares of pfg-webui, unless --tagger names another.
    """
    run, guides = (None, paths) if adapter else (paths[0], paths[1:])
    if not guides:
        raise typer.BadParameter("name a run and guide images, or --adapter, --base and guide images")
    if adapter and not base:
        raise typer.BadParameter("--adapter needs --base, the model it was trained on")

    from pfgtrain.generate import GenerateOptions
    from pfgtrain.generate import generate as run_generate

    width, height = _size(size)
    names = {field.name for field in dataclasses.fields(GenerateOptions)}
    given = {name: value for name, value in context.params.items() if name in names}
    options = GenerateOptions(**given, width=width, height=height)
    with ScreenProgress() as progress:
        model = _model(run, adapter, base=base, tagger=tagger, device=device, progress=progress)
        folder = out or (run or Path()) / "pictures"
        report = run_generate(model, guides, folder, options=options, progress=progress)
    _show_pictures(report, as_json=as_json)


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


def _model(
    run: Path | None,
    adapter: Path | None,
    *,
    base: str | None,
    tagger: str | None,
    device: str | None,
    progress: Progress,
) -> PFGModel:
    """The model of a run, or of published weights on a base; `base` and `tagger` stand in for a run's own."""
    from pfgdata.taggers import OnnxTagger
    from pfgtrain.base import Base, onnx_device
    from pfgtrain.checkpoint import RunRecord
    from pfgtrain.generate import PUBLISHED_RECIPE, load_adapter_on_base, load_run

    recipe = RunRecord.read(run).tagger.recipe if run else PUBLISHED_RECIPE
    model = OnnxTagger.load(tagger, recipe=recipe, device=onnx_device(device)) if tagger else None
    loaded = Base.load(base) if base else None
    if run:
        return load_run(run, base=loaded, tagger=model, device=device)
    assert adapter is not None and loaded is not None
    return load_adapter_on_base(adapter, loaded, tagger=model, device=device, progress=progress)


def _size(text: str | None) -> tuple[int | None, int | None]:
    """Width and height of `WxH` or `N`."""
    if text is None:
        return None, None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise typer.BadParameter(f"--size {text}: write it 512x768, or 512 for both")
    return int(sides[0]), int(sides[-1])


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


def _show_pictures(report: GenerateReport, *, as_json: bool) -> None:
    show_facts(
        {
            "made": f"{len(report.pictures)} pictures in {duration(report.seconds)}",
            "sheet": report.contact_sheet,
        }
    )
    if as_json:
        print(json.dumps(dataclasses.asdict(report), default=str))
    else:
        print(*(picture.path for picture in report.pictures), report.contact_sheet, sep="\n")
