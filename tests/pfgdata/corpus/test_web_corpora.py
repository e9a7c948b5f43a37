"""Images and tars named on a web server: what a bucket's reader does, without a bucket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from pfgdata.corpus import WalkCounts, WalkOptions, plan_segments, read, walk
from pfgdata.corpus.sources import stamp
from pfgdata.errors import AccessError, ConfigError
from pfgdata.paths import Url
from pfgdata.records import Found, ImageKey
from tests.pfgdata.corpus.packing import make_tar, make_zip
from tests.pfgdata.corpus.test_tar_index import write_index

MEMBERS = [(b"%03d.jpg" % number, bytes([number]) * 3000) for number in range(60)]


@dataclass
class Web:
    """Files by path; `refused` are those that only get a status."""

    files: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    address: str = ""

    def gets(self, name: str) -> list[str | None]:
        """The ranges of a file that were asked for."""
        return [part for verb, path, part in self.asked if verb == "GET" and path == name]


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server."""
    monkeypatch.setenv("PFG_CACHE", str(tmp_path / "cache"))
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name, part = unquote(self.path).lstrip("/"), self.headers.get("Range")
            web.asked.append((self.command, name, part))
            data, status = web.files.get(name, b""), web.refused.get(name, 200 if name in web.files else 404)
            if status != 200:
                data = b"no"
            self.send_response(206 if status == 200 and part else status)
            if part and status == 200:
                first, _, last = part.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(int(last) + 1, len(data))
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
                etag, data = f'"{hash(data)}"', data[start:stop]
            else:
                etag = f'"{hash(data)}"'
            self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    web.address = f"http://127.0.0.1:{server.server_port}"
    yield web
    server.shutdown()
    server.server_close()


def found_at(url: str) -> list[Found]:
    segments = plan_segments([Url.of(url)], {}, options=WalkOptions())
    return [one for segment in segments for one in walk(segment, counts=WalkCounts())]


def test_an_image_is_walked_and_read(web: Web) -> None:
    web.files["x/a b.jpg"] = b"12345"
    (one,) = found_at(f"{web.address}/x/a b.jpg")
    assert (one.key.root, one.size, one.mtime_ns) == (f"{web.address}/x", 5, stamp(str(hash(b"12345"))))
    result = read(Url(f"{web.address}/x"), one.key)
    assert (result.data, result.size, result.mtime_ns) == (b"12345", one.size, one.mtime_ns)


def test_a_url_as_a_browser_copies_it_names_the_same_image(web: Web) -> None:
    names = ("x y/a b.jpg", "画/猫.jpg", "x/100%20.jpg", "x/a?b#c+d.jpg")
    web.files |= {name: name.encode() for name in names}
    for name in names:
        (one,) = found_at(f"{web.address}/{quote(name)}")
        folder, _, last = name.rpartition("/")
        assert (one.key.root, one.key.path) == (f"{web.address}/{folder}", last.encode())
        assert read(Url(one.key.root), one.key).data == name.encode()
    assert found_at(f"{web.address}/x y/a b.jpg") == found_at(f"{web.address}/x%20y/a%20b.jpg")


def test_of_an_indexed_tar_only_the_members_asked_for_are_fetched(web: Web, tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", MEMBERS)
    web.files |= {"t.tar": tar.read_bytes(), "t.json": write_index(tar).read_bytes()}
    found = found_at(f"{web.address}/t.tar")
    assert [one.key.member for one in found] == [name for name, _ in MEMBERS]
    assert not web.gets("t.tar")
    for number in (3, 50, 4):
        assert read(Url(web.address), found[number].key).data == MEMBERS[number][1]
    assert web.gets("t.tar") == [f"bytes={n * 3584}-{n * 3584 + 512 + 3000 - 1}" for n in (3, 50, 4)]


def test_many_members_fetch_their_tar_once(web: Web, tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", MEMBERS)
    web.files |= {"t.tar": tar.read_bytes(), "t.json": write_index(tar).read_bytes()}
    found = found_at(f"{web.address}/t.tar")
    for _ in range(3):
        for one, (_, data) in zip(found, MEMBERS, strict=True):
            assert read(Url(web.address), one.key).data == data
    assert web.gets("t.tar").count(f"bytes=0-{tar.stat().st_size - 1}") == 1
    assert len(web.gets("t.tar")) < 61


def test_a_tar_without_an_index_is_fetched_to_be_listed(web: Web, tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", MEMBERS)
    web.files["t.tar"] = tar.read_bytes()
    found = found_at(f"{web.address}/t.tar")
    assert [read(Url(web.address), one.key).data for one in found] == [data for _, data in MEMBERS]
    assert web.gets("t.tar") == [f"bytes=0-{tar.stat().st_size - 1}"]


def test_a_zip_is_listed_and_read_by_ranges(web: Web, tmp_path: Path) -> None:
    members = [(f"{number}.png", bytes([number]) * 30_000) for number in range(50)]
    web.files["z.zip"] = make_zip(tmp_path / "z.zip", members, packing=0).read_bytes()
    found = {one.key.member: one for one in found_at(f"{web.address}/z.zip")}
    assert set(found) == {name.encode() for name, _ in members}
    assert read(Url(web.address), found[b"7.png"].key).data == bytes([7]) * 30_000
    assert None not in web.gets("z.zip")
    assert len(web.gets("z.zip")) < 9


def test_a_tar_that_changed_is_told_by_its_etag(web: Web, tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", MEMBERS)
    web.files |= {"t.tar": tar.read_bytes(), "t.json": write_index(tar).read_bytes()}
    found = found_at(f"{web.address}/t.tar")
    assert read(Url(web.address), found[0].key).mtime_ns == found[0].mtime_ns
    other = make_tar(
        tmp_path / "t.tar", [(b"first.jpg", b"1"), *((name, b"new" + data) for name, data in MEMBERS)]
    )
    web.files |= {"t.tar": other.read_bytes(), "t.json": write_index(other).read_bytes()}
    result = read(Url(web.address), found[0].key)
    assert result.data == b"new" + MEMBERS[0][1]
    assert result.mtime_ns != found[0].mtime_ns


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "no permission for reading"), (404, "gone, or never there")]
)
def test_what_a_server_refuses_is_an_access_failure(web: Web, status: int, reason: str) -> None:
    web.refused["a.jpg"] = status
    with pytest.raises(AccessError, match=reason) as error:
        read(Url(web.address), ImageKey(root=web.address, path=b"a.jpg"))
    assert web.address not in str(error.value)


def test_a_web_server_is_not_listed(web: Web) -> None:
    with pytest.raises(ConfigError, match="a web server has no list of its files; name archives or images"):
        found_at(f"{web.address}/folder")


@pytest.mark.parametrize(
    "url",
    ["https://user:secret@host/a.tar", "https://host/a.tar?X-Amz-Signature=secret", "s3://key:secret@b/x"],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="credentials come from the provider's own settings") as error:
        Url.of(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "s3:///x",
        "s3://b/../x",
        "s3://b/a\0",
        "http://h/%2e%2E/x",
        "http://h/%00",
        "http://h/%ff",
    ],
)
def test_what_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Url.of(url)
    assert Url.of("S3://bucket//x/y/") == Url("s3://bucket/x/y")
    assert Url.of("s3://bucket/a%20b") == Url("s3://bucket/a%20b")  # a key as it is
    assert Url.of("HTTPS://host/a%20b/100% c") == Url("https://host/a b/100% c")
