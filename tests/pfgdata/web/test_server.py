"""The command: where it listens, what it says, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pytest
from starlette.applications import Starlette

from pfgdata.cli import app
from pfgdata.errors import ConfigError
from pfgdata.screen import run_app
from pfgdata.web import ServeOptions, serving
from tests.pfgdata.web.conftest import Corpus

COMMAND = [sys.executable, "-c", "from pfgdata.__main__ import main; main()", "browse"]


@contextmanager
def running(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_a_taken_port_is_another_ones_and_a_named_one_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(Starlette(), ServeOptions(usual=port)) as place:
            assert place.port != port
        with (
            pytest.raises(ConfigError, match=rf"--port {port}: is taken"),
            serving(Starlette(), ServeOptions(port=port)),
        ):
            pass


def test_an_address_of_another_machine_is_an_error() -> None:
    for host in ("192.0.2.1", "no such host"):
        with (
            pytest.raises(ConfigError, match=f"--host {host}"),
            serving(Starlette(), ServeOptions(host=host, port=0)),
        ):
            pass


def test_the_command_prints_its_address_and_ends_at_ctrl_c(corpus: Corpus) -> None:
    with running(str(corpus.feats), "--port", "0") as (process, address):
        store = json.load(urllib.request.urlopen(f"{address}api/store"))
        assert store["images"] == 49
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert time.monotonic() - begun < 1.5  # half a second on a machine with nothing else to do
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "interrupted"


def test_as_many_images_as_a_person_may_pick_are_saved_at_once(corpus: Corpus) -> None:
    asked = {"name": "many", "only": [str(UUID(int=number)) for number in range(400_000)]}
    with running(str(corpus.feats), "--port", "0") as (_, address):
        request = urllib.request.Request(
            f"{address}api/selections",
            json.dumps(asked).encode(),
            {"Origin": address.rstrip("/"), "Content-Type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        told = json.load(refused.value)["error"]
    assert told == "400,000 of 400,000 picked images are not in this store; pick anew"


def test_ctrl_c_does_not_wait_for_a_question(corpus: Corpus) -> None:
    slow = " + ".join(["levenshtein(path, path || root)"] * 40) + " > 0"
    with running(str(corpus.feats), "--port", "0") as (process, address):
        port = int(address.rstrip("/").rpartition(":")[2])
        raw = socket.create_connection(("127.0.0.1", port))
        raw.sendall(f"GET /api/select?where={quote(slow)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=5)
        raw.close()
    assert process.returncode == 130


def test_the_store_is_that_of_the_environment_too(corpus: Corpus) -> None:
    with running("--port", "0", PFG_STORE=str(corpus.feats)) as (_, address):
        assert json.load(urllib.request.urlopen(f"{address}api/store"))["path"] == str(corpus.feats)


def test_another_address_is_printed_with_its_token(corpus: Corpus) -> None:
    with running(str(corpus.feats), "--port", "0", "--host", "0.0.0.0") as (_, address):
        assert "/?token=" in address


@pytest.mark.parametrize(
    ("words", "error", "code"),
    [
        (["nowhere"], "nowhere: no store here; make one with: pfgdata ingest IMAGES --store nowhere", 1),
        (["--thumbnails", "much"], "--thumbnails much: write a number and a unit, as 500mb or 2gb", 2),
        (["--host", "192.0.2.1"], "--host 192.0.2.1: is no address of this machine", 1),
        (["--threshold", "2"], "threshold 2.0: the store keeps scores from", 1),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    corpus: Corpus, words: list[str], error: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    there = words if words[0] == "nowhere" else [str(corpus.feats), *words]
    with socket.create_server(("127.0.0.1", 0)) as taken:  # what is no error does not serve for ever
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as ended:
            run_app(app, args=["browse", *there, "--port", port], name="pfgdata")
    assert ended.value.code == code
    said = capsys.readouterr()
    assert error in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_without_the_extra_the_command_says_what_to_install(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('no', name='starlette')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    done = subprocess.run(
        [*COMMAND, str(corpus.feats)], capture_output=True, text=True, timeout=30, env=environment
    )
    assert done.returncode == 1
    assert done.stderr == "error: the page needs starlette; run: pip install 'pfg[web]'\n"
