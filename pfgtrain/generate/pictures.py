"""What a picture is made with, and its file: options, PNG bytes that carry them, names, contact sheets.

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
from typing import Any, Literal

from blake3 import blake3
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pfgdata.errors import ConfigError, RunError
from pfgdata.files import Disk
from pfgtrain.config import require_text

__all__ = [
    "GenerateOptions",
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
class GenerateOptions:
    """What to make of each guide. Raises ConfigError for a value that cannot be."""

    images_per_guide: int = 4
    guidance_scale: float = 7.5  # 1 or less: no guidance
    pfg_scale: float = 1.0  # multiplies the tokens; 0 gives zero tokens, which are not absence
    no_pfg: bool = False  # leave the tokens out, on both sides
    prompt: str | None = None  # None: the run's own
    negative_prompt: str = ""
    uncond: Literal["zeros", "eos"] | None = None  # the pad; None: the run's own
    num_inference_steps: int = 25
    seed: int = 0  # of picture 0 of each guide
    width: int | None = None  # pixels; None: the run's resolution
    height: int | None = None
    batch_size: int = 4  # pictures at once

    def __post_init__(self) -> None:
        for name in ("images_per_guide", "num_inference_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, must be 1 or more")
        for name in ("width", "height"):
            side = getattr(self, name)
            if side is not None and side < 1:
                raise ConfigError(f"{name} is {side}, must be 1 or more")
        for name in ("guidance_scale", "pfg_scale"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)}, must be a finite number")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}, must be 0 or more and below 2^63")
        for name in ("prompt", "negative_prompt"):
            require_text(name, getattr(self, name) or "")
        if self.uncond not in (None, "zeros", "eos"):
            raise ConfigError(f"uncond is {self.uncond!r}, must be zeros or eos")


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
    """A model's name for pictures that travel: of an absolute path its last part, else as it is."""
    return Path(name).name if Path(name).is_absolute() else name


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
