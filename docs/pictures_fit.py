"""Makes docs/pictures/demo-fit.webp: what `make demo`'s fit draws of each guide, step by step.

`python -m docs.pictures_fit`; the demo's own fit anew, with more checkpoints, minutes on two cores. Each
picture of a row begins with the same noise, so what differs is what the fit has learnt.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image

from pfgdata.screen import ScreenProgress
from pfgtrain.checkpoint import checkpoints, read_state
from pfgtrain.generate import GenerateOptions, contact_sheet, generate, run_model, thumbnail
from pipelines.recipe import find_recipe, read_recipe
from pipelines.steps import run_steps

__all__ = ["TARGET", "draw_fit"]

TARGET = Path(__file__).parent / "pictures" / "demo-fit.webp"
QUALITY = 88
EVERY = 15  # steps
SHOWN = (0, 15, 30, 60, 120, 180)  # the last is the demo's


def draw_fit(target: Path = TARGET) -> None:
    """Write the picture: a row a guide, the guide first, then what each of the steps SHOWN draws of it."""
    recipe = read_recipe(find_recipe("demo"))
    assert recipe.fit is not None and recipe.generate is not None
    fit = replace(recipe.fit, checkpointing_steps=EVERY, num_validation_images=0)
    shown = recipe.generate
    guides = [recipe.path(guide) for guide in shown.guides]
    options = replace(shown.options(GenerateOptions, None), images_per_guide=1)
    with tempfile.TemporaryDirectory() as place, ScreenProgress() as progress:
        out = Path(place)
        short = replace(recipe, fit=fit, query=None, evaluate=None, generate=None)
        for step in run_steps(short, out, progress=progress, stop=lambda: False):
            print(f"{step.name}: {step.result}")
        run = out / "runs" / recipe.name
        columns = [[thumbnail(Image.open(guide), cell=(128, 128)) for guide in guides]]
        for checkpoint in checkpoints(run):
            if read_state(checkpoint).step in SHOWN:
                model = run_model(run, replace(shown, checkpoint=checkpoint.name), progress=progress)
                report = generate(model, guides, out / checkpoint.name, options=options, progress=progress)
                columns.append([Image.open(picture.path).convert("RGB") for picture in report.pictures])
        contact_sheet(list(zip(*columns, strict=True))).save(target, quality=QUALITY, method=6)
    print(f"{target.name}  {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    draw_fit()
