"""A real Ray cluster of nodes on this machine, each of which can be killed.

A node is a `ray start` in a session of its own. `ray stop` would end every Ray of the machine, so it is never
called: what is killed is found by the session that was started here.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Node", "RayHere", "ray_here"]

ROOT = Path(__file__).parent.parent
_START = 240  # seconds for a node to be there, on a machine that has much to do


@dataclass(frozen=True)
class Node:
    """One `ray start`, and all that it started."""

    session: int

    def pids(self, *, named: str = "") -> list[int]:
        """The processes of the node whose command line has `named`."""
        return [pid for pid in _session(self.session) if named in _command(pid)]

    def kill(self, *, named: str = "") -> list[int]:
        """SIGKILL the processes of the node whose command line has `named`; all by default."""
        return self.signal(signal.SIGKILL, named=named)

    def signal(self, number: signal.Signals, *, named: str) -> list[int]:
        """Send it to the processes of the node whose command line has `named`."""
        heard = self.pids(named=named)
        for pid in heard:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return heard


class RayHere:
    """A head on a port of its own, and further nodes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self.env: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
        }
        self.nodes: list[Node] = []

    def start(self, *, cpus: int = 1, **more: str) -> Node:
        """A node; the first is the head."""
        head = ["--head", "--port", str(self._port), "--include-dashboard", "false"]
        head += ["--temp-dir", str(self._folder)]
        where = ["--address", self.address] if self.nodes else head
        words = ["start", *where, "--block", "--num-cpus", str(cpus)]
        log = self._folder / f"node{len(self.nodes)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", *words],
                env={**self.env, **more},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        node = Node(process.pid)
        self.nodes.append(node)
        until = time.monotonic() + _START
        while b"Ray runtime started" not in log.read_bytes():
            assert time.monotonic() < until and process.poll() is None, log.read_text()
            time.sleep(0.1)
        return node

    def close(self) -> None:
        """Kill every process of every node."""
        for node in self.nodes:
            for _ in range(50):
                if not node.kill():
                    break
                time.sleep(0.1)


@contextmanager
def ray_here() -> Iterator[RayHere]:
    """A cluster without nodes yet; its sockets want a short path."""
    with tempfile.TemporaryDirectory(prefix="pfg-ray-", ignore_cleanup_errors=True) as folder:
        cluster = RayHere(Path(folder))
        try:
            yield cluster
        finally:
            cluster.close()


def _session(session: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            pid = int(path.name)
            fields = (path / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(pid)
    return found


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
