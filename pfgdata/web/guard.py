"""The guard before a page on this machine: who may ask at all, before anything of ours looks at the request.

Any web page that a browser shows can send requests to 127.0.0.1, and a name that an attacker owns can be made
to point there (DNS rebinding). So a request must name our own address as its Host, and come from our own page
where it says where it comes from; at any address but this machine's own it also brings a random token.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import socket
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "Place", "Rules", "is_loopback"]

_EVERYWHERE = ("0.0.0.0", "::")
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_METHODS = ("GET", "HEAD", "POST", "DELETE")
_CHANGING = ("POST", "DELETE")
_QUERY_BYTES = 2**15  # of an address: a long condition has some 2,000 letters
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page is served. `token` is None at this machine's own address, which only its users reach."""

    host: str
    port: int
    token: str | None = None

    @property
    def address(self) -> str:
        """What to open, with the token."""
        host = socket.gethostname() if self.host in _EVERYWHERE else self.host
        name = f"[{host}]" if ":" in host else host
        secret = f"?token={self.token}" if self.token else ""
        return f"http://{name}:{self.port}/{secret}"

    @property
    def cookie(self) -> str:
        """What the cookie with the token is called: cookies know no ports, so that its name has it."""
        return f"pfg-{self.port}"

    def knows(self, host: str) -> bool:
        """Whether the Host header `host` names this place; its port may be another, of a tunnel.

        At all addresses (0.0.0.0) any of them does, and the machine's name: to rebind needs another name.
        """
        name = _name_of(host)
        if name is None:
            return False
        if is_loopback(self.host):
            return name in _HERE or name == self.host.lower()
        if self.host in _EVERYWHERE:
            return _is_address(name) or name == socket.gethostname().lower()
        return name == self.host.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a request that changes something may bring: a body of at most so many bytes, of these types."""

    body: int = 2**20
    types: Collection[str] = ("application/json",)


class Guard:
    """ASGI: lets to `app` what may pass, and gives every answer the headers that bind a browser.

    A refusal is one line of JSON. The body of a request is read here, within its bound.
    """

    def __init__(self, app: ASGIApp, place: Place, rules: Rules | None = None) -> None:
        self._app = app
        self._place = place
        self._rules = rules or Rules()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        send = _sealed(send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        if self._place.token is not None and not self._has_cookie(headers):
            await self._admit(scope, send)
            return
        body = await _body(receive, self._rules.body)
        if body is None:
            await _answer(send, 413, f"the request is larger than {self._rules.body:,} bytes")
            return
        await self._app(scope, _replayed(body, receive), send)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Why a request may not pass: its status and a line; None where it may."""
        method, path = str(scope["method"]), str(scope["path"])
        if method not in _METHODS:
            return 405, f"only {', '.join(_METHODS)} are answered here"
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._place.knows(headers["host"]):
            return 403, "this server is not called so; open the address that the command printed"
        if len(scope["query_string"]) > _QUERY_BYTES:
            return 414, f"the address is longer than {_QUERY_BYTES:,} bytes; save a selection and name it"
        origin = headers.get("origin")
        if origin is not None and not _is_same(origin, headers["host"]):
            return 403, "from another page; only this server's own page may ask"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            opened = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
            if not (opened and path == "/"):
                return 403, "from another page; only this server's own page may ask"
        if method in _CHANGING:
            return self._of_a_change(origin, headers)
        return None

    def _of_a_change(self, origin: str | None, headers: Mapping[str, str]) -> tuple[int, str] | None:
        if origin is None:
            return 403, "without an Origin header; only this server's own page may change something"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in self._rules.types:
            return 415, f"the Content-Type must be {' or '.join(self._rules.types)}"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > self._rules.body:
            return 413, f"the request is larger than {self._rules.body:,} bytes"
        return None

    def _has_cookie(self, headers: Mapping[str, str]) -> bool:
        """Whether one of the cookies is ours; those of other servers of this host may be anything."""
        pairs = (one.strip().partition("=") for one in headers.get("cookie", "").split(";"))
        return any(name == self._place.cookie and self._is_token(value) for name, _, value in pairs)

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), (self._place.token or "").encode())

    async def _admit(self, scope: Scope, send: Send) -> None:
        """Take the token of `/?token=...` into a cookie, out of the address; refuse all else.

        The page goes on by a refresh of its own: behind a link of another site a redirect brings no cookie.
        """
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in asked if name == "token"]
        if (
            scope["path"] != "/"
            or scope["method"] != "GET"
            or len(given) != 1
            or not self._is_token(given[0])
        ):
            await _answer(send, 401, "open the address that the command printed, with its token")
            return
        rest = urlencode([(name, value) for name, value in asked if name != "token"])
        onward = escape(f"/?{rest}" if rest else "/")
        page = (
            f'<!doctype html><meta http-equiv="refresh" content="0; url={onward}"><a href="{onward}">open</a>'
        )
        cookie = f"{self._place.cookie}={self._place.token}; Path=/; HttpOnly; SameSite=Strict"
        headers = {"content-type": "text/html; charset=utf-8", "set-cookie": cookie}
        await _send(send, 200, headers, page.encode())


def is_loopback(host: str) -> bool:
    """Whether only users of this machine reach `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(host: str) -> str | None:
    """The name in a Host header, in small letters; None where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # a port that is none raises
    except ValueError:
        return None
    if parts.netloc != host or parts.username is not None or parts.path:
        return None
    return parts.hostname


def _is_same(origin: str, host: str) -> bool:
    """Whether a page of `origin` is one of the server called `host`; behind TLS of others it may be https."""
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _sealed(send: Send) -> Send:
    """`send`, with our headers on every answer that does not have its own."""

    async def sealed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            there = {bytes(name).lower() for name, _ in headers}
            more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message["headers"] = [*headers, *(pair for pair in more if pair[0] not in there)]
        await send(message)

    return sealed


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body of a request; None where it is cut off, or over `most` bytes."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            return None
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what comes after it."""
    waiting = [True]

    async def replayed() -> MutableMapping[str, Any]:
        if waiting:
            waiting.clear()
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


async def _answer(send: Send, status: int, error: str) -> None:
    text = json.dumps({"error": error, "at": None, "near": []}).encode()
    headers = {"content-type": "application/json"}
    if status == 405:
        headers["allow"] = ", ".join(_METHODS)
    await _send(send, status, headers, text)


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
