"""Headers read by hand give what tarfile gives: for every kind of tar, and for tars that are not whole."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from pfgdata.corpus.members import Index
from pfgdata.corpus.plain_headers import read_plain_headers
from pfgdata.corpus.tars import index_tar

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "/".join(["folder" * 8] * 3)


def indexed(data: bytes, path: Path, *, by_hand: bool) -> tuple[bool, Index]:
    path.write_bytes(data)
    index = Index()
    with path.open("rb") as file:
        return index_tar(file, index, by_hand=by_hand), index


def same(data: bytes, path: Path) -> Index:
    """The index, which is the same by both ways."""
    quick, slow = (indexed(data, path, by_hand=way) for way in (True, False))
    assert quick == slow
    return quick[1]


def by_hand(data: bytes, path: Path) -> int:
    """How many members of a tar need no tarfile."""
    path.write_bytes(data)
    index = Index()
    with path.open("rb") as file:
        read_plain_headers(file, index)
    return len(index.members)


def drawn(seed: int, kind: int, *, odd: bool) -> bytes:
    """A tar of some members, `odd` ones among them."""
    chance = random.Random(seed)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=kind) as tar:
        for number in range(chance.randrange(1, 12)):
            size = chance.choice([0, 1, 511, 512, 513, 5000, 70_000])
            info = tarfile.TarInfo(f"{'ä' * (chance.random() < 0.1)}{number}/{number}.jpg")
            info.size, info.mtime = size, chance.choice([0, 1_700_000_000, 1_700_000_000.25])
            info.uname = chance.choice(["", "me", "größe"])
            if odd and chance.random() < 0.5:
                what = chance.randrange(7)
                info.type = {
                    0: tarfile.DIRTYPE,
                    1: tarfile.SYMTYPE,
                    2: tarfile.LNKTYPE,
                    3: tarfile.FIFOTYPE,
                }.get(what, tarfile.REGTYPE)
                info.linkname = "0/0.jpg" if what in (1, 2) else ""
                info.size = 0 if what < 4 else size
                if what == 4 and kind != tarfile.USTAR_FORMAT:
                    info.name = f"{LONG}/{number}.jpg"
                if what == 5:
                    info.name = "0/0.jpg"  # again
                if what == 6 and kind != tarfile.USTAR_FORMAT:
                    info.uid = 10**9
            tar.addfile(info, io.BytesIO(chance.randbytes(info.size)))
    return data.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("odd", [False, True])
def test_tars_of_all_kinds(tmp_path: Path, kind: str, odd: bool) -> None:
    for seed in range(60):
        index = same(drawn(seed, FORMATS[kind], odd=odd), tmp_path / "a.tar")
        assert index.problem is None


@pytest.mark.parametrize("kind", FORMATS)
def test_tars_that_are_cut_off_or_damaged(tmp_path: Path, kind: str) -> None:
    for seed in range(120):
        chance, data = random.Random(seed), bytearray(drawn(seed, FORMATS[kind], odd=seed % 2 == 0))
        if chance.random() < 0.5:
            data = data[: chance.randrange(1, len(data))]
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data)) // 512 * 512 + chance.randrange(512)
            data[min(at, len(data) - 1)] = chance.choice([0, 32, 48, 57, 255, chance.randrange(256)])
        same(bytes(data), tmp_path / "a.tar")


@pytest.mark.parametrize(
    "place", [0, 100, 107, 108, 116, 124, 135, 136, 148, 154, 155, 156, 157, 257, 263, 265, 329, 345]
)
def test_each_field_of_a_header(tmp_path: Path, place: int) -> None:
    plain = drawn(3, tarfile.USTAR_FORMAT, odd=False)
    for value in (0, 32, 47, 48, 53, 56, 65, 103, 120, 128, 255):
        data = bytearray(plain)
        data[place] = value
        same(bytes(data), tmp_path / "a.tar")  # its checksum is wrong
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        same(bytes(data), tmp_path / "a.tar")


def test_what_tar_and_python_write_by_themselves_needs_no_tarfile(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "in" / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"{number % 2}" / f"{number}.jpg").write_bytes(b"x" * 400 * number)
    for options in ([], ["--format=ustar"], ["--format=pax"]):
        subprocess.run(["tar", "cf", "a.tar", *options, "in"], cwd=tmp_path, check=True)
        data = (tmp_path / "a.tar").read_bytes()
        assert by_hand(data, tmp_path / "b.tar") == len(same(data, tmp_path / "b.tar").members) == 5
    with tarfile.open(tmp_path / "c.tar", "w") as tar:  # with times of nanoseconds, in a header of their own
        tar.add(tmp_path / "in", "in")
    data = (tmp_path / "c.tar").read_bytes()
    assert by_hand(data, tmp_path / "b.tar") == len(same(data, tmp_path / "b.tar").members) == 5
