"""The pixels of one image: rows by their content from any of their files, files by name, what hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pfgdata.corpus import ReadImage, read_image, read_images
from pfgdata.errors import AccessError, ContentError, ImageError
from pfgdata.records import ImageKey, StoredImage, content_id
from tests.conftest import make_images


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """What was left behind has ended before the next test counts threads."""
    yield
    while any(thread.name.startswith("pfg-pool") for thread in threading.enumerate()):
        time.sleep(0.01)


def stored(path: Path, *names: str) -> StoredImage:
    """The image at `path` as a store has it: in the root "old" by `names`, the latest first."""
    data = path.read_bytes()
    keys = tuple(ImageKey(root="old", path=name.encode()) for name in names or (path.name,))
    return StoredImage(content_id=content_id(data), keys=keys, size=len(data), width=24, height=32)


def test_a_row_is_read_from_the_first_of_its_files_that_has_its_bytes(tmp_path: Path) -> None:
    one, other = make_images(tmp_path, 2)
    image = stored(one, "gone.png", other.name, one.name)
    found = read_image(image, roots={"old": str(tmp_path)})
    assert (found.content_id, found.file) == (image.content_id, "old/0000.png")
    np.testing.assert_array_equal(found.pixels, np.asarray(Image.open(one)))


def test_a_row_without_its_bytes_has_the_reason_of_its_last_file(tmp_path: Path) -> None:
    one, other = make_images(tmp_path, 2)
    roots = {"old": str(tmp_path)}
    with pytest.raises(AccessError, match=r"old/0001\.png: cannot be read \(changed since its ingest"):
        read_image(stored(one, "gone.png", other.name), roots=roots)
    with pytest.raises(AccessError, match=r"old/gone\.png: cannot be read \(gone, or a link to nothing\)"):
        read_image(stored(one, other.name, "gone.png"), roots=roots)


def test_a_row_and_a_file_are_read_behind_a_link_out_of_their_folder(tmp_path: Path) -> None:
    (path,) = make_images(tmp_path / "elsewhere", 1)
    (tmp_path / "root").mkdir()
    link = tmp_path / "root" / "0000.png"
    link.symlink_to(path)
    for image in (stored(path), link):
        assert read_image(image, roots={"old": str(tmp_path / "root")}).pixels.shape == (32, 24, 3)


def test_a_file_is_what_its_bytes_are_whatever_its_name(tmp_path: Path) -> None:
    (path,) = make_images(tmp_path, 1)
    odd = path.rename(tmp_path / "photo.zip")
    assert read_image(odd).file == str(odd)
    odd.write_bytes(b"no image")
    with pytest.raises(ContentError, match=r"photo\.zip: no image that can be used \(no image of a known"):
        read_image(odd)
    with pytest.raises(AccessError, match=r"a folder, no plain file"):
        read_image(tmp_path)


def test_one_that_hangs_is_left_behind_in_its_turn_with_the_words_of_an_ingest(tmp_path: Path) -> None:
    paths, free = make_images(tmp_path, 5), threading.Event()
    images = [stored(path) for path in paths]
    roots = {"old": str(tmp_path)}

    def prepare(read: ReadImage) -> str:
        file = read.file
        if file.endswith(("0001.png", "0002.png")):
            free.wait(60)
        return file

    results = list(read_images(images, prepare, roots=roots, threads=2, ahead=4, seconds=0.3))
    free.set()
    assert [image for image, _ in results] == images
    stuck = [result for _, result in results if isinstance(result, ImageError)]
    assert [(problem.kind, str(problem), problem.file) for problem in stuck] == [
        ("access", "decoding took over 0.3 s", f"old/000{number}.png") for number in (1, 2)
    ]
    assert [result for _, result in results if isinstance(result, str)] == [
        f"old/000{number}.png" for number in (0, 3, 4)
    ]


def test_a_guide_has_its_time_too(tmp_path: Path) -> None:
    Image.new("RGB", (8_000, 8_000)).save(tmp_path / "scan.png", compress_level=1)
    with pytest.raises(AccessError, match=r"scan\.png: cannot be read \(\w+ing took over 0\.1 s\)"):
        read_image(tmp_path / "scan.png", seconds=0.1)


def test_one_that_takes_more_memory_than_there_is_fails_alone(tmp_path: Path) -> None:
    images = [stored(path) for path in make_images(tmp_path, 3)]

    def prepare(read: ReadImage) -> int:
        if read.file.endswith("0001.png"):
            return len(np.empty(1 << 60, np.uint8))
        return 1

    results = [r for _, r in read_images(images, prepare, roots={"old": str(tmp_path)}, threads=1, ahead=3)]
    assert [str(result) for result in results] == ["1", "out of memory while decoding", "1"]
