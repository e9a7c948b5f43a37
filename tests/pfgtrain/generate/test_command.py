"""A job told as a command is read by that command as the same job."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pfgtrain.cli import app
from pfgtrain.generate import GenerateJob, command_words

GUIDE = Path("/guides/one two.png")


def read_back(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """What the command of pfgtrain that `words` call is given: its paths, and its options."""
    group: Any = typer.main.get_command(app)
    assert words[:2] == ["pfgtrain", "generate"]
    given = group.commands["generate"].make_context("generate", words[2:]).params
    return [str(path) for path in given.pop("paths")], given


def test_what_is_as_by_default_is_left_out() -> None:
    assert command_words(GenerateJob(), [GUIDE], run="demo") == ["pfgtrain", "generate", "demo", str(GUIDE)]


@pytest.mark.parametrize(
    "job",
    [
        GenerateJob(),
        GenerateJob(guidance_scale=2.0, pfg_scale=0.1 + 0.2, num_inference_steps=9, images_per_guide=3),
        GenerateJob(pfg_scale=-1.5, guidance_scale=1e22, guidance_rescale=0.7, seed=2**62, batch_size=1),
        GenerateJob(prompt="-n 3, --seed 4 'a' \"b\" $HOME\n\u3042", negative_prompt="--", no_pfg=True),
        GenerateJob(prompt="", uncond="eos", width=512, height=768, device="cpu", no_ema=True),
        GenerateJob(adapter="/a/x.pt", base="/b", tagger="demo", prediction_type="epsilon", base_config="/c"),
    ],
)
def test_the_command_reads_the_same_job(job: GenerateJob) -> None:
    run = None if job.adapter else "/runs/a"
    paths, given = read_back(command_words(job, [GUIDE], run=run))
    assert paths == [*([run] if run else []), str(GUIDE)]
    size = given.pop("size")
    assert size == (f"{job.width}x{job.height}" if job.width else None)
    known = {one.name: given[one.name] for one in fields(GenerateJob) if one.name in given}
    assert GenerateJob(**known) == replace(job, width=None, height=None)
