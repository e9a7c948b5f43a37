"""A proxy that fails as networks do: too busy, cut before a request, behind it, amid the answer."""

from __future__ import annotations

import http.client
import random
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit

__all__ = ["FaultyProxy"]

FAULTS = ("busy", "cut before", "cut behind", "cut amid")


class FaultyProxy(ThreadingHTTPServer):
    """Hands requests on to `server`; a part `share` of them meets a fault, which `met` counts."""

    daemon_threads = True

    def __init__(self, server: str, *, share: float, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = urlsplit(server).netloc
        self.met: Counter[str] = Counter()
        self._share, self._random, self._lock = share, random.Random(seed), Lock()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        """Answer until the block ends."""
        thread = Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()

    def fault(self) -> str | None:
        """What the next request meets."""
        with self._lock:
            found = self._random.choice(FAULTS) if self._random.random() < self._share else None
            self.met[found or "none"] += 1
            return found

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _pass(self) -> None:
        fault = self.server.fault()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "cut before":
            self._cut()
            return
        if fault == "busy":
            self._answer(503, [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
            return
        connection = http.client.HTTPConnection(self.server.host, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if fault == "cut behind":
            self._cut()
            return
        drop = ("transfer-encoding", "connection", "content-length")
        headers = [one for one in answer.getheaders() if one[0].lower() not in drop]
        length = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else len(data)
        self._answer(answer.status, headers, data, length=length, half=fault == "cut amid")

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        data: bytes,
        *,
        length: int | None = None,
        half: bool = False,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if half else data)
        if half:
            self.wfile.flush()
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass
