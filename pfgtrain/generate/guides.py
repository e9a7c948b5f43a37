"""Guide images in, pictures out: reads the guides, and writes what a model makes of them.

Picture i of a guide begins with the noise of seed + i, whatever the other guides and the batch size; a file's
name carries a digest of all its settings, so no picture ever replaces one made otherwise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pfgdata.corpus import ReadImage, read_image
from pfgdata.errors import ConfigError
from pfgdata.records import NoProgress, Progress, during, shown
from pfgtrain.base import SAMPLER
from pfgtrain.generate.memory import room_for
from pfgtrain.generate.model import PFGModel
from pfgtrain.generate.options import GenerateOptions
from pfgtrain.generate.pictures import (
    GenerateReport,
    Picture,
    cell_size,
    contact_sheet,
    picture_name,
    settings_digest,
    thumbnail,
    without_folders,
    write_png,
)

__all__ = ["generate"]


def generate(
    model: PFGModel,
    guides: Sequence[Path],
    out_dir: Path,
    *,
    options: GenerateOptions | None = None,
    progress: Progress | None = None,
    made: Callable[[Picture], None] = lambda _: None,
) -> GenerateReport:
    """Write `images_per_guide` PNG files a guide, and a sheet (guide left, results right), to `out_dir`.

    Equal settings give equal names, and at equal `batch_size` equal bytes on one machine (kernels round by
    batch shape); other settings give other names. Each file appears whole, as soon as it is made, and `made`
    is told of it. What `progress` raises at a step ends all, and the model can be used again.

    Raises AccessError or ContentError for a guide, before any picture, and RunError for a result with NaN.
    """
    options = options or GenerateOptions()
    progress = progress or NoProgress()
    started = time.perf_counter()
    guides = list(dict.fromkeys(guides))
    if not guides:
        raise ConfigError("no guide image given; name one or more image files")
    cell = cell_size(*model.size(options), rows=len(guides), columns=options.images_per_guide + 1)
    for part in model.untrained:
        progress.say(f"{part} is untrained (weights from a fixed seed): the pictures mean nothing")
    if not model.has_tokens:
        progress.say(
            "this run has no tokens (num_tokens = 0): its pictures are of the prompt, not of the guide"
        )
    rows = _read_guides(model, guides, options=options, cell=cell, progress=progress)
    pictures: list[Picture] = []
    jobs = [(row, index) for row in rows for index in range(options.images_per_guide)]
    steps = len(jobs) * options.num_inference_steps
    with during(progress, "generate", total=steps, unit="steps", brief=False):
        for start in range(0, len(jobs), options.batch_size):
            batch = jobs[start : start + options.batch_size]
            told = model.has_tokens and not options.no_pfg
            features = None if not told else torch.stack([row.feature for row, _ in batch])
            seeds = [options.seed + index for _, index in batch]
            with room_for(len(batch)):
                images = model.paint(features, seeds=seeds, options=options, progress=progress)
            for (row, index), seed, image in zip(batch, seeds, images, strict=True):
                path = out_dir / picture_name(row.path, digest=row.digest, index=index)
                write_png(path, image, settings={**row.settings, "seed": seed})
                pictures.append(Picture(path=path, guide=row.path, seed=seed))
                made(pictures[-1])
                row.cells.append(thumbnail(image, cell=cell))
    sheet_digest = settings_digest({"rows": [row.digest for row in rows], "n": options.images_per_guide})
    sheet = out_dir / f"contact-{sheet_digest}.png"
    write_png(sheet, contact_sheet([row.cells for row in rows]))
    return GenerateReport(
        pictures=tuple(pictures),
        contact_sheet=sheet,
        seconds=time.perf_counter() - started,
        untrained=model.untrained,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A guide: its feature [F], the settings all its pictures share, and its cells of the sheet."""

    path: Path
    feature: Tensor
    settings: dict[str, Any]
    digest: str
    cells: list[Image.Image]


def _read_guides(
    model: PFGModel,
    paths: Sequence[Path],
    *,
    options: GenerateOptions,
    cell: tuple[int, int],
    progress: Progress,
) -> list[_Row]:
    """Read, decode and tag the guides, one by one: a batch would tie a feature's last bits to the others."""
    rows = []
    with during(progress, "guides", total=len(paths), brief=False):
        for path in paths:
            image = read_image(path)
            seen = model.see(image.pixels, content_id=image.content_id, name=str(path))
            settings = _settings(model, options, path=path, image=image)
            if seen.how:  # other features beside the tagger's
                settings["features_seen"] = dict(seen.how)
            rows.append(
                _Row(
                    path=path,
                    feature=seen.feature_F,
                    settings=settings,
                    digest=settings_digest(settings),
                    cells=[thumbnail(Image.fromarray(image.pixels), cell=cell)],
                )
            )
            progress.advance()
    return rows


def _settings(model: PFGModel, options: GenerateOptions, *, path: Path, image: ReadImage) -> dict[str, Any]:
    """All that decides a guide's pictures; `images_per_guide` and `batch_size` do not."""
    width, height = model.size(options)
    unet, identity = model.pipeline.unet, model.tagger.identity
    settings = asdict(options)
    del settings["images_per_guide"], settings["batch_size"]
    return {
        **settings,
        "guide": shown(os.fsencode(path.name)),
        "guide_content_id": image.content_id.hex(),
        "prompt": model.prompt if options.prompt is None else options.prompt,
        "uncond": options.uncond or model.uncond,
        "empty_prompt": model.empty_prompt,
        "width": width,
        "height": height,
        **SAMPLER,
        "base": without_folders(model.base.name),
        "base_revision": model.base.revision,
        "prediction_type": model.base.prediction_type,
        "tagger": {**identity.as_dict(), "name": without_folders(identity.name)},
        "device": unet.device.type,
        "dtype": str(unet.dtype).removeprefix("torch."),
        "versions": {"diffusers": version("diffusers"), "torch": torch.__version__},
        **model.origin,
    }
