"""A single-file base: unpacked once, every weight as it was, whole or not at all."""

from __future__ import annotations

import filecmp
import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pfgdata.cli import app
from pfgdata.errors import ModelError
from pfgdata.hub import Resolved, resolve
from pfgdata.screen import run_app
from pfgdata.store import Store
from pfgdata.vaes import Vae, base_geometry
from tests.conftest import modes
from tests.doubles import Watched
from tests.pfgdata.hub.conftest import saved
from tests.pfgdata.hub.ldm import Tensors, ldm_tensors

WEIGHTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
HALFWAY = """
import os, signal, sys
from pathlib import Path
from pfgdata.hub import resolve
from pfgdata.records import NoProgress

class Dying(NoProgress):
    def say(self, message):
        if "does not say" in message:  # said when tokenizer and scheduler are written, the weights not yet
            os.kill(os.getpid(), signal.SIGKILL)

resolve(sys.argv[1], what="base", config=Path(sys.argv[2]), progress=Dying())
"""


def scheduler_of(found: Resolved) -> dict[str, object]:
    config: dict[str, object] = json.loads((found.folder / "scheduler/scheduler_config.json").read_bytes())
    return config


@pytest.mark.parametrize("family", ["SD1", "SD2"])
def test_every_weight_comes_out_as_it_was(family: str, tiny: Path, tiny2: Path, tmp_path: Path) -> None:
    base = tiny if family == "SD1" else tiny2
    file = saved(ldm_tensors(base, open_clip=family == "SD2"), tmp_path / "m.safetensors")
    found = resolve(file, what="base", config=base)
    assert (found.name, found.file, found.revision) == (file, Path(file), None)
    for path in WEIGHTS.values():
        before, after = load_file(base / path), load_file(found.folder / path)
        assert before.keys() == after.keys()
        assert all(after[name].dtype == before[name].dtype for name in before)
        assert all(torch.equal(after[name], before[name]) for name in before)
    assert scheduler_of(found) == json.loads((base / "scheduler/scheduler_config.json").read_bytes())
    assert filecmp.cmp(found.folder / "tokenizer/tokenizer.json", base / "tokenizer/tokenizer.json", False)
    made = json.loads((found.folder / "made.json").read_bytes())
    assert made["family"] == family and made["file"]["size"] == Path(file).stat().st_size


def test_its_vae_and_its_sizes_are_those_of_the_folder(tiny: Path, tensors: Tensors, tmp_path: Path) -> None:
    file = saved(tensors, tmp_path / "m.safetensors")
    vae = Vae.load(file, config=tiny, device="cpu")
    assert vae.name == file
    assert vae.digest == Vae.load(str(tiny), device="cpu").digest
    assert base_geometry(vae.folder) == base_geometry(tiny)


def test_it_is_unpacked_once_and_found_again_wherever_it_lies(
    tiny: Path, tensors: Tensors, tmp_path: Path, cache: Path
) -> None:
    file, heard = saved(tensors, tmp_path / "m.safetensors"), Watched()
    first = resolve(file, what="base", config=tiny, progress=heard)
    assert heard.said == [f"unpacking {file} (once, into the cache: {first.folder})"]
    assert heard.ended == ["hash: 1/1 files", "unpack: 3/3 parts"]
    made = (first.folder / "made.json").stat().st_mtime_ns
    moved = str(Path(file).rename(tmp_path / "moved.safetensors"))
    for config in (tiny, None):
        assert resolve(moved, what="base", config=config, progress=heard).folder == first.folder
    assert len(heard.said) == 1
    assert (first.folder / "made.json").stat().st_mtime_ns == made
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".lock"]


def test_two_that_need_it_at_once_unpack_it_once(tiny: Path, tensors: Tensors, tmp_path: Path) -> None:
    file, heard = saved(tensors, tmp_path / "m.safetensors"), Watched()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(resolve, file, what="base", config=tiny, progress=heard) for _ in range(2)]
    assert asked[0].result() == asked[1].result()
    assert len(heard.said) == 1


def test_other_configs_make_it_anew_and_another_file_is_another_base(
    tiny: Path, tensors: Tensors, tmp_path: Path, cache: Path
) -> None:
    file = saved(tensors, tmp_path / "m.safetensors")
    first = resolve(file, what="base", config=tiny)
    shutil.copytree(tiny, tmp_path / "other")
    config = {**scheduler_of(first), "beta_end": 0.02}
    (tmp_path / "other/scheduler/scheduler_config.json").write_text(json.dumps(config))
    anew = resolve(file, what="base", config=tmp_path / "other")
    assert anew.folder == first.folder and scheduler_of(anew) == config
    tensors["model.diffusion_model.out.2.bias"] += 1
    changed = resolve(saved(tensors, tmp_path / "m.safetensors"), what="base", config=tiny)
    assert changed.folder != first.folder
    assert sorted(path.suffix for path in cache.iterdir()) == ["", "", ".lock", ".lock"]


def test_killed_half_way_it_leaves_nothing_that_counts(tiny2: Path, tmp_path: Path, cache: Path) -> None:
    file = saved(ldm_tensors(tiny2, open_clip=True), tmp_path / "m.safetensors")
    killed = subprocess.run([sys.executable, "-c", HALFWAY, file, str(tiny2)], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".new"]
    found = resolve(file, what="base", config=tiny2)
    assert (found.folder / WEIGHTS["text_encoder"]).is_file()
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".lock"]


def test_a_cache_that_cannot_be_written_is_one_line(
    tiny: Path, tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tensors, tmp_path / "m.safetensors")
    monkeypatch.setenv("PFG_CACHE", f"{file}/inside")
    with pytest.raises(ModelError, match=r"cannot be written .* set PFG_CACHE"):
        resolve(file, what="base", config=tiny)


def test_each_part_keeps_its_dtype_and_a_mixed_one_becomes_float32(
    tiny: Path, tensors: Tensors, tmp_path: Path
) -> None:
    for name, value in tensors.items():
        if name.startswith("model."):
            tensors[name] = value.half()
    tensors["cond_stage_model.transformer.text_model.final_layer_norm.bias"] = torch.ones(
        16, dtype=torch.float64
    )
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    found = resolve(saved(tensors, tmp_path / "m.safetensors"), what="base", config=tiny)
    dtypes = {
        part: {value.dtype for value in load_file(found.folder / path).values()}
        for part, path in WEIGHTS.items()
    }
    assert dtypes == {"unet": {torch.float16}, "vae": {torch.float32}, "text_encoder": {torch.float32}}


def test_what_a_file_says_of_its_prediction_stands_in_the_scheduler(
    tiny: Path, tensors: Tensors, tmp_path: Path
) -> None:
    plain = resolve(saved(tensors, tmp_path / "a.safetensors"), what="base", config=tiny)
    assert (scheduler_of(plain)["prediction_type"], scheduler_of(plain)["rescale_betas_zero_snr"]) == (
        "epsilon",
        False,
    )
    said = saved(tensors, tmp_path / "b.safetensors", {"modelspec.prediction_type": "v"})
    assert scheduler_of(resolve(said, what="base", config=tiny))["prediction_type"] == "v_prediction"
    marked = saved({**tensors, "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, tmp_path / "c.safetensors")
    scheduler = scheduler_of(resolve(marked, what="base", config=tiny))
    assert (scheduler["prediction_type"], scheduler["rescale_betas_zero_snr"]) == ("v_prediction", True)


def test_an_sd2_that_does_not_say_what_it_predicts_is_pointed_out(tiny2: Path, tmp_path: Path) -> None:
    file, heard = saved(ldm_tensors(tiny2, open_clip=True), tmp_path / "m.safetensors"), Watched()
    resolve(file, what="base", config=tiny2, progress=heard)
    assert (
        f"what its UNet predicts: v_prediction, as {tiny2}; --prediction-type of pfgtrain overrules"
        in heard.said[1]
    )


def test_a_pickle_and_clip_under_its_old_names_are_read_too(
    tiny: Path, tensors: Tensors, tmp_path: Path
) -> None:
    old = {name.replace(".transformer.text_model.", ".transformer."): v for name, v in tensors.items()}
    assert old.keys() != tensors.keys()
    torch.save({"state_dict": old, "global_step": 7}, tmp_path / "m.ckpt")
    found = resolve(str(tmp_path / "m.ckpt"), what="base", config=tiny)
    for path in WEIGHTS.values():
        before, after = load_file(tiny / path), load_file(found.folder / path)
        assert before.keys() == after.keys() and all(torch.equal(after[n], before[n]) for n in before)


@pytest.mark.parametrize("name", ["M.SAFETENSORS", "M.CKPT", "m.Ckpt"])
def test_the_case_of_a_file_s_name_is_no_matter(
    name: str, tiny: Path, tensors: Tensors, tmp_path: Path
) -> None:
    if name.endswith("SAFETENSORS"):
        saved(tensors, tmp_path / name)
    else:
        torch.save(tensors, tmp_path / name)
    found = resolve(str(tmp_path / name), what="base", config=tiny)
    assert (found.folder / WEIGHTS["unet"]).is_file()


def test_who_may_read_the_cache_is_the_umask_s_to_say(
    tiny: Path, tensors: Tensors, tmp_path: Path, cache: Path, shared_umask: int
) -> None:
    resolve(saved(tensors, tmp_path / "m.safetensors"), what="base", config=tiny)
    assert set(modes(cache).values()) == {shared_umask}, modes(cache)


def test_latents_takes_a_single_file(
    tiny: Path, tensors: Tensors, tmp_path: Path, mini_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(tensors, tmp_path / "m.safetensors")
    options = ["--base", file, "--base-config", str(tiny), "--dry-run"]
    with pytest.raises(SystemExit) as caught:
        run_app(app, args=["latents", str(mini_store.path), *options], name="pfgdata")
    said = capsys.readouterr().err
    assert caught.value.code == 0, said
    assert f"unpacking {file} (once, into the cache: " in said
