"""`pfgtrain export`: a run to files for web UIs, diffusers and kohya's tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pfgdata.flags import from_fields
from pfgdata.paths import user_folder, user_path
from pfgdata.screen import ScreenProgress, print_json, print_line, printable, show_facts
from pfgtrain.cli.options import MODEL, MODEL_METAVARS, DryRun, Json, option, run_folder
from pfgtrain.generate import ModelJob

if TYPE_CHECKING:
    from pfgtrain.export import ExportPlan

__all__ = ["EXAMPLE", "export"]

EXAMPLE = (
    "Examples: pfgtrain export runs/a --to out; "
    "pfgtrain export runs/a --to out --as checkpoint --as unet --dtype float32"
)
_FILES, _WEIGHTS = "The files", "The weights"


@from_fields(ModelJob, {MODEL: "base base_config prediction_type"}, more=MODEL_METAVARS)
def export(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", parser=user_path, help="The run's folder.", show_default=False),
    ],
    to: Annotated[
        Path, option(_FILES, "--to", parser=user_folder, help="Folder of the files.", show_default=False)
    ],
    formats: Annotated[
        list[str] | None,
        option(
            _FILES,
            "--as",
            metavar="FORMAT",
            help="adapter, checkpoint (A1111), unet (ComfyUI), diffusers, lora, run; repeat it for several.",
            show_default="what the run trained",
        ),
    ] = None,
    force: Annotated[bool, option(_FILES, "--force", help="Replace files of other content.")] = False,
    checkpoint: Annotated[
        str, option(_WEIGHTS, metavar="NAME", help="latest, best, or a checkpoint's name.")
    ] = "latest",
    no_ema: Annotated[
        bool, option(_WEIGHTS, "--no-ema", help="The last step's weights, not their moving average.")
    ] = False,
    dtype: Annotated[
        str, option(_WEIGHTS, metavar="float16|float32", help="Of whole models; adapters stay float32.")
    ] = "float16",
    *,
    dry_run: DryRun = False,
    as_json: Json = False,
    **base_words: Any,
) -> None:
    """Write a run as the files that other programs read.

    Prints a path a line. An adapter becomes the two-key .pt of pfg-webui and pfg-ComfyUI, alone in a folder
    (they list every file beside it), the .safetensors, and a .json that says what it needs; a UNet one
    checkpoint with VAE and text encoder; a LoRA the files of kohya and of diffusers. `--as run` writes the
    run itself, to give away: without what only training needs.
    Nothing that is there is replaced without --force.
    """
    from pfgtrain.export import ExportOptions, plan_export
    from pfgtrain.export import export as run_export
    from pfgtrain.generate import base_of_run

    options = ExportOptions(
        formats=tuple(formats or ()),
        checkpoint=checkpoint,
        use_ema=not no_ema,
        dtype=cast(Any, dtype),  # checked there
        force=force,
    )
    run = run_folder(run)
    if dry_run:
        plan = plan_export(run, options)
        for note in plan.notes:
            print(printable(note), file=sys.stderr)
        _show(plan, [to / name for name in plan.names], as_json=as_json, result=plan.as_dict())
        show_facts({"dry run": "nothing was written"})
        return
    with ScreenProgress() as progress:
        asked = ModelJob(**base_words)
        loaded = base_of_run(run, asked, progress=progress) if asked != ModelJob() else None
        report = run_export(run, to, options=options, base=loaded, progress=progress)
    _show(report.plan, report.files, as_json=as_json, result=report.as_dict())


def _show(plan: ExportPlan, files: Any, *, as_json: bool, result: dict[str, object]) -> None:
    show_facts(
        {
            "run": f"{plan.name}, step {plan.step:,}{', the moving average' if plan.is_average else ''}",
            "formats": ", ".join(plan.formats),
        }
    )
    if as_json:
        print_json(result)
        return
    for file in files:
        print_line(file)
