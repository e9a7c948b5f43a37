"""From nothing to a picture at a base's true shape: each step by the product's own command, and what it took.

Forecasts are counted from shapes: 4 bytes a number where float32 computes, 2 on disk; the fit's is its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from pfgdata.errors import ConfigError
from pipelines.rehearsal.bases import part_sizes, write_base
from pipelines.rehearsal.measured import Measured, folder_bytes, measured
from pipelines.rehearsal.shapes import Shape

__all__ = ["Forecast", "Rehearsal", "RehearsalOptions", "Step", "draw_images", "forecast"]

TAGGER_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "vit_tagger.py"
PROGRAM = 700_000_000  # torch, diffusers and transformers in memory, before any weight; onnxruntime is less
TAGGER_NUMBERS = 93_500_000  # of the ViT-B/448 with 9,083 tags
ENCODING, DECODING = 8, 20  # planes of the first width at full size that a VAE holds at once in float32
LOADING = 4  # times its weights that a tagger's first session holds, while its graph is fused and written
MARGIN = 1.1  # of the disk that is asked for
_Do = Callable[[Path], tuple[Measured, "Forecast | None"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Bytes that a step is told to take; None: nobody knows before."""

    memory: int | None
    disk: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step that has run, beside what was told."""

    name: str
    seconds: float
    cpu_seconds: float
    memory: int | None
    disk: int
    told: Forecast


@dataclass(frozen=True, kw_only=True)
class RehearsalOptions:
    """How much is rehearsed."""

    images: int = 2
    """How many are ingested."""
    train: Literal["adapter", "lora", "unet"] = "adapter"
    """What the fit trains."""
    fit_steps: int = 2
    """Optimizer steps, batch 1."""
    sampler_steps: int = 2
    """Of the one picture."""
    tagger: str | None = None
    """A folder or the name of a tagger; default: one of the ViT-B/448's shape with random weights."""
    keep: bool = False
    """Leave what was made."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal(RehearsalOptions):
    """What to rehearse, where."""

    shape: Shape
    out: Path

    def run(self, *, say: Callable[[str], None]) -> Iterator[Step]:
        """Run the steps, yielding each when it has ended. Removes what it made, but for the logs where a step
        failed: its ConfigError names one.
        """
        self.check_place()
        self.out.mkdir(parents=True)
        told = forecast(self.shape, images=self.images, tagger=self.tagger is None)
        failed = False
        try:
            for name, do, made in self._steps():
                say(f"{name} ...")
                before = folder_bytes(self.out / made)
                done, own = do(self.out / f"{name}.log")
                yield Step(
                    name=name,
                    seconds=done.seconds,
                    cpu_seconds=done.cpu_seconds,
                    memory=done.memory,
                    disk=folder_bytes(self.out / made) - before,
                    told=own or told[name],
                )
        except ConfigError:
            failed = True
            raise
        finally:
            if not self.keep:
                self._remove(but_logs=failed)

    def check_place(self) -> None:
        """Raise ConfigError for a folder that is there, for a disk too full, for a script that is missing."""
        if self.out.exists():
            raise ConfigError(f"{self.out}: is there; name a new folder, for a rehearsal removes its own")
        if self.tagger is None and not TAGGER_SCRIPT.is_file():
            raise ConfigError(f"{TAGGER_SCRIPT}: not there; a rehearsal needs a checkout of the project")
        told = forecast(self.shape, images=self.images, tagger=self.tagger is None)
        needed = int(MARGIN * sum(one.disk or 0 for one in told.values()))
        there = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if needed > free:
            raise ConfigError(
                f"{there}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} needed; name another --out"
            )

    def _remove(self, *, but_logs: bool) -> None:
        for path in self.out.iterdir() if but_logs else [self.out]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix != ".log":
                path.unlink()

    def _steps(self) -> Iterator[tuple[str, _Do, str]]:
        """Name, what it does, and the folder it writes into."""
        images, tagger = self.out / "images", self.tagger or str(self.out / "tagger")
        store, base, run = (str(self.out / name) for name in ("feats", "base", "run"))
        if self.tagger is None:
            yield "tagger", _product([str(TAGGER_SCRIPT), tagger]), "tagger"
        yield "base", self._base, "base"
        draw_images(images, self.images, side=self.shape.resolution)
        ingest = ["-m", "pfgdata", "ingest", str(images), "--store", store, "--tagger", tagger]
        yield "ingest", _product([*ingest, "--batch-size", "1"]), "feats"
        encode = ["-m", "pfgdata", "latents", store, "--base", base, "--batch-size", "1"]
        yield "latents", _product(encode), "feats"
        fit = ["-m", "pfgtrain", "fit", "--store", store, "--base", base, "--out", run, "--train", self.train]
        yield "fit", _fit([*fit, "--batch-size", "1", "--steps", str(self.fit_steps)]), "run"
        yield "export", _product(["-m", "pfgtrain", "export", run, "--to", str(self.out / "given")]), "given"
        made = ["-m", "pfgtrain", "generate", run, str(images / "0.png"), "--out", str(self.out / "made")]
        yield "generate", _product([*made, "-n", "1", "--steps", str(self.sampler_steps)]), "made"

    def _base(self, log: Path) -> tuple[Measured, None]:
        """In this process: its memory is not told apart from the rest of it."""
        wall, processor = time.perf_counter(), time.process_time()
        write_base(self.out / "base", self.shape)
        took = (time.perf_counter() - wall, time.process_time() - processor)
        return Measured(seconds=took[0], cpu_seconds=took[1], memory=None, output=""), None


def forecast(shape: Shape, *, images: int, tagger: bool) -> dict[str, Forecast]:
    """What each step is told to take; the fit's memory only once its own dry run can be asked."""
    sizes = part_sizes(shape)
    plane = 4 * shape.vae["block_out_channels"][0] * shape.resolution**2
    looks = 4 * TAGGER_NUMBERS
    told = {
        "base": Forecast(memory=None, disk=2 * sum(sizes.values())),
        "ingest": Forecast(memory=PROGRAM // 2 + LOADING * looks if tagger else None, disk=images * 20_000),
        "latents": Forecast(
            memory=PROGRAM + 4 * sizes["vae"] + ENCODING * plane, disk=images * shape.resolution**2 // 8
        ),
        "fit": Forecast(memory=None, disk=None),
        "export": Forecast(memory=PROGRAM, disk=None),
        "generate": Forecast(
            memory=PROGRAM + 4 * (sizes["unet"] + sizes["vae"]) + DECODING * plane,
            disk=3 * shape.resolution**2,
        ),
    }
    return {"tagger": Forecast(memory=None, disk=looks), **told} if tagger else told


def draw_images(folder: Path, count: int, *, side: int) -> None:
    """Write PNGs 0.png, 1.png, ...: discs on grounds, square and upright by turns."""
    folder.mkdir(parents=True)
    for number in range(count):
        height = side * 3 // 2 if number % 2 else side
        rng = np.random.default_rng(number)
        y, x = np.mgrid[:height, :side]
        picture = np.full((height, side, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(6):
            centre, radius = rng.uniform(0, (height, side)), rng.uniform(side / 12, side / 4)
            disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            picture[disc] = rng.integers(0, 256, 3)
        Image.fromarray(picture).save(folder / f"{number}.png")


def _product(arguments: list[str]) -> _Do:
    return lambda log: (measured(arguments, log=log), None)


def _fit(arguments: list[str]) -> _Do:
    """The fit, after its own dry run has told what it will take."""

    def do(log: Path) -> tuple[Measured, Forecast]:
        dry = measured([*arguments, "--dry-run", "--json"], log=log.with_name("fit-told.log"))
        told = dry.last["forecast"]
        return measured(arguments, log=log), Forecast(memory=PROGRAM + told["memory"], disk=told["disk"])

    return do
