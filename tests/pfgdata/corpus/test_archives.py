"""Archives: members found in order and read in place, whatever was done to them, and nothing beside them."""

from __future__ import annotations

import os
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pfgdata.corpus import WalkCounts, WalkOptions, plan_segments, read, walk
from pfgdata.errors import AccessError, ConfigError, ContentError
from tests.pfgdata.corpus.packing import found_in, make_tar, make_zip, members_of, read_member

NAMES = (b"b.jpg", b"a/x.png", b"../../up.jpg", b"/abs.jpg", b"back\\slash.jpg", b"bad_\xff\x83.jpg")


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_a_tar_are_found_sorted_and_read_whatever_their_names(tmp_path: Path, kind: int) -> None:
    path = make_tar(tmp_path / "a.tar", [(name, b"<%s>" % name) for name in NAMES], kind)
    os.utime(path, ns=(5, 77))
    found = found_in(path)
    assert [one.key.member for one in found] == sorted(NAMES)
    assert {(one.key.root, one.key.path, one.mtime_ns) for one in found} == {(str(tmp_path), b"a.tar", 77)}
    for one in found:
        result = read(tmp_path, one.key)
        assert result.data == b"<%s>" % (one.key.member or b"")
        assert (result.size, result.mtime_ns) == (one.size, one.mtime_ns)
    assert os.listdir(tmp_path) == ["a.tar"]  # noqa: PTH208  (nothing was unpacked)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_a_zip_are_found_sorted_and_read(tmp_path: Path, packing: int) -> None:
    names = ["b.jpg", "a/x.png", "../../up.jpg", "/abs.jpg", "back\\slash.jpg", "初音.jpg"]
    path = make_zip(tmp_path / "a.cbz", [(name, name.encode() * 99) for name in names], packing)
    assert members_of(path) == sorted(name.encode() for name in names)
    assert all(read_member(path, name.encode()) == name.encode() * 99 for name in names)


def test_a_zip_name_that_is_not_utf_8_stays_as_its_bytes(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("XX.jpg", b"1"), ("YY.jpg", b"2")])
    path.write_bytes(path.read_bytes().replace(b"XX.jpg", b"\x83\xff.jpg").replace(b"YY.jpg", b"Y\0.jpg"))
    assert members_of(path) == [b"Y\0.jpg", b"\x83\xff.jpg"]
    assert (read_member(path, b"\x83\xff.jpg"), read_member(path, b"Y\0.jpg")) == (b"1", b"2")


def test_what_is_no_image_in_an_archive_is_counted_as_ignored(tmp_path: Path) -> None:
    others = [b"t.txt", b".h.jpg", b".d/a.jpg", b"__MACOSX/._a.jpg", b"in.zip", b"x.jpg.part", b"./.y.png"]
    path = make_tar(tmp_path / "a.tar", [(b"./ok.jpg", b"1"), *((name, b"x") for name in others)])
    with tarfile.open(path, "a") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), (".l.jpg", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "./ok.jpg"
            tar.addfile(info)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    counts = WalkCounts()
    assert [one.key.member for one in found_in(path, counts=counts)] == [b"./ok.jpg"]
    assert counts.ignored == len(others) + 2


def test_of_two_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [(b"a.jpg", b"old"), (b"b.jpg", b"b"), (b"a.jpg", b"newer")])
    assert [(one.key.member, one.size) for one in found_in(path)] == [(b"a.jpg", 5), (b"b.jpg", 1)]
    assert read_member(path, b"a.jpg") == b"newer"
    with pytest.warns(UserWarning, match="Duplicate"):
        make_zip(tmp_path / "a.zip", [("a.jpg", b"old"), ("a.jpg", b"newer")])
    assert read_member(tmp_path / "a.zip", b"a.jpg") == b"newer"


def test_archives_in_folders_stand_at_their_place_in_the_order(tmp_path: Path) -> None:
    for name in ("a.jpg", "z.jpg", "a/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    make_tar(tmp_path / "a.tar", [(b"2.jpg", b""), (b"1.jpg", b"")])
    make_zip(tmp_path / "a" / "c.zip", [("x.jpg", b"")])
    keys = [(b"a.jpg", None), (b"a.tar", b"1.jpg"), (b"a.tar", b"2.jpg"), (b"a/b.jpg", None)]
    keys += [(b"a/c.zip", b"x.jpg"), (b"z.jpg", None)]
    assert [(one.key.path, one.key.member) for one in found_in(tmp_path)] == keys
    counts = WalkCounts()
    plain = found_in(tmp_path, WalkOptions(), counts)
    assert [one.key.path for one in plain] == [b"a.jpg", b"a/b.jpg", b"z.jpg"] and counts.ignored == 2
    (segment,) = plan_segments([tmp_path, tmp_path / "a.tar"], {})  # a named one is opened all the same
    both = [(one.key.path, one.key.member) for one in walk(segment, counts=WalkCounts())]
    assert both == [key for key in keys if key[0] != b"a/c.zip"]


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_bytes_that_are_no_archive_are_one_failure_of_content(tmp_path: Path, name: str) -> None:
    for data in (b"", b"nonsense" * 500, b"\x1f\x8b\x08 gzip", b"PK\x05\x06" + b"\xff" * 30, b"\0" * 100):
        (tmp_path / name).write_bytes(data)
        (one,) = found_in(tmp_path / name)
        assert one.key.member is None
        with pytest.raises(ContentError) as error:
            read_member(tmp_path / name, None)
        assert "\n" not in str(error.value) and len(str(error.value)) < 110


def test_a_tar_that_breaks_off_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    whole = make_tar(tmp_path / "whole.tar", [(b"%d.jpg" % n, b"x" * 2000) for n in range(5)]).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: 3 * 2560 + 1500])
    assert members_of(cut) == [None, b"0.jpg", b"1.jpg", b"2.jpg", b"3.jpg"]
    assert len(read_member(cut, b"2.jpg")) == 2000
    with pytest.raises(ContentError, match="cut off: its archive ends within it"):
        read_member(cut, b"3.jpg")
    with pytest.raises(ContentError, match="damaged or cut off after 4 images"):
        read_member(cut, None)
    cut.write_bytes(whole[:2560] + b"garbage" * 200 + whole[2560:])
    assert members_of(cut) == [None, b"0.jpg"]


def test_a_damaged_member_fails_and_its_neighbours_do_not(tmp_path: Path) -> None:
    noise = os.urandom(3000)
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = make_zip(tmp_path / "a.zip", [("a.jpg", b"1"), ("b.jpg", noise), ("c.jpg", b"3")], packing)
        data = bytearray(path.read_bytes())
        data[1500:1510] = b"0123456789"
        path.write_bytes(data)
        assert (read_member(path, b"a.jpg"), read_member(path, b"c.jpg")) == (b"1", b"3")
        with pytest.raises(ContentError, match="damaged in its archive"):
            read_member(path, b"b.jpg")
        path.unlink()


def test_a_zip_bomb_is_not_unpacked_beyond_what_is_allowed_or_stated(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("bomb.jpg", bytes(50 << 20)), ("ok.jpg", b"1")])
    with pytest.raises(ContentError, match="52,428,800 bytes, over the limit of 1,048,576"):
        read_member(path, b"bomb.jpg")
    size = (50 << 20).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(ContentError, match="not the bytes that were packed"):
        read_member(path, b"bomb.jpg")
    assert read_member(path, b"ok.jpg") == b"1"


def test_what_is_encrypted_or_packed_otherwise_is_named(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", [("a.jpg", b"1" * 100)], zipfile.ZIP_BZIP2)
    with pytest.raises(ContentError, match="packed by zip method 12; repack it stored or deflated"):
        read_member(path, b"a.jpg")
    make_zip(path, [("a.jpg", b"1")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ContentError, match="encrypted; unpack the archive with its password"):
        read_member(path, b"a.jpg")


def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for name in ("a.tar.gz", "b.tgz", "c.tar.zst"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ConfigError, match=r"compressed tar, .*; unpack it to \.tar or to a folder"):
            plan_segments([tmp_path / name], {})
    assert [one.key.path for one in found_in(tmp_path)] == [b"a.tar.gz", b"b.tgz", b"c.tar.zst"]
    with pytest.raises(ContentError, match=r"unpack it to \.tar or to a folder"):
        read_member(tmp_path / "a.tar.gz", None)


def test_an_archive_that_changed_is_read_as_it_is_now(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [(b"a.jpg", b"old"), (b"b.jpg", b"b")])
    assert read_member(path, b"a.jpg") == b"old"
    make_tar(path, [(b"c.jpg", b"c" * 5000), (b"a.jpg", b"newer")])
    assert read_member(path, b"a.jpg") == b"newer"
    with pytest.raises(AccessError, match="no longer in its archive"):
        read_member(path, b"b.jpg")
    with pytest.raises(AccessError, match="changed since it was listed"):
        read_member(path, None)
    path.unlink()
    with pytest.raises(AccessError, match="gone"):
        read_member(path, b"a.jpg")


def test_a_link_to_an_archive_elsewhere_is_opened_only_if_links_are_followed(tmp_path: Path) -> None:
    make_tar(tmp_path / "real.tar", [(b"a.jpg", b"a")])
    (tmp_path / "corpus").mkdir()
    link = tmp_path / "corpus" / "l.tar"
    link.symlink_to(tmp_path / "real.tar")
    counts = WalkCounts()
    assert found_in(link, counts=counts) == [] and counts.links == 1
    (one,) = found_in(link, WalkOptions(follow_links=True))
    assert read(tmp_path / "corpus", one.key, follow_links=True).data == b"a"
    with pytest.raises(AccessError, match="a link out of the corpus"):
        read(tmp_path / "corpus", one.key)


def test_many_threads_read_many_archives(tmp_path: Path) -> None:
    for n in range(6):
        members = [(f"{m}.jpg", b"%d-%d" % (n, m) * 50) for m in range(40)]
        make_zip(tmp_path / f"{n}.zip", members)
        make_tar(tmp_path / f"{n}.tar", [(name.encode(), data) for name, data in members])
    found = found_in(tmp_path)
    assert len(found) == 480
    start = threading.Barrier(8)

    def work(part: int) -> int:
        start.wait()
        for one in found[part::8]:
            number, member = int(one.key.path[:1]), one.key.member or b""
            assert read(tmp_path, one.key).data == b"%d-%d" % (number, int(member[:-4])) * 50
        return len(found[part::8])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 480
