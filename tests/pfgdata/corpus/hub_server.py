"""A hub of datasets for tests: the three endpoints that pfg asks, with pages, redirects, terms and limits."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

__all__ = ["Hub", "serve"]

_SHA = "c0ffee" * 6 + "cafe"


@dataclass
class Hub:
    """One dataset, ORG/NAME of revision `main`; files over `large` bytes come from another host."""

    files: dict[str, bytes]
    token: str | None = None  # without which it is gated
    large: int = 100
    page: int = 2
    busy: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answers before the true ones
    cut: int = 0  # so many answers of large files break off in the middle
    asked: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)  # what the other host was told of the token
    endpoint: str = ""


def oid(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """`hub` at its `endpoint`, for as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, hub)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _answer(to: BaseHTTPRequestHandler, hub: Hub) -> None:
    url = urlsplit(to.path)
    path = unquote(url.path)
    hub.asked.append(path)
    given = to.headers.get("Authorization")
    if path.startswith("/cdn/"):
        if given:
            hub.leaked.append(given)
        _file(to, hub, path.removeprefix("/cdn/"), {"ETag": '"of-the-cdn"'})
    elif hub.busy:
        status, headers = hub.busy.pop(0)
        _send(to, status, b"{}", headers)
    elif hub.token and given != f"Bearer {hub.token}":
        _send(to, 403 if given else 401, b"{}", {"X-Error-Code": "GatedRepo"})
    elif not path.startswith(("/api/datasets/ORG/NAME/", "/datasets/ORG/NAME/")):
        _send(to, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
    elif path.startswith("/api/datasets/ORG/NAME/revision/"):
        known = path.rpartition("/")[2] == "main"
        _send(
            to,
            200 if known else 404,
            json.dumps({"sha": _SHA}).encode(),
            {} if known else {"X-Error-Code": "RevisionNotFound"},
        )
    elif path.startswith(f"/api/datasets/ORG/NAME/tree/{_SHA}"):
        _tree(to, hub, path.removeprefix(f"/api/datasets/ORG/NAME/tree/{_SHA}").strip("/"), url.query)
    else:
        _resolve(to, hub, path.removeprefix(f"/datasets/ORG/NAME/resolve/{_SHA}/"))


def _tree(to: BaseHTTPRequestHandler, hub: Hub, folder: str, query: str) -> None:
    names = sorted(name for name in hub.files if name.startswith(f"{folder}/" if folder else ""))
    start = int(parse_qs(query).get("cursor", ["0"])[0])
    if not names:
        _send(to, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
        return
    found = [{"type": "directory", "path": "a folder", "oid": "0", "size": 0}]
    for name in names[start : start + hub.page]:
        data = hub.files[name]
        one = {"type": "file", "path": name, "size": len(data), "oid": "git-" + oid(data)}
        found.append(one | ({"lfs": {"oid": oid(data), "size": len(data)}} if len(data) > hub.large else {}))
    headers = {}
    if start + hub.page < len(names):
        next_page = (
            f"{hub.endpoint}{urlsplit(to.path).path}?recursive=true&expand=false&cursor={start + hub.page}"
        )
        headers["Link"] = f'<{next_page}>; rel="next"'
    _send(to, 200, json.dumps(found).encode(), headers)


def _resolve(to: BaseHTTPRequestHandler, hub: Hub, name: str) -> None:
    data = hub.files.get(name)
    if data is None:
        _send(to, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
    elif len(data) > hub.large:
        elsewhere = hub.endpoint.replace("127.0.0.1", "localhost")
        linked = {"X-Linked-Etag": f'"{oid(data)}"', "X-Linked-Size": str(len(data))}
        _send(to, 302, b"", {"Location": f"{elsewhere}/cdn/{quote(name)}?Signature=secret", **linked})
    else:
        _file(to, hub, name, {"ETag": f'W/"git-{oid(data)}"'})


def _file(to: BaseHTTPRequestHandler, hub: Hub, name: str, headers: dict[str, str]) -> None:
    data, status = hub.files[name], 200
    if asked := to.headers.get("Range"):
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), int(last) + 1 if last else len(data)
        headers = {**headers, "Content-Range": f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}"}
        data, status = data[start:stop], 206
    if hub.cut and len(data) > hub.large:
        hub.cut -= 1
        _send(to, status, data, headers, cut=len(data) // 2)
    else:
        _send(to, status, data, headers)


def _send(
    to: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str], *, cut: int | None = None
) -> None:
    to.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        to.send_header(name, value)
    to.end_headers()
    try:
        to.wfile.write(data[:cut])
        if cut is not None:
            to.wfile.flush()
            to.connection.close()
    except OSError:  # who asked has gone
        pass
