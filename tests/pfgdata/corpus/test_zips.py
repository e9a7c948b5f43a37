"""Zips: what is no file, one entry that is damaged, ends that are missing, and what is left over."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

import pytest

from pfgdata.corpus import WalkCounts
from pfgdata.errors import ContentError
from tests.pfgdata.corpus.packing import found_in, make_zip, members_of, read_member

NAMES = [b"%02d.jpg" % n for n in range(5)]


def numbered(path: Path) -> bytes:
    """A zip of five images."""
    return make_zip(path, [(name.decode(), name) for name in NAMES]).read_bytes()


def entry(data: bytes, number: int) -> int:
    """Where the entry of image `number` begins in the list of members."""
    return [at for at in range(len(data)) if data.startswith(b"PK\1\2", at)][number]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    """The data with some bytes exchanged."""
    return data[:at] + new + data[at + len(new) :]


def why(path: Path, member: bytes | None) -> str:
    """Why an archive, or its member, is a failure."""
    with pytest.raises(ContentError) as error:
        read_member(path, member)
    assert "\n" not in str(error.value) and len(str(error.value)) < 120
    return str(error.value)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(0o120777, "a symbolic link in its archive"), (0o010644, "a device or pipe"), (0o020644, "a device")],
)
def test_a_member_that_is_an_image_by_name_and_no_file_is_a_failure_not_ignored(
    tmp_path: Path, mode: int, reason: str
) -> None:
    path = make_zip(tmp_path / "a.zip", [("ok.jpg", b"1")])
    with zipfile.ZipFile(path, "a") as archive:
        for name, kind in (("x.jpg", mode), ("folder.jpg", 0o040755), ("also.jpg/", 0)):
            info = zipfile.ZipInfo(name)
            info.external_attr = kind << 16
            archive.writestr(info, "/etc/passwd" if name == "x.jpg" else "")
    counts = WalkCounts()
    assert [one.key.member for one in found_in(path, counts=counts)] == [b"ok.jpg", b"x.jpg"]
    assert counts.ignored == 0 and reason in why(path, b"x.jpg")


@pytest.mark.parametrize(
    ("place", "new", "name"),
    [
        (8, b"\0\x08", b"\xff2.jpg"),  # its name is said to be UTF-8
        (6, b"\xff\0", b"02.jpg"),  # made for a version of zip to come
        (20, b"\xff\xff\xff\xff", b"02.jpg"),  # a size that should be among the extra fields
        (42, b"\xff\xff\xff\xff", b"02.jpg"),
    ],
)
def test_a_bad_entry_costs_its_own_member_at_most(
    tmp_path: Path, place: int, new: bytes, name: bytes
) -> None:
    path, data = tmp_path / "a.zip", numbered(tmp_path / "a.zip")
    at = entry(data, 2)
    path.write_bytes(changed(changed(data, at + 46, name), at + place, new))
    assert members_of(path) == sorted([*NAMES[:2], name, *NAMES[3:]])
    assert [read_member(path, one) for one in NAMES if one != b"02.jpg"] == [*NAMES[:2], *NAMES[3:]]
    if place < 20:
        assert read_member(path, name) == b"02.jpg"
    else:
        why(path, name)


def test_extra_fields_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, extra in ((b"00.jpg", b""), (b"01.jpg", b"\x01\0\x08\0" + bytes(8))):
            info = zipfile.ZipInfo(name.decode())
            info.extra = extra
            archive.writestr(info, name)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x01\0\x08\0" + bytes(8), b"\x01\0\xff\0" + bytes(8)))
    assert [read_member(path, name) for name in (b"00.jpg", b"01.jpg")] == [b"00.jpg", b"01.jpg"]


def test_a_zip_of_64_bits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.jpg", "w", force_zip64=True) as member:
        member.write(b"64")
    data = path.read_bytes()
    at = entry(data, 0)
    end = data.index(b"PK\5\6")
    extra = struct.pack("<2H3Q", 1, 24, 2, 2, 0)
    central = bytearray(data[at : at + 46])
    central[20:28], central[42:46] = b"\xff" * 8, b"\xff" * 4
    central[30:32] = len(extra).to_bytes(2, "little")
    listed = bytes(central) + b"a.jpg" + extra
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(listed), at)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at + len(listed), 1)
    tail = data[end : end + 8] + b"\xff" * 12 + b"\0\0"
    path.write_bytes(data[:at] + listed + end64 + locator + tail)
    assert zipfile.ZipFile(path).read("a.jpg") == b"64"
    assert members_of(path) == [b"a.jpg"] and read_member(path, b"a.jpg") == b"64"


def test_a_list_of_members_that_breaks_off_gives_those_before(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", numbered(tmp_path / "a.zip")
    path.write_bytes(changed(data, entry(data, 3), b"XX"))
    assert members_of(path) == [None, *NAMES[:3]]
    assert why(path, None) == "damaged: its list of members breaks off after 3 images"
    path.write_bytes(changed(data, data.index(b"PK\5\6") + 10, b"\x09\0"))  # the list of nine
    assert members_of(path) == [None, *NAMES]


def test_a_zip_without_its_end_and_a_part_of_one_are_named(tmp_path: Path) -> None:
    path, data = tmp_path / "a.cbz", numbered(tmp_path / "a.cbz")
    path.write_bytes(data[: entry(data, 4)])
    assert members_of(path) == [None]
    assert why(path, None) == (
        "cut off or damaged: a zip's list of members, at its end, is missing; fetch it again"
    )
    path.write_bytes(changed(data, data.index(b"PK\5\6") + 4, b"\2\0"))
    assert members_of(path) == [None]
    assert why(path, None).startswith("one part of a split zip; join its parts")


def test_what_is_left_over_around_a_zip_is_said_and_zeros_are_not(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", numbered(tmp_path / "a.zip")
    path.write_bytes(data + bytes(3000))
    assert members_of(path) == NAMES
    path.write_bytes(data + b"\r\n--boundary--")
    assert members_of(path) == [None, *NAMES]
    assert why(path, None) == "14 bytes left over after its end are not read; fetch it again, or repack it"
    make_zip(tmp_path / "b.zip", [("vanished.jpg", b"v")])
    path.write_bytes((tmp_path / "b.zip").read_bytes() + data)
    assert members_of(path) == [None, *NAMES] and read_member(path, NAMES[0]) == NAMES[0]
    assert "bytes before its first member are not read; if zips were joined, take them apart" in why(
        path, None
    )


def test_a_comment_and_a_program_before_it_are_part_of_a_zip(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", numbered(tmp_path / "a.zip")
    path.write_bytes(b"MZ this program unpacks itself" + data[:-2] + b"\5\0hello")
    assert members_of(path) == NAMES and read_member(path, NAMES[4]) == NAMES[4]


def test_a_place_before_the_archive_is_a_failure_of_its_member(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", numbered(tmp_path / "a.zip")
    end = data.index(b"PK\5\6")
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    path.write_bytes(changed(data, end + 16, (start + 1000).to_bytes(4, "little")))
    assert members_of(path) == NAMES and why(path, NAMES[0]) == "cut off: its archive ends within it"


def test_any_byte_of_a_zip_may_be_another(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", numbered(tmp_path / "a.zip")
    for at in range(len(data)):
        path.write_bytes(changed(data, at, bytes([data[at] ^ 0x41])))
        os.utime(path, ns=(at, at))
        names = members_of(path)
        for name in names:
            try:
                assert read_member(path, name) in NAMES
            except ContentError as problem:
                assert str(problem)
        assert None in names or len(names) >= len(NAMES) - 1
