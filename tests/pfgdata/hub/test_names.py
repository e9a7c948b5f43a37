"""Names to folders: the package's own models, folders, files, and hub ids from a cache, with no network."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pfgdata.errors import ModelError, ModelNotFoundError
from pfgdata.hub import resolve, weights_sha256
from pfgdata.hub.repository import PATTERNS, held
from tests.pfgdata.hub.small_hub import small_hub

NAME = "SmilingWolf/wd-v1-4-vit-tagger-v2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")


def cached(cache: Path, name: str, *files: str) -> Path:
    """A repository in Hugging Face's cache layout, as an earlier download left it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for file in files:
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).write_text("x")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("what", ["tagger", "base", "judge", "run"])
def test_demo_models_travel_in_the_package(what: str) -> None:
    found = resolve("demo", what=what)
    assert found.folder.name == f"demo_{what}"
    assert (found.folder / "README.md").is_file()
    assert found.revision is None


def test_a_folder_or_a_file_is_itself_under_a_name_that_works_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "org" / "model" / "m.onnx").touch()
    monkeypatch.chdir(tmp_path)
    folder = resolve("org/model", what="tagger")
    assert (folder.folder, folder.name) == (tmp_path / "org/model", str(tmp_path / "org/model"))
    file = resolve("org/model/m.onnx", what="tagger")
    assert (file.folder, file.file) == (tmp_path / "org/model", tmp_path / "org/model/m.onnx")


def test_a_cached_model_is_found_without_network_and_its_commit_recorded(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, NAME, "model.onnx", "selected_tags.csv")
    found = resolve(NAME, what="tagger", cache=tmp_path)
    assert (found.name, found.folder, found.revision) == (NAME, snapshot, COMMIT)
    assert resolve(NAME, what="tagger", cache=tmp_path, revision=COMMIT).folder == snapshot


def test_a_tagger_in_a_folder_of_a_repository_is_found_with_whichever_file_has_its_tags(
    tmp_path: Path,
) -> None:
    snapshot = cached(tmp_path, "org/taggers", "v1/model.onnx", "v1/tag_mapping.json", "v2/model.onnx")
    found = resolve("org/taggers//v1", what="tagger", cache=tmp_path)
    assert (found.name, found.folder, found.revision) == ("org/taggers//v1", snapshot / "v1", COMMIT)
    assert held(snapshot, "v1/selected_tags.csv") and not held(snapshot, "v2/selected_tags.csv")
    for name, what in (
        ("org/taggers//../v1", "tagger"),
        ("org/taggers//v1", "base"),
        ("org/taggers/v1", "tagger"),
    ):
        with pytest.raises(ModelNotFoundError, match="no hub id"):
            resolve(name, what=what, cache=tmp_path)


def test_weights_from_before_safetensors_count_as_complete(tmp_path: Path) -> None:
    weights = ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/pytorch_model"]
    files = [f"{part}/config.json" for part in ("unet", "vae", "text_encoder")]
    files += ["model_index.json", "scheduler/scheduler_config.json", *(f"{stem}.bin" for stem in weights)]
    files += [f"tokenizer/{name}" for name in TOKENIZER]
    snapshot = cached(tmp_path, "org/old-base", *files)
    parts = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    (snapshot / "model_index.json").write_text(json.dumps({part: ["library", "Class"] for part in parts}))
    assert all(held(snapshot, pattern) for pattern in PATTERNS["base"])
    assert resolve("org/old-base", what="base", cache=tmp_path).folder == snapshot


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_weights_in_shards_count_as_complete_once_all_are_there(kind: str, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    stem, wanted = tmp_path / "unet/diffusion_pytorch_model", "unet/diffusion_pytorch_model.safetensors"
    shards = [stem.with_name(f"{stem.name}-0000{number}-of-00002.{kind}") for number in (1, 2)]
    index = stem.with_name(f"{stem.name}.{kind}.index.json")
    for path in shards:
        path.touch()
    assert not held(tmp_path, wanted)
    index.write_text(json.dumps({"weight_map": {"a": shards[0].name, "b": shards[1].name}}))
    assert held(tmp_path, wanted)
    shards[1].unlink()
    assert not held(tmp_path, wanted)
    index.write_text("[]")
    assert not held(tmp_path, wanted)


def test_a_base_whose_download_was_cut_is_not_taken_for_complete(tmp_path: Path) -> None:
    files = [pattern for pattern in PATTERNS["base"] if "*" not in pattern]
    snapshot = cached(tmp_path, "org/base", *files)
    assert all(held(snapshot, pattern) for pattern in PATTERNS["base"])
    for name in TOKENIZER:
        assert f"tokenizer/{name}" in files
    for file in files:
        (snapshot / file).rename(tmp_path / "away")
        assert [pattern for pattern in PATTERNS["base"] if not held(snapshot, pattern)] == [file]
        (tmp_path / "away").rename(snapshot / file)


def test_a_part_that_the_models_index_does_not_name_is_not_asked_for(tmp_path: Path) -> None:
    second = [pattern for pattern in PATTERNS["base"] if pattern.partition("/")[0].endswith("_2")]
    assert len(second) > len(TOKENIZER) and not any(held(tmp_path, p) for p in second if "*" not in p)
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    assert all(held(tmp_path, pattern) for pattern in second)
    (tmp_path / "model_index.json").write_text('{"unet": ["a", "b"], "text_encoder_2": [null, null]}')
    assert all(held(tmp_path, pattern) for pattern in second)
    assert not held(tmp_path, "unet/config.json")


@pytest.mark.parametrize("what", ["tagger", "base", "judge"])
def test_a_model_that_is_nowhere_is_one_line_that_says_what_to_do(what: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(NAME, what=what, cache=tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert NAME in text and f"--{what} FOLDER" in text and f"--{what} demo" in text


def test_a_run_that_is_nowhere_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=f"run {NAME}: .*; name the folder of a run, or try demo$"):
        resolve(NAME, what="run", cache=tmp_path)


def test_a_hub_that_never_answers_is_given_up(tmp_path: Path) -> None:
    asking = f"from pfgdata.hub import resolve; resolve({NAME!r}, what='tagger')"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the call and says nothing
        env = {
            **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
            "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "HF_HUB_ETAG_TIMEOUT": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
        }
        command = [sys.executable, "-c", asking]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    last = ended.stderr.splitlines()[-1]
    assert "ModelNotFoundError" in last and "the hub cannot be reached" in last


def test_of_a_base_on_the_hub_one_form_of_each_weight_is_fetched(tmp_path: Path) -> None:
    shards = [f"diffusion_pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    index = json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}).encode()
    wanted = {
        "model_index.json": b'{"unet": ["d", "U"], "vae": ["d", "A"], "text_encoder": ["t", "C"]}',
        "unet/diffusion_pytorch_model.bin.index.json": index,
        **{f"unet/{name}": b"weights" for name in shards},
        "vae/diffusion_pytorch_model.bin": b"weights",
        "text_encoder/model.safetensors": b"weights",
    }
    others = {"text_encoder/pytorch_model.bin": b"older", "unet/diffusion_pytorch_model.fp16.bin": b"half"}
    asking = "from pfgdata.hub import resolve; print(resolve('org/m', what='base').folder)"
    with small_hub("org/m", {**wanted, **others}) as address:
        env = {
            **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
            "HF_ENDPOINT": address,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
        }
        command = [sys.executable, "-c", asking]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    folder = Path(ended.stdout.strip())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(wanted)


def test_configs_are_for_a_single_file_only(tmp_path: Path) -> None:
    for name in ("demo", str(tmp_path), NAME):
        with pytest.raises(ModelError, match="--base-config is for a base that is a single file"):
            resolve(name, what="base", config=tmp_path)


@pytest.mark.parametrize("name", ["nothing", "./no/where", "/no/where", "a/b/c", "~/nothing-here", ""])
def test_a_name_that_can_be_no_hub_id_is_not_looked_up(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        resolve(name, what="tagger", cache=tmp_path)


@pytest.mark.parametrize(
    "name", ["models--org--tagger/snapshots", "a--b/c", "a..b/c", "a/b.git", "-a/b", f"a/{'b' * 97}"]
)
def test_a_name_that_the_hub_refuses_to_have_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ModelNotFoundError, match="no such folder here, and the hub can have none of that name;"
    ):
        resolve(name, what="tagger", cache=tmp_path)


def test_the_hash_is_the_sha256_hubs_show(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"weights" * 100_000)
    assert weights_sha256(tmp_path / "w") == hashlib.sha256(b"weights" * 100_000).hexdigest()
