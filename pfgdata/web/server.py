"""An app behind its guard on a socket, until Ctrl-C: what `pfgdata browse` and `pfgtrain web` both start.

The socket is bound first, so that the guard knows its port and two servers never share one. Ctrl-C does not
wait for questions under way: the process ends, and nothing that is written here is ever half there.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvicorn

from pfgdata.errors import ConfigError
from pfgdata.web.guard import Guard, Place, Rules, is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["ServeOptions", "serve", "serving"]

_TRIED = 20  # ports from the usual one on
_HEAD_BYTES = 2**17  # of a request line and its headers; the guard's bound of an address lies below


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where to listen: a `port` that is named, or the first free one from `usual` on; 0 is any free one."""

    host: str = "127.0.0.1"
    port: int | None = None
    usual: int = 8787
    open: bool = False  # the address in the user's browser
    rules: Rules = field(default_factory=Rules)


def serve(app: ASGIApp, options: ServeOptions, *, ready: Callable[[Place], None]) -> None:
    """Serve `app` behind a Guard until Ctrl-C, which raises KeyboardInterrupt; `ready` is told the place.

    Raises ConfigError where it cannot listen there.
    """
    listening, place = _bound(options)
    with listening:
        server = _server(Guard(app, place, options.rules))

        def told() -> None:
            ready(place)
            if options.open:
                _open(place)

        server.ready = told
        server.run(sockets=[listening])


@contextmanager
def serving(app: ASGIApp, options: ServeOptions | None = None) -> Iterator[Place]:
    """Serve `app` behind a Guard from another thread for as long as the block runs."""
    options = options or ServeOptions(port=0)
    listening, place = _bound(options)
    started = threading.Event()
    with listening:
        server = _server(Guard(app, place, options.rules))
        server.ready = started.set
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="pfg-server")
        thread.start()
        try:
            started.wait()
            yield place
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    """A server that says when it listens."""

    ready: Callable[[], object] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()


def _server(app: Guard) -> _Server:
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        loop="asyncio",
        proxy_headers=False,  # X-Forwarded-For is anyone's word
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="error" if os.environ.get("PFG_DEBUG", "") not in ("", "0") else "critical",
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=0,
    )
    return _Server(config)


def _bound(options: ServeOptions) -> tuple[socket.socket, Place]:
    """A listening socket and its place; with a random token where others can reach it."""
    token = None if is_loopback(options.host) else secrets.token_urlsafe(24)
    ports = [options.port] if options.port is not None else [*range(options.usual, options.usual + _TRIED), 0]
    for port in ports:
        try:
            listening = _listen(options.host, port)
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE and port != ports[-1]:
                continue
            raise ConfigError(_why(options.host, port, problem)) from problem
        place = Place(host=options.host, port=listening.getsockname()[1], token=token)
        return listening, place
    raise AssertionError


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a server that has just ended
        listening.bind(address)
        listening.listen(128)
    except BaseException:
        listening.close()
        raise
    return listening


def _why(host: str, port: int, problem: OSError) -> str:
    if isinstance(problem, socket.gaierror):
        return f"--host {host}: no address of this machine is called so; name one, as 127.0.0.1"
    if problem.errno == errno.EADDRINUSE:
        return f"--port {port}: is taken by another program; leave it out for a free one"
    if problem.errno == errno.EACCES:
        return f"--port {port}: not allowed for this user; name one from 1024 on"
    if problem.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: is no address of this machine; 127.0.0.1 is, and 0.0.0.0 means all of them"
    return f"--host {host} --port {port}: {(problem.strerror or str(problem)).lower()}"


def _open(place: Place) -> None:
    threading.Thread(target=webbrowser.open, args=(place.address,), daemon=True).start()
