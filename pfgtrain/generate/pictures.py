"""The file of a picture: PNG bytes that carry what it was made with, names, contact sheets.

Nothing here depends on the time or the machine: equal pixels and settings give equal bytes under an equal
name.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pfgdata.errors import RunError
from pfgdata.files import Disk
from pfgdata.records import shown
from pfgdata.urls import is_url

__all__ = [
    "GenerateReport",
    "Picture",
    "cell_size",
    "contact_sheet",
    "parameters_text",
    "picture_name",
    "png_bytes",
    "settings_digest",
    "thumbnail",
    "without_folders",
    "write_png",
]

SHEET_PIXELS = 40_000_000  # a larger contact sheet is scaled down: this is 120 MB as RGB
STEM_BYTES = 100  # of the guide's name; with digest and index well below the 255 of common file systems
GAP = 4  # pixels of white between the cells of a sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture on disk."""

    path: Path
    guide: Path
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateReport:
    """What `generate` made; `untrained` names the parts whose weights are from a fixed seed."""

    pictures: tuple[Picture, ...]
    contact_sheet: Path
    seconds: float
    untrained: tuple[str, ...]


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Eight hex digits that stand for all of `settings`."""
    return blake3(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def picture_name(guide: Path, *, digest: str, index: int) -> str:
    """The file name of a guide's picture `index` under settings of that digest; always valid UTF-8."""
    stem = os.fsencode(guide.stem)[:STEM_BYTES].decode("utf-8", "ignore") or "guide"
    return f"{stem}-{digest}-{index:02d}.png"


def without_folders(name: str) -> str:
    """A name for what travels, as text: of an absolute path or a place in a bucket its last part."""
    last = Path(name).name if Path(name).is_absolute() or is_url(name) else name
    return shown(os.fsencode(last))


def png_bytes(image: Image.Image, *, settings: Mapping[str, Any]) -> bytes:
    """`image` as PNG with `settings` in its text: `parameters`, as A1111 reads it, and `pfg`, as JSON."""
    info = PngInfo()
    if settings:
        info.add_text("parameters", parameters_text(settings))
        info.add_text("pfg", json.dumps(settings, sort_keys=True, ensure_ascii=False))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def write_png(path: Path, image: Image.Image, *, settings: Mapping[str, Any] | None = None) -> None:
    """Write `image` and its settings to `path`, whole or not at all, making its folder. Raises RunError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Disk().replace_file(path, png_bytes(image, settings=settings or {}))
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error


def parameters_text(settings: Mapping[str, Any]) -> str:
    """`settings` as A1111 and its kin write and read them: prompt, negative prompt, one line of fields."""
    fields = {
        "Steps": settings["num_inference_steps"],
        "Sampler": settings["sampler"],
        "Schedule type": settings["schedule"],
        "CFG scale": settings["guidance_scale"],
        **({"PFG guidance rescale": settings["guidance_rescale"]} if settings["guidance_rescale"] else {}),
        "Seed": settings["seed"],
        "Size": f"{settings['width']}x{settings['height']}",
        "Model": settings["base"],
        "PFG guide": settings["guide"],
        "PFG scale": settings["pfg_scale"],
        "PFG tokens": settings["num_tokens"],
        "PFG uncond": settings["uncond"],
        "PFG adapter": settings["adapter"],
        "Tagger": settings["tagger"]["name"],
    }
    last = ", ".join(f"{key}: {_quoted(value)}" for key, value in fields.items())
    negative = [f"Negative prompt: {settings['negative_prompt']}"] if settings["negative_prompt"] else []
    return "\n".join([settings["prompt"], *negative, last])


def thumbnail(image: Image.Image, *, cell: tuple[int, int]) -> Image.Image:
    """`image` whole within (width, height) `cell`, centred; transparency and the rest are white."""
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image.convert("RGBA"))
    scale = min(cell[0] / image.width, cell[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    page = Image.new("RGB", cell, "white")
    resized = flat.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    page.paste(resized, ((cell[0] - size[0]) // 2, (cell[1] - size[1]) // 2))
    return page


def cell_size(width: int, height: int, *, rows: int, columns: int) -> tuple[int, int]:
    """(width, height) of a sheet's cell for pictures of that size: theirs, or smaller on a large sheet."""
    scale = min(1.0, math.sqrt(SHEET_PIXELS / (width * height * rows * columns)))
    return max(1, int(width * scale)), max(1, int(height * scale))


def contact_sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """One page of equal cells: each row a guide, then its pictures."""
    width, height = rows[0][0].size
    columns = max(len(row) for row in rows)
    size = (columns * (width + GAP) + GAP, len(rows) * (height + GAP) + GAP)
    page = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            page.paste(cell, (GAP + x * (width + GAP), GAP + y * (height + GAP)))
    return page


def _quoted(value: object) -> str:
    """A field's value; as JSON where A1111's reader would otherwise stop inside it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:\n"') else text
