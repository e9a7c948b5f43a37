"""Where the system has no file to open any more, each reader says that, and blames no file."""

from __future__ import annotations

import csv
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pfgdata.errors import PfgError
from pfgdata.hub import resolve
from pfgdata.screen import one_line_error
from pfgdata.store import Store
from pfgdata.vaes import base_geometry
from pfgdata.vocabulary import Vocabulary
from pfgtrain.adapter import read_tensors
from pfgtrain.base import Base
from pfgtrain.checkpoint import SAMPLING_FILE, Sampling
from pfgtrain.lora import read_lora
from tests.doubles import tiny_vocabulary
from tests.pfgdata.query.rows import row, store_of
from tests.pfgtrain.tiny_base import build_tiny_base


@contextmanager
def no_more_files() -> Iterator[None]:
    """As many files as are open may be; those that a library keeps to itself are found by opening."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(held[0])


def write_vocabulary(path: Path) -> None:
    words = tiny_vocabulary()
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["tag_id", "name", "category", "count"])
        lines.writerows(
            [number, name, int(kind), 1]
            for number, (name, kind) in enumerate(zip(words.names, words.categories, strict=True))
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_vocabulary(folder / "tags.csv")
    save_file({"a": torch.zeros(1)}, folder / "a.safetensors")
    torch.save({"a": torch.zeros(1)}, folder / "a.pt")
    (folder / SAMPLING_FILE).write_text(json.dumps({"guidance_scale": 1.0, "pfg_scale": 1.0}))
    store_of(folder / "feats", [row("a.png")])
    build_tiny_base(folder / "base")
    return folder


READERS: dict[str, Callable[[Path], object]] = {
    "vocabulary": lambda files: Vocabulary.read(files / "tags.csv"),
    "safetensors": lambda files: read_tensors(files / "a.safetensors"),
    "pt": lambda files: read_tensors(files / "a.pt"),
    "lora": lambda files: read_lora(files / "a.safetensors"),
    "single file": lambda files: resolve(str(files / "a.safetensors"), what="base"),
    "sampling": lambda files: Sampling.read(files),
    "store": lambda files: Store.open(files / "feats"),
    "geometry": lambda files: base_geometry(files / "base"),
    "base": lambda files: Base.load(str(files / "base")),
}


@pytest.mark.parametrize("name", READERS)
def test_few_open_files_are_said_as_such(files: Path, name: str) -> None:
    read = READERS[name]
    try:
        read(files)  # imports what it needs, or says what it has against the file
    except PfgError as problem:
        assert "open files" not in str(problem)
    with no_more_files(), pytest.raises((PfgError, OSError)) as caught:
        read(files)
    said = one_line_error(caught.value)
    assert "too many open files; allow more (ulimit -n)" in said
    for blame in ("damaged", "fetch", "backup", "no weights", "no LoRA", "no config", "permission", "whole"):
        assert blame not in said
