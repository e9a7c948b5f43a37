"""`pfgtrain export`: a path a line on stdout, what to know on stderr, one line for what a user can fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pfgtrain.base import Base
from tests.pfgtrain.conftest import Call
from tests.pfgtrain.export.small_model import build_whole_base
from tests.pfgtrain.export.small_run import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    base = Base.load(str(build_whole_base(folder / "base", linear=False)))
    return make_run(folder / "a", base, uncond="eos")


def test_export_prints_the_paths_and_says_what_to_know(run: Path, tmp_path: Path, call: Call) -> None:
    code, out, err = call("export", run, "--to", tmp_path / "out")
    assert code == 0
    paths = [Path(line) for line in out.splitlines()]
    assert [path.name for path in paths] == ["a-n3.pt", "a-n3.safetensors", "a-n3.json", "a.safetensors"]
    assert all(path.is_file() for path in paths)
    assert "step 50, the moving average" in err
    assert "the run learned eos" in err


def test_a_dry_run_names_the_same_paths_and_writes_none(run: Path, tmp_path: Path, call: Call) -> None:
    asked = ("export", run, "--to", tmp_path / "out", "--as", "unet", "--as", "adapter", "--no-ema")
    code, out, err = call(*asked, "--dry-run")
    assert code == 0
    assert not (tmp_path / "out").exists()
    assert "nothing was written" in err
    assert call(*asked)[1] == out


def test_the_result_as_json_names_the_files(run: Path, tmp_path: Path, call: Call) -> None:
    code, out, _ = call("export", run, "--to", tmp_path, "--as", "adapter", "--json")
    result = json.loads(out)
    assert code == 0
    assert [Path(path).suffix for path in result["files"]] == [".pt", ".safetensors", ".json"]
    assert (result["step"], result["average"], result["formats"]) == (50, True, ["adapter"])


def test_what_a_user_can_fix_is_one_line_and_exit_1(run: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "a-n3-to-copy").mkdir()
    (tmp_path / "a-n3-to-copy" / "a-n3.pt").write_text("mine")
    for asked, word in (
        (("--as", "lora"), "no LoRA"),
        (("--as", "onnx"), "no such format"),
        (("--as", "adapter"), "--force"),
        (("--checkpoint", "step-1"), "no checkpoint step-1"),
        (("--base", tmp_path), "no complete"),
    ):
        code, out, err = call("export", run, "--to", tmp_path, *asked)
        assert (code, out) == (1, "")
        *before, last = err.splitlines()
        assert word in last
        assert not any("rror" in line for line in before)  # neither a second error nor a traceback
