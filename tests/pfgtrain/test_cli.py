"""The command line: names to objects, results on stdout, one line for what a user can fix."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pfgdata.store import Store
from pfgdata.taggers import OnnxTagger
from pfgdata.vaes import Vae
from pfgtrain.adapter import PFGLinear, save_adapter
from pfgtrain.checkpoint import RunRecord, checkpoints, read_metrics
from pfgtrain.cli import fit as fit_cli
from pfgtrain.cli import generate as generate_cli
from pfgtrain.config import AdamW, FitConfig, load_config
from pfgtrain.generate import GenerateJob, GenerateOptions
from tests.pfgtrain.conftest import Call
from tests.pfgtrain.small_store import build_latents, build_store
from tests.pfgtrain.tiny_base import WIDTH, build_tiny_base

NUMBERS = list(range(24))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def digest(base: Path) -> str:
    return Vae.load(str(base)).digest


@pytest.fixture(scope="module")
def feats(tmp_path_factory: pytest.TempPathFactory, base: Path, digest: str) -> Path:
    """A store of the demo tagger with one latent set, of the tiny base."""
    path = tmp_path_factory.mktemp("store") / "feats"
    store = build_store(path, NUMBERS, shard_rows=9, tagger=OnnxTagger.load("demo"), feature_dim=768)
    build_latents(store, NUMBERS, vae_digest=digest, shard_rows=9, base_name=str(base))
    return path


def test_help_of_every_command_comes_without_torch() -> None:
    script = (
        "import sys; from pfgtrain.cli import app; from pfgdata.screen import run_app\n"
        "for line in sys.argv[1:]:\n"
        "    try: run_app(app, args=line.split(), name='pfgtrain')\n"
        "    except SystemExit as ended: print(f'\\fended by {ended.code}\\f', flush=True)\n"
        "    assert not {'torch', 'diffusers', 'pyarrow', 'duckdb'} & set(sys.modules), line"
    )
    helped = {
        "--help": ["fit", "generate", "Example"],
        "fit --help": ["--store", "--shards", "--resume", "5e-06", "illustration of", "Examples"],
        "generate --help": ["--pfg-scale", "--adapter", "7.5", "Examples"],
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *helped], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *said, rest = done.stdout.split("\fended by 0\f\n")
    assert rest == ""
    for text, words in zip(said, helped.values(), strict=True):
        assert all(word in text for word in words)


def test_fit_with_nothing_but_a_store_takes_the_base_its_latents_are_of(
    call: Call, feats: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call("fit", "--shards", feats, "--steps", 2)
    assert code == 0, err
    made = Path(out.strip())
    assert made.parent == Path("runs")
    assert RunRecord.read(made).base_name == str(base)
    assert [path.name for path in checkpoints(made)] == ["step-00000002"]
    for word in (
        "23 images (1 more held out)",
        "buckets: 3",
        "parameters",
        "at the start",
        f"pfgtrain generate {made}",
    ):
        assert word in err


def test_a_run_made_and_pictures_of_it(call: Call, feats: Path, tmp_path: Path) -> None:
    code, out, err = call("fit", "--shards", feats, "--steps", 2, "--out", tmp_path / "a", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["run"], report["last_step"]) == (str(tmp_path / "a"), 2)
    assert report["plan"]["without_latent"] == 0
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "guide.png")
    code, out, err = call(
        "generate", tmp_path / "a", tmp_path / "guide.png", "-n", 2, "--steps", 1, "--size", "16x32"
    )
    assert code == 0, err
    paths = [Path(line) for line in out.splitlines()]
    assert len(paths) == 3
    assert all(path.parent == tmp_path / "a" / "pictures" for path in paths)
    with Image.open(paths[0]) as picture:
        assert picture.size == (16, 32)


def test_published_weights_on_a_base(call: Call, base: Path, tmp_path: Path) -> None:
    adapter = PFGLinear(768, 2, WIDTH, generator=torch.Generator().manual_seed(0))
    save_adapter(adapter, tmp_path / "x-n2.pt")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "guide.png")
    args = ["generate", "--adapter", tmp_path / "x-n2.pt", "--tagger", "demo", tmp_path / "guide.png"]
    out = ["--out", tmp_path / "made", "--json", "-n", 1, "--steps", 1, "--size", 16]
    code, text, err = call(*args, *out, "--base", base)
    assert code == 0, err
    assert len(json.loads(text)["pictures"]) == 1
    assert "webui" in err
    assert call(*args, *out)[0] == 2  # without a base


def test_every_flag_reaches_the_config_above_the_file(
    call: Call, feats: Path, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "fit.toml").write_text("seed = 5\nmax_train_steps = 9\n[adamw]\nbeta2 = 0.99\n")
    flags = {
        "base": ("--base", str(base)),
        "prediction_type": ("--prediction-type", "v_prediction"),
        "where": ("--where", "rating = 'general' and width > 1"),
        "threshold": ("--threshold", 0.4),
        "character_threshold": ("--character-threshold", 0.9),
        "validation_split": ("--validation-split", 0.25),
        "train": ("--train", "lora"),
        "unet_blocks": ("--blocks", "up_blocks"),
        "r": ("--r", 2),
        "lora_alpha": ("--lora-alpha", 4.0),
        "features": ("--features", "tagger:3"),
        "feature_dropout": ("--feature-dropout", "tagger=0.1"),
        "allow_missing": ("--allow-missing", True),
        "num_tokens": ("--tokens", 3),
        "adapter_kind": ("--adapter-kind", "mlp"),
        "standardize_features": ("--standardize", True),
        "use_ema": ("--ema", True),
        "caption": ("--caption", "tags"),
        "shuffle_caption": ("--shuffle-caption", True),
        "keep_tokens": ("--keep-tokens", 1),
        "clip_skip": ("--clip-skip", 2),
        "pfg_dropout": ("--pfg-dropout", 0.1),
        "caption_dropout_rate": ("--caption-dropout", 0.05),
        "prompt": ("--prompt", "a picture"),
        "uncond": ("--uncond", "eos"),
        "empty_prompt": ("--empty-prompt", "zeros"),
        "condition_dropout": ("--dropout", 0.2),
        "learning_rate": ("--lr", 1e-4),
        "lora_learning_rate": ("--lora-lr", 2e-4),
        "adapter_learning_rate": ("--adapter-lr", 1e-3),
        "num_train_epochs": ("--epochs", 1),
        "train_batch_size": ("--batch-size", 12),
        "gradient_accumulation_steps": ("--accumulation", 2),
        "mixed_precision": ("--precision", "no"),
        "seed": ("--seed", 6),
    }
    words = [word for pair in flags.values() for word in pair if word is not True]
    words += ["--set", "max_grad_norm=0.5", "--set", "lr_scheduler=linear", "--set", "seed=7"]
    words += ["--set", "adamw.weight_decay=0.1"]
    code, _, err = call(
        "fit", "--shards", feats, "--config", tmp_path / "fit.toml", "--out", tmp_path / "a", *words
    )
    assert code == 0, err
    latents = Store.open(feats).latent_sets()[0].id
    expected = {name: value for name, (_, value) in flags.items()}
    assert load_config(tmp_path / "a" / "config.toml", {}) == FitConfig(
        **expected,  # type: ignore[arg-type]
        latents=latents,
        adamw=AdamW(beta2=0.99, weight_decay=0.1),
        max_grad_norm=0.5,
        lr_scheduler="linear",
    )
    assert set(flags) | {"latents", "max_train_steps", "init", "base_config"} == set(
        " ".join(fit_cli._PANELS.values()).split()
    )


def test_generate_s_defaults_are_the_library_s() -> None:
    assert GenerateJob().options(GenerateOptions) == GenerateOptions()
    parameters = inspect.signature(generate_cli.generate).parameters
    for name in ("guidance_scale", "guidance_rescale", "pfg_scale"):  # the run's own, or else the library's
        shown = parameters[name].annotation.__metadata__[0].show_default
        assert shown == f"the run's, or {getattr(GenerateOptions(), name):g}"


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    call: Call, feats: Path, tmp_path: Path
) -> None:
    code, out, err = call(
        "fit",
        "--shards",
        feats,
        "--out",
        tmp_path / "a",
        "--dry-run",
        "--json",
        "--batch-size",
        8,
        "--epochs",
        3,
    )
    assert code == 0, err
    plan = json.loads(out)
    assert (plan["images"], plan["held_out"], plan["epochs"]) == (23, 1, 3.0)
    assert plan["effective_batch"] == 8
    assert plan["forecast"]["memory"] > plan["forecast"]["weights"] > 0
    assert plan["steps"] == 3 * plan["batches_per_epoch"]
    assert re.search(r"[0-9] TFLOP an image; 0 s at 30 TFLOP/s, 0 s at 150\n", err), err
    assert not (tmp_path / "a").exists()


def test_epochs_by_a_flag_stand_above_steps_by_set(call: Call, feats: Path, tmp_path: Path) -> None:
    dry = ["fit", "--shards", feats, "--out", tmp_path / "a", "--dry-run", "--json"]
    for flag, counted, count in (("--epochs", "epochs", 3), ("--steps", "steps", 7)):
        code, out, err = call(*dry, "--set", "max_train_steps=2", "--set", "num_train_epochs=9", flag, count)
        assert code == 0, err
        assert json.loads(out)[counted] == count


def test_timed_steps_without_a_dry_run_are_refused(call: Call, feats: Path, tmp_path: Path) -> None:
    code, _, err = call("fit", "--shards", feats, "--out", tmp_path / "a", "--timed-steps", 3)
    assert (code, "--timed-steps is of use with --dry-run" in err) == (2, True)
    assert not (tmp_path / "a").exists()


def test_a_dry_run_times_steps_and_leaves_store_and_run_as_they_were(
    call: Call, feats: Path, tmp_path: Path
) -> None:
    made = tmp_path / "a"
    code, _, err = call("fit", "--shards", feats, "--out", made, "--steps", 2, "--ema")
    assert code == 0, err
    before = contents_of(feats, made)
    dry = ["--dry-run", "--timed-steps", 3, "--steps", 40, "--json"]
    code, out, err = call("fit", "--out", made, "--resume", *dry)
    assert code == 0, err
    told = json.loads(out)["timing"]
    assert told["steps"] == 3
    assert told["training"] == pytest.approx(40 * told["step"])
    assert told["step"] > 0
    assert told["seconds"] == pytest.approx(told["loading"] + told["training"] + told["looking"])
    assert "on this machine, by 3 steps of " in err
    assert contents_of(feats, made) == before
    code, _, err = call("fit", "--out", made, "--resume", "--steps", 3)
    assert code == 0, err
    assert [line["step"] for line in read_metrics(made)] == [1, 2, 3]


def contents_of(*folders: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file in `folders`: when it was written last, and its bytes."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_dry_run_of_several_processes_counts_them_and_refuses_what_the_run_would(
    call: Call, feats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dry = ["fit", "--shards", feats, "--out", tmp_path / "a", "--dry-run", "--json", "--batch-size", 4]
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, out, err = call(*dry)
    assert code == 0, err
    plan = json.loads(out)
    assert (plan["processes"], plan["effective_batch"]) == (2, 8)
    assert plan["forecast"]["memory"] > plan["forecast"]["reducing"] > 0
    assert ", gradients' buffers " in err
    frugal = ["optimizer=adafactor", "max_grad_norm=0.0", "fused_backward_pass=true"]
    code, out, err = call(*dry, *(word for pair in frugal for word in ("--set", pair)))
    assert (code, out) == (1, "")
    assert "fused_backward_pass = true works in one process, here are 2" in err
    monkeypatch.setenv("RANK", "1")
    assert call(*dry)[:2] == (0, "")
    assert not (tmp_path / "a").exists()


def stop_when_training(run_dir: Path, number: int) -> threading.Thread:
    """Send ourselves the signal once the run has logged a step."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not read_metrics(run_dir) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_resume_goes_on(
    number: int, call: Call, feats: Path, tmp_path: Path
) -> None:
    made = tmp_path / "a"
    (tmp_path / "fit.toml").write_text("logging_steps = 1\nmax_train_steps = 100_000\n")
    thread = stop_when_training(made, number)
    code, _, err = call("fit", "--shards", feats, "--config", tmp_path / "fit.toml", "--out", made)
    thread.join()
    assert code == 130, err
    (saved,) = checkpoints(made)
    step = int(saved.name.removeprefix("step-"))
    assert f"pfgtrain fit --store {feats} --out {made} --resume" in err
    code, _, err = call("fit", "--out", made, "--resume", "--steps", step + 2)  # the store is on record
    assert code == 0, err
    assert [line["step"] for line in read_metrics(made)] == list(range(1, step + 3))


def test_several_latent_sets_are_listed_and_one_must_be_named(
    call: Call, base: Path, digest: str, tmp_path: Path
) -> None:
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=30)
    first = build_latents(store, NUMBERS, vae_digest=digest, shard_rows=30, base_name=str(base))
    other = build_latents(store, NUMBERS, vae_digest="another", shard_rows=30, base_name="org/other")
    fit = ["fit", "--shards", tmp_path / "feats", "--dry-run"]
    code, _, err = call(*fit)
    assert code == 1
    assert all(word in err for word in (first.id, other.id, "org/other", "name one by --latents"))
    assert call(*fit, "--latents", first.id[:6])[0] == 0
    assert call(*fit, "--base", base)[0] == 0
    code, _, err = call(*fit, "--latents", "zzz")
    assert (code, "no latent set fits" in err) == (1, True)


def test_a_users_column_selects_what_is_trained_on(
    call: Call, base: Path, digest: str, tmp_path: Path
) -> None:
    store = build_store(tmp_path / "feats", NUMBERS, shard_rows=30)
    build_latents(store, NUMBERS, vae_digest=digest, shard_rows=30, base_name=str(base))
    store.write_column("good", pa.table({"path": ["00001.png", "00002.png"], "value": [True, False]}))
    code, out, err = call("fit", "--store", store.path, "--where", "good", "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["selected"] == 1


def test_a_store_without_latents_names_the_command_that_makes_them(call: Call, tmp_path: Path) -> None:
    build_store(tmp_path / "feats", NUMBERS, shard_rows=30)
    code, _, err = call("fit", "--shards", tmp_path / "feats", "--base", "demo")
    assert code == 1
    assert err.splitlines() == [
        f"error: {tmp_path / 'feats'}: has no latents; "
        f"make them with: pfgdata latents {tmp_path / 'feats'} --base demo"
    ]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--store", "nowhere"], 1, "no store here"),
        (["--shards", "nowhere"], 1, "no store here"),
        (["--store", "a", "--shards", "a"], 2, "are the same; give one of them"),
        (["--where", "charcter = 'x'"], 1, "did you mean character"),
        (["--where", "width > 10000"], 1, "no image is selected by 'width > 10000'"),
        (["--where", "@mine"], 1, "no selection @mine; save one with pfgdata select NAME EXPR"),
        (["--train", "locon"], 2, "'locon' is not one of 'unet', 'adapter', 'lora'"),
        (["--uncond", "none"], 2, "'none' is not one of 'zeros', 'eos'"),
        (["--config", "none.toml"], 1, "none.toml: cannot be read"),
        pytest.param(["--set", f"seed={'1' * 5000}"], 1, "is not a whole number", id="five thousand digits"),
        pytest.param(["--set", f"seed={'[' * 5000}"], 1, "is not a whole number", id="brackets"),
        (["--out", "nowhere", "--resume"], 1, "no run here"),
        (["--resume"], 2, "--resume needs --out"),
        (["--steps", "1", "--epochs", "1"], 2, "exclude each other"),
        (["--token", "1"], 2, "No such option"),
    ],
)
def test_what_a_user_can_fix_is_one_line(
    args: list[str],
    code: int,
    said: str,
    call: Call,
    feats: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PFG_STORE", str(feats))
    ended, out, err = call("fit", *args)
    assert (ended, out) == (code, "")
    *loading, last = err.splitlines()
    assert said in last
    assert all(re.match(r"(hash|load): \d", line) for line in loading)  # said only on a slow machine
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["only-a-run"], 2, "name a run and guide images"),
        (["nowhere", "guide.png"], 1, "no run here"),
        (["run", "guide.png", "--size", "12y"], 2, "write it 512x768"),
        (["run", "guide.png", "--uncond", "none"], 2, "is not one of 'zeros', 'eos'"),
    ],
)
def test_generate_refuses_in_one_line(args: list[str], code: int, said: str, call: Call) -> None:
    ended, out, err = call("generate", *args)
    assert (ended, out) == (code, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_several_processes_need_a_folder_to_agree_on(
    call: Call, feats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = call("fit", "--shards", feats)
    assert (code, "need --out" in err) == (2, True)
