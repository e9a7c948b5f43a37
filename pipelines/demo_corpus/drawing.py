"""A corpus drawn into a folder, scenes made small, and the digest by which two drawings are compared.

Scenes are drawn at up to 1,200 px in every format that people keep, then reduced by Pillow to WebP of 256 px:
the training needs variety, not resolution.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

from blake3 import blake3
from PIL import Image, ImageOps

from pfgdata.errors import ConfigError
from pipelines.demo_corpus.corpora import Corpus

SCRIPT = Path(__file__).with_name("draw.mjs")
MODULES = Path(__file__).with_name("node_modules")
QUALITY, METHOD = 78, 3  # of the WebP files that the demo models were trained on


def draw(name: str, corpus: Corpus, *, out: Path) -> Path:
    """Draw `corpus` below `out`; the folder of its pictures, whose index is FOLDER.jsonl beside it.

    Raises ConfigError where Node.js or its packages are missing, or the script fails.
    """
    if not corpus.long_side:
        _run_script(name, out / name)
        return out / name
    drawn, train = out / name / "drawn", out / name / "train"
    _run_script(name, drawn)
    shrink(drawn, train, long_side=corpus.long_side)
    return train


def _run_script(name: str, folder: Path) -> None:
    node = shutil.which("node")
    if node is None:
        raise ConfigError("node: not found; install Node.js 20.9 or newer")
    if not MODULES.is_dir():
        raise ConfigError(f"{MODULES}: not there; run `npm ci` in {MODULES.parent}")
    done = subprocess.run([node, str(SCRIPT), name, str(folder.absolute())], check=False)
    if done.returncode:
        raise ConfigError(f"{SCRIPT}: exit code {done.returncode}; see what it said above")


def shrink(drawn: Path, to: Path, *, long_side: int) -> None:
    """Write every picture of `drawn` as WebP of at most `long_side` px into `to`, and the index beside it."""
    lines = []
    for line in drawn.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        data, size = _small_webp(drawn / entry["path"], long_side)
        entry |= {"path": str(Path(entry["path"]).with_suffix(".webp")), "size": size}
        file = to / entry["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        lines.append(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n")
    to.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")


def write_guides(folder: Path) -> Path:
    """Write guides.jsonl into `folder`, from the index beside it: with it the folder is one of guides."""
    lines = []
    for line in folder.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        kept = {key: entry[key] for key in ("path", "style", "character", "view", "tags_coarse")}
        lines.append(json.dumps(kept, separators=(",", ":"), ensure_ascii=False) + "\n")
    file = folder / "guides.jsonl"
    file.write_text("".join(lines), encoding="utf-8")
    return file


def _small_webp(file: Path, long_side: int) -> tuple[bytes, tuple[int, int]]:
    """The first frame upright, RGB or RGBA, as the bytes of a WebP, and its size as (width, height)."""
    with Image.open(file) as opened:
        upright = ImageOps.exif_transpose(opened)
    transparent = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
    small = upright.convert("RGBA" if transparent else "RGB")
    small.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return buffer.getvalue(), small.size


def digest(folder: Path) -> str:
    """BLAKE3 (128 bits, hex) of each line of the index followed by the bytes of its picture, in order."""
    hasher = blake3()
    for line in folder.with_suffix(".jsonl").read_bytes().splitlines():
        hasher.update(line)
        hasher.update((folder / json.loads(line)["path"]).read_bytes())
    return hasher.hexdigest(length=16)
