"""Guides are kept by their content, under a plain name, within bounds; what is no image leaves no file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfgdata.errors import ConfigError, ContentError, RunError
from pfgdata.records import content_id
from pfgtrain.web import Bounds
from pfgtrain.web.guides import Shelf, plain_name
from tests.pfgtrain.web.conftest import picture


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("cat.png", "cat.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\cat.png", "cat.png"),
        ("..", "guide"),
        ("", "guide"),
        (".bashrc", "bashrc"),
        ("a\0b\nc\u202egnp.exe", "a_b_c_gnp.exe"),
        ("<img src=x onerror=alert(1)>.png", "_img src=x onerror=alert(1)_.png"),
        ("\udcff.png", "png"),
        ("あ" * 200 + ".png", "あ" * 40 + ".png"),
        ("x." + "y" * 200, "x." + "y" * 118),
    ],
)
def test_a_name_is_one_that_every_system_takes(name: str, plain: str) -> None:
    assert plain_name(name) == plain
    assert len(plain.encode()) < 150


def shelf(folder: Path, **bounds: int) -> Shelf:
    return Shelf(folder, bounds=Bounds(**bounds))


def test_a_guide_is_kept_once_by_its_content_and_keeps_its_bytes_and_name(tmp_path: Path) -> None:
    data = picture()
    first = shelf(tmp_path).keep(data, "one.png")
    assert first.path == tmp_path / content_id(data).hex() / "one.png"
    assert first.path.read_bytes() == data
    assert (first.width, first.height) == (40, 30)
    assert first.thumbnail.startswith(b"\xff\xd8")
    again = shelf(tmp_path)
    assert again.keep(data, "two.png").path == again.keep(data, "three.png").path == first.path
    assert len(again) == 1


def test_a_guide_whose_file_was_deleted_is_kept_again(tmp_path: Path) -> None:
    first = shelf(tmp_path).keep(picture(), "one.png")
    first.path.unlink()
    assert shelf(tmp_path).keep(picture(), "two.png").path.read_bytes() == picture()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><script>alert(1)</script>",
        picture()[:200],
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\x02\0\0\0" + b"\0" * 40,  # 65,536 a side
    ],
)
def test_what_is_no_image_is_refused_by_its_name_and_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ContentError, match=r"^odd\.png: no image that can be used") as caught:
        shelf(tmp_path).keep(data, "odd.png")
    assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.rglob("*")) == []


def test_bounds_of_bytes_of_number_and_of_the_folder_are_kept(tmp_path: Path) -> None:
    size = len(picture())
    with pytest.raises(ConfigError, match="MB; 0 at most"):
        shelf(tmp_path, upload=size - 1).keep(picture(), "a.png")
    few = shelf(tmp_path, guides=2)
    kept = [few.keep(picture(seed), "a.png") for seed in range(2)]
    with pytest.raises(ConfigError, match="2 guides are here; remove some first"):
        few.keep(picture(2), "a.png")
    assert few.remove(kept[0].id) and not few.remove(kept[0].id)
    few.keep(picture(2), "a.png")
    assert kept[0].path.is_file()  # a command may name it
    with pytest.raises(ConfigError, match="of guides; delete those"):
        shelf(tmp_path, guide_bytes=3 * size).keep(picture(9), "a.png")  # those of sessions before count


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="choose another --out"):
        shelf(tmp_path / "file" / "guides").keep(picture(), "a.png")
