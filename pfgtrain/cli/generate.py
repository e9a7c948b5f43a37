"""`pfgtrain generate`: guide images to pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.flags import from_fields
from pfgdata.paths import user_folder, user_path
from pfgdata.screen import ScreenProgress, duration, print_json, print_line, show_facts
from pfgtrain.cli.options import (
    MODEL,
    MODEL_FIELDS,
    MODEL_METAVARS,
    PICTURE,
    Json,
    folder_for,
    option,
    run_folder,
)
from pfgtrain.generate import PICTURE_FLAGS, GenerateJob

if TYPE_CHECKING:
    from pfgtrain.generate import GenerateReport

__all__ = ["EXAMPLE", "generate"]

EXAMPLE = (
    "Examples: pfgtrain generate demo guide.png; pfgtrain generate runs/a guide.png more.png -n 4; "
    "pfgtrain generate --adapter pfg-n5.pt --base BASE guide.png"
)


_PANELS = {
    PICTURE: "images_per_guide guidance_scale guidance_rescale pfg_scale no_pfg prompt negative_prompt "
    "uncond num_inference_steps seed batch_size",
    MODEL: f"adapter {MODEL_FIELDS}",
}


@from_fields(GenerateJob, _PANELS, flags=PICTURE_FLAGS, more=MODEL_METAVARS)
def generate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            parser=user_path,
            help="A run (or demo), then guide images; with --adapter only those.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(parser=user_folder, help="Folder.", show_default="pictures/ in RUN, or here"),
    ] = None,
    *,
    size: Annotated[
        str | None, option(PICTURE, metavar="WxH|N", help="Pixels.", show_default="the run's")
    ] = None,
    as_json: Json = False,
    **words: Any,
) -> None:
    """Make pictures of what guide images show, and a contact sheet with the guides on the left.

    Prints the paths of the pictures, then the sheet's. An --adapter is used as the .json of export beside it
    or one folder up says; without one, its tagger is taken to be wd-v1-4-vit-tagger-v2 with the squares of
    pfg-webui, unless --tagger names another.
    """
    width, height = _size(size)
    if words["adapter"] and not words["base"]:
        raise typer.BadParameter("--adapter needs --base, the model it was trained on")
    job = GenerateJob(**words, width=width, height=height)
    run, guides = (None, paths) if job.adapter else (paths[0], paths[1:])
    if not guides:
        raise typer.BadParameter("name a run and guide images, or --adapter, --base and guide images")

    from pfgtrain.checkpoint import Sampling
    from pfgtrain.generate import GenerateOptions, adapter_model, run_model
    from pfgtrain.generate import generate as run_generate

    run_dir = run_folder(run) if run else None
    options = job.options(GenerateOptions, Sampling.read(run_dir) if run_dir else None)
    with ScreenProgress() as progress:
        model = (
            run_model(run_dir, job, progress=progress) if run_dir else adapter_model(job, progress=progress)
        )
        folder = out or folder_for("pictures", run)
        report = run_generate(model, guides, folder, options=options, progress=progress)
    _show_pictures(report, as_json=as_json)


def _size(text: str | None) -> tuple[int | None, int | None]:
    """Width and height of `WxH` or `N`."""
    if text is None:
        return None, None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise typer.BadParameter(f"--size {text}: write it 512x768, or 512 for both")
    return int(sides[0]), int(sides[-1])


def _show_pictures(report: GenerateReport, *, as_json: bool) -> None:
    show_facts(
        {
            "made": f"{len(report.pictures)} pictures in {duration(report.seconds)}",
            "sheet": report.contact_sheet,
        }
    )
    if as_json:
        print_json(dataclasses.asdict(report))
        return
    for path in (*(picture.path for picture in report.pictures), report.contact_sheet):
        print_line(path)
