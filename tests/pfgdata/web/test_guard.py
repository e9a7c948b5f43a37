"""Who may ask: a name that leads here, another page, a missing token, too large a request."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pfgdata.web import Place, Rules, ServeOptions, serving
from tests.pfgdata.web.browser import Client

JSON = {"Content-Type": "application/json"}


async def echo(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


async def fails(request: Request) -> Response:
    raise KeyError("ours")


def app() -> Starlette:
    return Starlette(
        routes=[
            Route("/", echo, methods=["GET", "POST", "DELETE"]),
            Route("/x", echo),
            Route("/fails", fails),
        ]
    )


@pytest.fixture(scope="module")
def page() -> Iterator[Client]:
    with serving(app(), ServeOptions(port=0, rules=Rules(body=1000))) as place:
        yield Client(place)


@pytest.fixture(scope="module")
def open_page() -> Iterator[Client]:
    with serving(app(), ServeOptions(host="0.0.0.0", port=0)) as place:
        yield Client(place)


def test_our_own_page_may_ask(page: Client) -> None:
    assert page.get("/").status == 200
    for name in ("localhost", "127.0.0.1", "LOCALHOST"):
        assert page.send("GET", "/", headers={"Host": f"{name}:{page.place.port}"}).status == 200


def test_a_tunnel_has_another_port(page: Client) -> None:
    headers = {"Host": "localhost:9999", "Origin": "http://localhost:9999", **JSON}
    assert page.send("POST", "/", b"{}", headers).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "",
     "a@localhost", "localhost/", "localhost:x", "localhost:80:80", "[::1", "\\localhost"],
)  # fmt: skip
def test_a_name_that_was_made_to_lead_here_is_refused(page: Client, host: str) -> None:
    answer = page.send("GET", "/", headers={"Host": host})
    assert answer.status in (400, 403)
    assert b"bytes" not in answer.body


def test_two_hosts_or_none_are_refused(page: Client) -> None:
    for lines in (b"Host: localhost\r\nHost: evil.example\r\n", b""):
        with socket.create_connection(("127.0.0.1", page.place.port)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
            assert raw.recv(100).split()[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "file://", "http://localhost:1",
     "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}/", "ftp://127.0.0.1:{port}", ""],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_another_page_may_not_ask(page: Client, origin: str, method: str) -> None:
    headers = {"Origin": origin.format(port=page.place.port), **JSON}
    assert page.send(method, "/", b"{}", headers).status == 403


def test_what_a_foreign_page_embeds_is_refused_but_a_link_to_the_page_opens_it(page: Client) -> None:
    for site in ("cross-site", "same-site"):
        for mode in ("no-cors", "cors", "navigate"):
            headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
            assert page.send("GET", "/x", headers=headers).status == 403
            assert page.send("GET", "/", headers=headers).status == (200 if mode == "navigate" else 403)
    assert page.send("GET", "/x", headers={"Sec-Fetch-Site": "same-origin"}).status == 200


def test_a_change_names_its_origin_and_its_type(page: Client) -> None:
    ours = {"Origin": page.origin}
    assert page.send("POST", "/", b"{}", {**ours, **JSON}).status == 200
    assert (
        page.send("POST", "/", b"{}", {**ours, "Content-Type": "application/json; charset=utf-8"}).status
        == 200
    )
    assert page.send("POST", "/", b"{}", JSON).status == 403
    assert page.send("POST", "/", b"{}", ours).status == 415
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert page.send("POST", "/", b"{}", {**ours, "Content-Type": kind}).status == 415
    assert page.send("DELETE", "/", None, ours).status == 415


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(page: Client, method: str) -> None:
    answer = page.send(method, "/", headers={"Origin": "http://evil.example"})
    assert answer.status == 405
    assert "access-control-allow-origin" not in answer.headers


def test_a_body_that_is_too_large_is_refused_whatever_it_says_of_itself(page: Client) -> None:
    headers = {"Origin": page.origin, **JSON}
    assert page.send("POST", "/", b"x" * 1000, headers).json == {"bytes": 1000}
    assert page.send("POST", "/", b"x" * 1001, headers).status == 413
    chunked = b"POST / HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nContent-Type: application/json\r\n"
    chunked %= page.origin[7:].encode(), page.origin.encode()
    with socket.create_connection(("127.0.0.1", page.place.port)) as raw:
        raw.sendall(chunked + b"Transfer-Encoding: chunked\r\n\r\n" + (b"100\r\n" + b"x" * 256 + b"\r\n") * 4)
        raw.settimeout(10)
        assert raw.recv(100).split()[1] == b"413"


def test_an_address_that_is_too_long_is_refused(page: Client) -> None:
    assert page.send("GET", "/?a=" + "x" * 30_000).status == 200
    assert page.send("GET", "/?a=" + "x" * 40_000).status == 414
    with contextlib.suppress(ConnectionError):  # closed while we still send
        assert page.send("GET", "/?a=" + "x" * 400_000).status == 400
    assert page.get("/").status == 200


def test_every_answer_binds_the_browser(page: Client) -> None:
    refused = page.send("GET", "/", headers={"Host": "evil.example"})
    for answer in (page.get("/"), page.get("/nowhere"), page.get("/fails"), refused):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_at_an_address_of_others_nothing_is_answered_without_the_token(open_page: Client) -> None:
    place = open_page.place
    assert place.token is not None and len(place.token) >= 32
    for path in ("/", "/x", "/?token=", "/?token=wrong", f"/x?token={place.token}", "/?token=a&token=b"):
        answer = open_page.send("GET", path)
        assert answer.status == 401
        assert "set-cookie" not in answer.headers
    for cookie in ("x=1", f"{place.cookie}=", f"{place.cookie}=wrong", f"other={place.token}", "\x01;;=;"):
        assert open_page.send("GET", "/x", headers={"Cookie": cookie}).status == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address(open_page: Client) -> None:
    place = open_page.place
    answer = open_page.send("GET", f"/?token={place.token}&where=%3Cscript%3E%22")
    cookie = answer.headers["set-cookie"]
    assert answer.status == 200
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    assert str(place.token).encode() not in answer.body
    assert b"where=%3Cscript%3E%22" in answer.body and b"<script" not in answer.body
    assert open_page.send("GET", "/x", headers={"Cookie": cookie.split(";")[0]}).status == 200
    beside = f'other={{"a": [1]}}; x[y]=1; {cookie.split(";")[0]}; z="'  # of other servers on this host
    assert open_page.send("GET", "/x", headers={"Cookie": beside}).status == 200
    headers = {"Cookie": cookie.split(";")[0], "Host": "evil.example"}
    assert open_page.send("GET", "/x", headers=headers).status == 403


def test_the_printed_address_opens_the_page() -> None:
    assert Place(host="127.0.0.1", port=1).address == "http://127.0.0.1:1/"
    assert Place(host="::1", port=1).address == "http://[::1]:1/"
    assert Place(host="10.0.0.1", port=1, token="t").address == "http://10.0.0.1:1/?token=t"
    assert Place(host="0.0.0.0", port=1, token="t").address == f"http://{socket.gethostname()}:1/?token=t"


@pytest.mark.parametrize(
    ("host", "named", "other"),
    [
        ("0.0.0.0", "10.1.2.3", "evil.example"),
        ("::", "[fe80::1]:80", "evil.example"),
        ("10.0.0.1", "10.0.0.1:80", "10.0.0.2"),
        ("box.lan", "BOX.lan", "box"),
        ("::1", "[::1]:1", "[::2]:1"),
    ],
)
def test_a_place_knows_its_names(host: str, named: str, other: str) -> None:
    place = Place(host=host, port=1)
    assert place.knows(named)
    assert not place.knows(other)
