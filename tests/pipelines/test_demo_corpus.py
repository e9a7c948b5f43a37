"""What can be proved of the corpora without Node.js: the counts of the README, digests, the small scenes."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.demo_corpus import CORPORA_FILE, digest, load_corpora, shrink

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "pipelines" / "demo"
EXIF_ORIENTATION = 0x0112


def test_the_readme_counts_what_the_scripts_draw() -> None:
    text = CORPORA_FILE.with_name("README.md").read_text(encoding="utf-8")
    told = {
        name: tuple(int(count.replace(",", "")) for count in counts)
        for name, *counts in re.findall(
            r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| ([\d,]+) \|", text, re.MULTILINE
        )
    }
    assert told == {
        name: (len(corpus.styles), corpus.characters, corpus.views, corpus.pictures)
        for name, corpus in load_corpora().items()
    }


def test_corpora_use_letters_of_their_own_so_that_no_two_share_a_character() -> None:
    letters = [corpus.letter for corpus in load_corpora().values()]
    assert len(set(letters)) == len(letters)


@pytest.fixture
def demo_corpus(tmp_path: Path) -> Path:
    """The committed demo corpus, laid as `draw` lays it."""
    shutil.copytree(DEMO / "images", tmp_path / "demo")
    shutil.copy(DEMO / "images.jsonl", tmp_path / "demo.jsonl")
    return tmp_path / "demo"


def test_the_committed_demo_corpus_is_the_one_that_the_scripts_draw(demo_corpus: Path) -> None:
    assert digest(demo_corpus) == load_corpora()["demo"].blake3


def test_a_changed_picture_changes_the_digest(demo_corpus: Path) -> None:
    before = digest(demo_corpus)
    some = next(demo_corpus.rglob("*.png"))
    some.write_bytes(some.read_bytes() + b"\0")
    assert digest(demo_corpus) != before


def scene(mode: str, size: tuple[int, int]) -> Image.Image:
    """Noise in `mode`."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


@pytest.fixture
def drawn_scenes(tmp_path: Path) -> Path:
    """Three scenes as Node.js leaves them: transparent, turned by EXIF, grey and smaller than the limit."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    scene("RGBA", (690, 920)).save(folder / "a.png")
    scene("RGB", (600, 400)).save(folder / "b.jpg", exif=exif)
    scene("L", (200, 100)).save(folder / "c.png")
    lines = [{"path": path, "view": 0, "size": [1, 1]} for path in ("a.png", "b.jpg", "c.png")]
    folder.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_scenes_become_upright_webp_of_at_most_256_pixels(drawn_scenes: Path, tmp_path: Path) -> None:
    shrink(drawn_scenes, tmp_path / "train", long_side=256)
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()
    ]
    assert [line["path"] for line in lines] == ["a.webp", "b.webp", "c.webp"]
    assert [line["size"] for line in lines] == [[192, 256], [171, 256], [200, 100]]
    modes = []
    for line in lines:
        with Image.open(io.BytesIO((tmp_path / "train" / line["path"]).read_bytes())) as image:
            assert list(image.size) == line["size"]
            modes.append(image.mode)
    assert modes == ["RGBA", "RGB", "RGB"]
