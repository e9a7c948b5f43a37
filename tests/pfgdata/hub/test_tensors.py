"""The one writer of .safetensors: the same bytes each time, for whom the umask says, whole or not at all."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import pfgdata
from pfgdata.hub import write_tensors

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(2, dtype=torch.float16), "c": torch.zeros(0)}
HEADER = {f"key {number}": "v" * number for number in range(12)} | {"format": "pt", "é": '\N{SNOWMAN}\n"'}


def test_equal_tensors_and_header_give_equal_bytes(tmp_path: Path) -> None:
    for number in range(20):
        write_tensors(
            tmp_path / str(number), TENSORS, header=dict(reversed(HEADER.items())) if number else HEADER
        )
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    back = load_file(tmp_path / "0")
    assert back.keys() == TENSORS.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in TENSORS.items())
    with safe_open(tmp_path / "0", framework="pt") as file:
        assert file.metadata() == HEADER


def test_a_tensor_turned_and_none_of_metadata_are_written_too(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"turned": TENSORS["b"].T})
    assert torch.equal(load_file(tmp_path / "x")["turned"], TENSORS["b"].T)
    with safe_open(tmp_path / "x", framework="pt") as file:
        assert not file.metadata()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0o000, 0o666)])
def test_the_umask_decides_who_may_read_it(umask: int, mode: int, tmp_path: Path) -> None:
    (tmp_path / "x").touch(0o600)  # also where a file of the name is replaced
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "x", TENSORS)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"before")
    one = torch.ones(2)
    with pytest.raises(RuntimeError, match="share memory"):
        write_tensors(tmp_path / "x", {"a": one, "b": one})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"before"


def test_nothing_else_of_ours_writes_safetensors() -> None:
    top, writers = Path(pfgdata.__file__).parent.parent, set()
    for path in (
        file for package in ("pfgdata", "pfgtrain", "pipelines") for file in (top / package).rglob("*.py")
    ):
        names = {
            getattr(node, "name", None) or getattr(node, "attr", None)
            for node in ast.walk(ast.parse(path.read_text()))
        }
        if names & {"save_file", "save_pretrained", "serialize_file", "save_model"}:
            writers.add(path.relative_to(top).as_posix())
    assert writers == {"pfgdata/hub/tensors.py"}
