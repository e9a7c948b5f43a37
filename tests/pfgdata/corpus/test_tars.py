"""Tars: what is linked, sparse or no file, where one is cut or damaged, and what is left over at its end."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pfgdata.corpus import WalkCounts
from pfgdata.errors import ContentError
from tests.pfgdata.corpus.packing import found_in, make_tar, members_of, read_member

BLOCK = 512


def add_special(path: Path, kind: bytes, name: str, target: str = "") -> None:
    """Append a member that is no plain file."""
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)


def numbered(path: Path, count: int, kind: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of `count` images of one block each: image n has its header at 1,024 n."""
    return make_tar(path, [(b"%02d.jpg" % n, b"%d" % n) for n in range(count)], kind).read_bytes()


def why(path: Path, member: bytes | None) -> str:
    """Why an archive, or its member, is a failure."""
    with pytest.raises(ContentError) as error:
        read_member(path, member)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_hard_link_is_its_targets_bytes(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [(b"./a.jpg", b"a"), (b"blob", b"b"), (b"a.txt", b"1girl")])
    links = {"l.jpg": "./a.jpg", "again.jpg": "l.jpg", "b.jpg": "./blob", "l.txt": "a.txt"}
    for name, target in links.items():
        add_special(path, tarfile.LNKTYPE, name, target)
    found = {one.key.member: one.size for one in found_in(path)}
    assert found == {b"./a.jpg": 1, b"again.jpg": 1, b"b.jpg": 1, b"l.jpg": 1}
    contents = {name: read_member(path, name) for name in (b"l.jpg", b"again.jpg", b"b.jpg", b"l.txt")}
    assert contents == {b"l.jpg": b"a", b"again.jpg": b"a", b"b.jpg": b"b", b"l.txt": b"1girl"}


def test_a_file_packed_twice_is_a_hard_link_to_itself_and_still_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    os.link(tmp_path / "a.jpg", tmp_path / "b.jpg")
    subprocess.run(["tar", "cf", "a.tar", "a.jpg", "b.jpg", "a.jpg"], cwd=tmp_path, check=True)
    assert members_of(tmp_path / "a.tar") == [b"a.jpg", b"b.jpg"]
    assert read_member(tmp_path / "a.tar", b"a.jpg") == read_member(tmp_path / "a.tar", b"b.jpg") == b"a"


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        (tarfile.LNKTYPE, "gone.jpg", "a hard link to what its archive does not hold"),
        (tarfile.LNKTYPE, "x.jpg", "a hard link to what its archive does not hold"),
        (tarfile.SYMTYPE, "/etc/passwd", "a symbolic link in its archive, which is not followed"),
        (tarfile.CHRTYPE, "", "a device in its archive"),
        (tarfile.BLKTYPE, "", "a device in its archive"),
        (tarfile.FIFOTYPE, "", "a named pipe in its archive"),
        (b"M", "", "the rest of a file that begins in another part"),
        (b"V", "", "of a kind that only some tars know"),
    ],
)
def test_a_member_that_is_an_image_by_name_and_no_file_is_a_failure_not_ignored(
    tmp_path: Path, kind: bytes, target: str, reason: str
) -> None:
    path = make_tar(tmp_path / "a.tar", [(b"ok.jpg", b"1")])
    add_special(path, kind, "x.jpg", target)
    counts = WalkCounts()
    assert [one.key.member for one in found_in(path, counts=counts)] == [b"ok.jpg", b"x.jpg"]
    assert counts.ignored == 0 and reason in why(path, b"x.jpg")


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_a_sparse_member_is_a_failure_by_its_name_and_its_neighbours_are_not(
    tmp_path: Path, form: str
) -> None:
    with (tmp_path / "holes.jpg").open("wb") as file:
        for place in range(0, 60 << 16, 1 << 16):  # more pieces than a header of the old form has room for
            file.seek(place)
            file.write(b"x")
        file.truncate(4 << 20)
    for name in ("a.jpg", "z.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    options = ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form}"]
    command = ["tar", "cf", "a.tar", "--sparse", *options, "a.jpg", "holes.jpg", "z.jpg"]
    subprocess.run(command, cwd=tmp_path, check=True)
    path = tmp_path / "a.tar"
    sizes = {one.key.member: one.size for one in found_in(path)}
    assert sizes == {b"a.jpg": 5, b"holes.jpg": 4 << 20, b"z.jpg": 5}
    assert why(path, b"holes.jpg") == "a sparse file in its archive; pack it without --sparse"
    assert read_member(path, b"z.jpg") == b"z.jpg"


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_that_ends_at_a_members_edge_is_cut(tmp_path: Path, kind: int) -> None:
    path, whole = tmp_path / "a.tar", numbered(tmp_path / "a.tar", 20, kind)
    path.write_bytes(whole[: 17 * 2 * BLOCK])
    assert members_of(path) == [None, *(b"%02d.jpg" % n for n in range(17))]
    assert why(path, None) == "cut off after 17 images: the block that ends a tar is missing"
    for blocks in (1, 2):  # readers take one block of zeros for the end
        path.write_bytes(whole[: (20 * 2 + blocks) * BLOCK])
        assert len(members_of(path)) == 20 and None not in members_of(path)


def test_what_is_left_over_after_the_end_of_a_tar_is_said_and_zeros_are_not(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.tar", numbered(tmp_path / "a.tar", 2)
    path.write_bytes(whole + bytes(50_000))
    assert members_of(path) == [b"00.jpg", b"01.jpg"]
    make_tar(tmp_path / "b.tar", [(b"vanished.jpg", b"2")])
    path.write_bytes(whole + (tmp_path / "b.tar").read_bytes())
    assert members_of(path) == [None, b"00.jpg", b"01.jpg"]
    assert why(path, None).startswith("10,240 bytes left over after its end are not read")


@pytest.mark.parametrize("damage", [b"\xff" * 40, b"\0" * BLOCK], ids=["noise", "zeros"])
@pytest.mark.parametrize("at", [0, 3])
def test_a_damaged_header_costs_its_own_member_alone(tmp_path: Path, at: int, damage: bytes) -> None:
    path, data = tmp_path / "a.tar", bytearray(numbered(tmp_path / "a.tar", 5))
    data[at * 2 * BLOCK : at * 2 * BLOCK + len(damage)] = damage
    path.write_bytes(data)
    assert members_of(path) == [None, *(b"%02d.jpg" % n for n in range(5) if n != at)]
    assert why(path, None) == f"damaged or cut off after {at} images"


@pytest.mark.parametrize("size", [2**64, 2**70, 2**63 - 1, 2**40])
def test_an_impossible_size_costs_its_own_member_alone(tmp_path: Path, size: int) -> None:
    path, data = tmp_path / "a.tar", numbered(tmp_path / "a.tar", 5)
    header = tarfile.TarInfo("huge.jpg")
    header.size = size
    path.write_bytes(data[: 2 * BLOCK] + header.tobuf(tarfile.GNU_FORMAT) + data[2 * BLOCK :])
    sizes = {one.key.member: one.size for one in found_in(path)}
    assert list(sizes) == [None, *(b"%02d.jpg" % n for n in range(5)), b"huge.jpg"]
    assert sizes[b"huge.jpg"] == min(size, 2**64 - 1)
    assert "over the limit" in why(path, b"huge.jpg")
    assert read_member(path, b"04.jpg") == b"4"


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "-5"},
        {"size": "18446744073709551616"},
        {"GNU.sparse.size": "many"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
    ],
)
def test_a_member_with_senseless_numbers_costs_its_own_place_alone(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.jpg", "bad.jpg", "z.jpg"):
            info = tarfile.TarInfo(name)
            info.pax_headers, info.size = (headers if name == "bad.jpg" else {}), 1000
            tar.addfile(info, io.BytesIO(bytes(1000)))
    names = members_of(path)
    assert names[0] is None and {b"a.jpg", b"z.jpg"} <= set(names)
    assert why(path, None).startswith("damaged or cut off after ")


def test_a_thousand_headers_before_one_end_neither_the_walk_nor_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    header = tarfile.TarInfo("long")
    header.type = tarfile.XHDTYPE
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) * 5000 + numbered(tmp_path / "b.tar", 2))
    assert members_of(path)[-1] == b"01.jpg" and None in members_of(path)
