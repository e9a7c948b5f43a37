"""`pfgtrain web`: the address comes first, torch after it, Ctrl-C ends it; wrong words are one line."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pfgdata.web import Place
from pfgtrain.generate import GenerateJob
from pfgtrain.web import WebJob
from tests.pfgtrain.conftest import Call
from tests.pfgtrain.web.client import Client

ROOT = Path(__file__).parents[3]


@contextmanager
def started(*words: object, at: Path) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """The command in a process of its own, once it has printed its address."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pfgtrain", "web", *map(str, words)]
    process = subprocess.Popen(
        command, cwd=at, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().strip())
        assert address.hostname and address.port, process.communicate()
        yield process, Client(Place(host=address.hostname, port=address.port))
    finally:
        process.kill()
        process.communicate()


def test_the_demo_draws_at_once_and_its_command_makes_the_same_pictures(call: Call, tmp_path: Path) -> None:
    with started("demo", "--port", 0, at=tmp_path) as (process, page):
        assert page.get("/api/state")["model"]["state"] == "loading"  # torch comes after the address
        assert page.get("/api/about")["settings"]["guidance_scale"] == 2.0  # as the run is best drawn
        guide = page.post("/api/samples", {"name": "curls.webp"})["id"]
        settings = {"images_per_guide": 2, "num_inference_steps": 2, "guidance_scale": 2}
        (number,) = page.post("/api/drawings", {"guides": [guide], "settings": settings})["drawings"]
        drawn = page.drawn(number)
        assert drawn["state"] == "done", drawn["error"]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "pfg-web" in told and "Traceback" not in told
    code, out, err = call(*shlex.split(drawn["command"])[1:], "--out", tmp_path / "again")
    assert code == 0, err
    made = [Path(line) for line in out.splitlines()]
    assert [path.name for path in made] == [*(one["name"] for one in drawn["pictures"]), drawn["sheet"]]
    for path in made:
        assert path.read_bytes() == (tmp_path / "pfg-web" / "pictures" / path.name).read_bytes()


def test_ctrl_c_while_torch_is_imported_ends_at_once(tmp_path: Path) -> None:
    with started("demo", "--port", 0, at=tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "interrupted" and "Traceback" not in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "name a run (or demo), or --adapter and --base"),
        (["demo", "--adapter", "x.pt", "--base", "demo"], 2, "name a run (or demo), or --adapter and --base"),
        (["--adapter", "x.pt"], 2, "--adapter needs --base"),
        (["--adapter", "x.pt", "--base", "demo"], 1, "x.pt: no such file"),
        (["nothing"], 1, "nothing"),
        (["demo", "--shards", "nothing"], 1, "nothing"),
        (["demo", "--host", "nobody.invalid"], 1, "--host nobody.invalid"),
    ],
)
def test_wrong_words_are_one_line_before_any_address(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, out, err = call("web", *words)
    assert (ended, out) == (code, "")
    assert said in err and err.count("\n") == 1


def test_the_models_of_a_command_are_named_for_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pt").write_bytes(b"")
    (tmp_path / "base").mkdir()
    job = WebJob(adapter="x.pt", base="base", tagger="demo", device="cpu").drawing()
    assert job == GenerateJob(
        adapter=str(tmp_path / "x.pt"), base=str(tmp_path / "base"), tagger="demo", device="cpu"
    )
    assert WebJob(base="org/name").drawing().base == "org/name"
