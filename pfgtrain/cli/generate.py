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
    ImagesPerGuide,
    Json,
    PfgScale,
    folder_for,
    option,
    run_folder,
)
from pfgtrain.generate import ModelJob

if TYPE_CHECKING:
    from pfgtrain.generate import GenerateReport

__all__ = ["EXAMPLE", "generate"]

EXAMPLE = (
    "Examples: pfgtrain generate demo guide.png; pfgtrain generate runs/a guide.png more.png -n 4; "
    "pfgtrain generate --adapter pfg-n5.pt --base BASE guide.png"
)


@from_fields(ModelJob, {MODEL: MODEL_FIELDS}, more=MODEL_METAVARS)
def generate(
    context: typer.Context,
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
    images_per_guide: ImagesPerGuide = 4,
    guidance_scale: Annotated[
        float | None,
        option(PICTURE, "--guidance", help="1 or less: none.", show_default="the run's, or 7.5"),
    ] = None,
    pfg_scale: PfgScale = None,
    no_pfg: Annotated[bool, option(PICTURE, "--no-pfg", help="Leave the tokens out, on both sides.")] = False,
    prompt: Annotated[str | None, option(PICTURE, help="Text.", show_default="the run's")] = None,
    negative_prompt: Annotated[str, option(PICTURE, "--negative", help="What to lead away from.")] = "",
    uncond: Annotated[
        str | None, option(PICTURE, help="The pad: zeros or eos.", show_default="the run's")
    ] = None,
    num_inference_steps: Annotated[int, option(PICTURE, "--steps", help="Of the sampler.")] = 25,
    seed: Annotated[int, option(PICTURE, help="Of the first picture of each guide.")] = 0,
    size: Annotated[
        str | None, option(PICTURE, metavar="WxH|N", help="Pixels.", show_default="the run's")
    ] = None,
    batch_size: Annotated[int, option(PICTURE, help="Pictures at once.")] = 4,
    adapter: Annotated[
        Path | None,
        option(
            MODEL,
            parser=user_path,
            help="Published weights, .pt or .safetensors.",
            show_default="the run's",
        ),
    ] = None,
    *,
    as_json: Json = False,
    **model_words: Any,
) -> None:
    """Make pictures of what guide images show, and a contact sheet with the guides on the left.

    Prints the paths of the pictures, then the sheet's. The tagger of an --adapter is not on record: it is
    taken to be wd-v1-4-vit-tagger-v2 with the squares of pfg-webui, unless --tagger names another.
    """
    run, guides = (None, paths) if adapter else (paths[0], paths[1:])
    if not guides:
        raise typer.BadParameter("name a run and guide images, or --adapter, --base and guide images")
    asked = ModelJob(**model_words)
    if adapter and not asked.base:
        raise typer.BadParameter("--adapter needs --base, the model it was trained on")

    from pfgtrain.generate import GenerateOptions, adapter_model, run_model, with_sampling
    from pfgtrain.generate import generate as run_generate

    width, height = _size(size)
    names = {field.name for field in dataclasses.fields(GenerateOptions)}
    given = {name: value for name, value in context.params.items() if name in names}
    place = run_folder(run) if run else None
    options = GenerateOptions(**with_sampling(given, place), width=width, height=height)
    with ScreenProgress() as progress:
        if place:
            model = run_model(place, asked, progress=progress)
        else:
            assert adapter is not None
            model = adapter_model(adapter, asked, progress=progress)
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
