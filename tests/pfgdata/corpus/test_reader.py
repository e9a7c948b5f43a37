"""Reading one file: whole, or a reason."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from pfgdata.corpus import read
from pfgdata.errors import AccessError, ContentError
from pfgdata.records import ImageKey


def key(path: str | bytes, member: bytes | None = None) -> ImageKey:
    return ImageKey(root="/corpus", path=os.fsencode(path), member=member)


def test_a_file_is_read_with_its_stat(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    os.utime(tmp_path / "a.jpg", ns=(1, 99))
    result = read(tmp_path, key("a.jpg"))
    assert (result.data, result.size, result.mtime_ns) == (b"12345", 5, 99)


def test_a_name_is_only_bytes(tmp_path: Path) -> None:
    name = b"bad_\xff\n$(touch pwned) -rf.jpg"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    assert read(tmp_path, key(name)).data == b"x"


def test_an_empty_file_is_read_as_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert read(tmp_path, key("a.jpg")).data == b""


def test_a_link_inside_the_root_is_read_and_one_out_of_it_is_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (tmp_path / "private.png").write_bytes(b"secret")
    (root / "d" / "a.jpg").write_bytes(b"a")
    (root / "in.jpg").symlink_to("d/a.jpg")
    (root / "out.jpg").symlink_to("../private.png")
    (root / "up").symlink_to("..")
    assert read(root, key("in.jpg")).data == b"a"
    for path in ("out.jpg", "up/private.png", "../private.png"):
        with pytest.raises(AccessError, match="a link out of the corpus"):
            read(root, key(path))


def test_a_root_behind_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(b"a")
    (tmp_path / "link").symlink_to("real")
    assert read(tmp_path / "link", key("a.jpg")).data == b"a"


def test_nothing_but_a_plain_file_is_ever_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for a writer for ever
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "sock.png"))
    for path, what in (("pipe.jpg", "a named pipe"), ("sock.png", "a socket"), ("folder.jpg", "a folder")):
        with pytest.raises(AccessError, match=f"{what}, no plain file"):
            read(tmp_path, key(path))
    with pytest.raises(AccessError, match="a device"):
        read(Path("/"), key("dev/zero"))


def test_a_file_that_cannot_be_had_is_named_by_its_reason(tmp_path: Path) -> None:
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    for path, reason in (("gone.jpg", "gone"), ("dangling.jpg", "gone"), ("self.jpg", "a link to itself")):
        with pytest.raises(AccessError, match=reason):
            read(tmp_path, key(path))


def test_a_file_without_permission_is_an_access_failure(closed_to_us: Path) -> None:
    (closed_to_us / "a.jpg").write_bytes(b"x")
    (closed_to_us / "a.jpg").chmod(0)
    with pytest.raises(AccessError, match="permission denied"):
        read(closed_to_us, key("a.jpg"))


def test_an_input_error_is_an_access_failure() -> None:
    with pytest.raises(AccessError):
        read(Path("/proc/self"), key("mem"))


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ContentError, match="over the limit"):
        read(tmp_path, key("sparse.jpg"))


def test_a_file_that_keeps_changing_is_never_returned_torn(tmp_path: Path) -> None:
    path, stop = tmp_path / "a.jpg", threading.Event()
    path.write_bytes(b"a" * 200_000)

    def rewrite() -> None:
        letter = 0
        while not stop.is_set():
            letter = 1 - letter
            path.write_bytes((b"a", b"b")[letter] * 200_000)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        begun, changed = time.monotonic(), 0
        while time.monotonic() < begun + (
            0.3 if changed else 30
        ):  # on a busy machine none may change at first
            try:
                data = read(tmp_path, key("a.jpg")).data
            except AccessError as error:
                assert str(error) == "changed while it was read"
                changed += 1
            else:
                assert len(set(data)) <= 1
        assert changed
    finally:
        stop.set()
        writer.join()
