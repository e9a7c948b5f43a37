"""A rehearsal at sizes where a step takes moments: every command of the product runs, and is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pfgdata.errors import ConfigError
from pfgtrain.base import Base
from pipelines.rehearsal import FAMILIES, Rehearsal, Shape, Step, forecast
from pipelines.rehearsal.bases import part_sizes, write_base
from pipelines.rehearsal.measured import folder_bytes, measured
from pipelines.rehearsal.steps import draw_images

TINY_VAE = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1, "sample_size": 64}
TINY_TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def tiny(family: str) -> Shape:
    """The family's shape with few channels, at 64 px; what makes it that family stays."""
    whole = FAMILIES[family]
    unet = {**whole.unet, "sample_size": 8, "layers_per_block": 1, "attention_head_dim": 2}
    unet["block_out_channels"] = [32, 64, 64, 64][: len(whole.unet["block_out_channels"])]
    texts = tuple({**text, **TINY_TEXT, "projection_dim": 16} for text in whole.texts)
    unet["cross_attention_dim"] = 16 * len(texts)
    if family == "sdxl":
        unet |= {"transformer_layers_per_block": [1, 1, 1], "addition_time_embed_dim": 4}
        unet["projection_class_embeddings_input_dim"] = 16 + 6 * 4
    return replace(whole, resolution=64, unet=unet, vae={**whole.vae, **TINY_VAE}, texts=texts)


def quiet(line: str) -> None:
    """What a rehearsal says."""


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def rehearsed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Step]]:
    """A whole rehearsal that leaves what it made."""
    out = tmp_path_factory.mktemp("rehearsal") / "out"
    rehearsal = Rehearsal(
        shape=tiny(request.param), out=out, fit_steps=1, sampler_steps=1, tagger="demo", keep=True
    )
    return out, list(rehearsal.run(say=quiet))


@pytest.mark.slow
def test_every_step_of_the_product_runs_and_is_measured(rehearsed: tuple[Path, list[Step]]) -> None:
    out, steps = rehearsed
    assert [step.name for step in steps] == ["base", "ingest", "latents", "fit", "export", "generate"]
    for step in steps:
        assert step.seconds > 0 and step.disk > 0, step.name
        if step.name != "base":
            assert step.memory is not None and step.memory > 50_000_000
    assert list((out / "made").rglob("*.png"))
    assert list((out / "given").rglob("*.pt"))


@pytest.mark.slow
def test_what_was_told_of_a_fits_disk_is_what_it_wrote(rehearsed: tuple[Path, list[Step]]) -> None:
    by_name = {step.name: step for step in rehearsed[1]}
    fit, base = by_name["fit"], by_name["base"]
    assert fit.told.disk is not None and fit.told.memory is not None
    assert fit.told.disk <= fit.disk <= fit.told.disk + 200_000  # its record, log and pictures beside it
    assert base.told.disk is not None
    assert base.told.disk <= base.disk <= base.told.disk + 1_000_000  # tokenizers and configs


@pytest.mark.slow
def test_the_base_is_one_of_its_family_and_says_that_it_is_untrained(
    rehearsed: tuple[Path, list[Step]],
) -> None:
    base = Base.load(str(rehearsed[0] / "base"))
    assert base.untrained
    assert base.family.facts.name == (
        "sdxl" if (rehearsed[0] / "base" / "text_encoder_2").is_dir() else "sd1"
    )


@pytest.mark.parametrize(
    ("family", "unet", "texts"), [("sd15", 859_520_964, 1), ("sdxl", 2_567_463_684, 2)], ids=["sd15", "sdxl"]
)
def test_the_true_shapes_have_as_many_numbers_as_the_published_ones(
    family: str, unet: int, texts: int
) -> None:
    sizes = part_sizes(FAMILIES[family])
    assert sizes["unet"] == unet
    assert sizes["vae"] == 83_653_863
    assert sizes["text_encoder"] == 123_060_480
    assert sum(name.startswith("text") for name in sizes) == texts


def test_weights_are_random_finite_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    folders = [write_base(tmp_path / str(n), tiny("sd15"), seed=seed) for n, seed in enumerate((1, 1, 2))]
    files = [(folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() for folder in folders]
    assert files[0] == files[1] != files[2]
    for key, value in load_file(folders[0] / "unet" / "diffusion_pytorch_model.safetensors").items():
        assert value.dtype == torch.float16 and bool(value.isfinite().all()), key


def logs_of(rehearsal: Rehearsal, said: str) -> str:
    """The log of a step that failed as `said`; beside it nothing but logs is left."""
    with pytest.raises(ConfigError, match=said) as raised:
        list(rehearsal.run(say=quiet))
    left = list(rehearsal.out.iterdir())
    (named,) = (path for path in left if str(raised.value).endswith(f"(see {path})"))
    assert {path.suffix for path in left} == {".log"}
    return named.read_text()


@pytest.mark.slow
def test_of_a_step_that_fails_late_the_logs_stay_alone(tmp_path: Path) -> None:
    bad = replace(tiny("sd15"), vae={**tiny("sd15").vae, "latent_channels": 3})  # the UNet takes four
    rehearsal = Rehearsal(shape=bad, out=tmp_path / "out", tagger="demo", sampler_steps=1)
    assert logs_of(rehearsal, r"ended with 1: .*")


def test_of_a_step_that_fails_the_log_that_is_named_is_there(tmp_path: Path) -> None:
    rehearsal = Rehearsal(shape=tiny("sd15"), out=tmp_path / "out", tagger=str(tmp_path / "none"))
    assert "none" in logs_of(rehearsal, r"-m pfgdata ingest ended with 1: ")


def test_a_rehearsal_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    steps = Rehearsal(shape=tiny("sd15"), out=tmp_path / "out", tagger="demo").run(say=quiet)
    assert next(iter(steps)).name == "base"
    steps.close()  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"x")
    with pytest.raises(ConfigError, match="mine: is there; name a new folder"):
        list(Rehearsal(shape=tiny("sd15"), out=tmp_path / "mine").run(say=quiet))
    assert (tmp_path / "mine" / "file").read_bytes() == b"x"


def test_a_disk_too_small_is_told_before_anything_is_made(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    side = int((8 * free) ** 0.5)  # one image's latents would fill it
    with pytest.raises(ConfigError, match=r"GB free, .* needed; name another --out"):
        Rehearsal(
            shape=replace(tiny("sd15"), resolution=side), out=tmp_path / "out", tagger="demo"
        ).check_place()
    assert not (tmp_path / "out").exists()


def test_a_forecast_counts_the_base_in_float16_and_the_tagger_only_if_it_is_made() -> None:
    shape = tiny("sd15")
    told = forecast(shape, images=2, tagger=False)
    assert told["base"].disk == 2 * sum(part_sizes(shape).values())
    assert "tagger" not in told
    assert "tagger" in forecast(shape, images=2, tagger=True)


def test_a_command_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"-m pfgdata query ended with 1: .*no-such"):
        measured(["-m", "pfgdata", "query", "width > 1", "--store", "no-such"], log=tmp_path / "log")


def test_a_command_is_measured_by_what_its_own_process_took(tmp_path: Path) -> None:
    small = measured(["-c", "print(1)"], log=tmp_path / "a")
    large = measured(["-c", "x = bytearray(b'1') * 200_000_000; print(2)"], log=tmp_path / "b")
    assert (small.last, large.last) == (1, 2)
    assert small.memory is not None and large.memory is not None
    assert 150_000_000 < large.memory - small.memory < 250_000_000


def test_images_are_square_and_upright_by_turns_and_always_the_same(tmp_path: Path) -> None:
    draw_images(tmp_path / "a", 2, side=32)
    draw_images(tmp_path / "b", 2, side=32)
    files: list[list[Any]] = [sorted(path.read_bytes() for path in (tmp_path / n).iterdir()) for n in "ab"]
    assert files[0] == files[1]
    assert folder_bytes(tmp_path / "a") == sum(len(data) for data in files[0])


def test_a_dry_run_prints_what_it_would_take_and_makes_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines.rehearsal",
        "--family",
        "sd15",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [*command, "--dry-run", "--json", "--tagger", "demo"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 2.1e9 < told["base"]["disk"] < 2.2e9
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_rehearsed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, code, says in (
        (["--out", str(tmp_path / "out"), "--images", "0"], 2, "'--images'"),
        (["--out", str(tmp_path / "file" / "out")], 1, "file"),
    ):
        command = [sys.executable, "-m", "pipelines.rehearsal", "--family", "sd15", "--tagger", "demo"]
        done = subprocess.run([*command, *words], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1
