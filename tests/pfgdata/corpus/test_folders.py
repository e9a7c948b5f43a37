"""The walk: the stable order, what is an image by name, links, and what cannot be read."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pfgdata.corpus import Segment, WalkCounts, WalkOptions, read, walk, walk_chunks
from pfgdata.records import ImageKey


def touch(folder: Path, *names: str | bytes) -> None:
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def paths(
    folder: Path, *, counts: WalkCounts | None = None, prefix: bytes = b"", exclude: tuple[bytes, ...] = ()
) -> list[bytes]:
    starts = (prefix + b"/" if prefix else b"",)
    segment = Segment(root="/corpus", location=folder, starts=starts, exclude=frozenset(exclude))
    return [found.key.path for found in walk(segment, counts=counts or WalkCounts())]


def test_the_order_is_that_of_whole_paths(tmp_path: Path) -> None:
    names = [
        "a/b.jpg",
        "a/b/c.jpg",
        "a.png/x.jpg",
        "a-b.jpg",
        "a.jpg",
        "a/b-c/d.png",
        "a0.jpg",
        "B.jpg",
        "é.jpg",
    ]
    touch(tmp_path, *names)
    assert paths(tmp_path) == sorted(map(os.fsencode, names))


name = st.lists(st.sampled_from(list(b"ab-./0\xff \n")), min_size=1, max_size=6).map(bytes)


@given(st.sets(name, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_tree_is_walked_in_the_order_of_its_sorted_paths(names: set[bytes]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        made = set()
        for path in names:
            parts = [part for part in path.split(b"/") if part and not part.startswith(b".")]
            if parts:
                touch(folder, b"/".join(parts) + b".jpg")
                made.add(b"/".join(parts) + b".jpg")
        assert paths(folder) == sorted(made)
    finally:
        shutil.rmtree(folder)


def test_a_folder_with_the_name_of_an_image_stands_at_its_place(tmp_path: Path) -> None:
    names = ["a.jpg", "b.jpg!.jpg", "b.jpg/x.png", "c.jpg/d.jpg/y.png", "c.jpg0.jpg", "z.jpg"]
    touch(tmp_path, *names)
    counts = WalkCounts()
    assert paths(tmp_path, counts=counts) == sorted(map(os.fsencode, names))
    (tmp_path / "z.jpg").unlink()
    (tmp_path / "z.jpg").symlink_to("a.jpg")
    segment = Segment(root="/r", location=tmp_path)
    for rows in (1, 2, 3, 100):
        chunks = list(walk_chunks(segment, counts=counts, rows=rows))
        assert [path for chunk in chunks for path in chunk.paths] == sorted(map(os.fsencode, names))
        assert {len(chunk) for chunk in chunks[:-1]} <= {rows}
    assert counts.ignored == 0


def test_a_found_file_has_its_key_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(b"12345")
    os.utime(tmp_path / "one.jpg", ns=(5, 1_234_567_890_123_456_789))
    (found,) = walk(Segment(root="/was/here", location=tmp_path), counts=WalkCounts())
    assert (found.key.root, found.key.path, found.key.member) == ("/was/here", b"one.jpg", None)
    assert (found.size, found.mtime_ns) == (5, 1_234_567_890_123_456_789)


def test_what_is_no_image_by_name_is_counted_as_ignored(tmp_path: Path) -> None:
    images = [
        "a.jpg",
        "b.JPEG",
        "c.PnG",
        "d.webp",
        "e.gif",
        "f.bmp",
        "g.tif",
        "h.tiff",
        "i.avif",
        "j.jfif",
        "k.heic",
        "l.jxl",
    ]
    others = [
        "t.txt",
        "jpg",
        "x.jpg.part",
        "y.png.crdownload",
        ".hidden.jpg",
        "._a.jpg",
        "Thumbs.db",
        "z.jpg~",
        "n.",
    ]
    touch(
        tmp_path,
        *images,
        *others,
        ".hidden/inside.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/a.jpg",
    )
    counts = WalkCounts()
    assert paths(tmp_path, counts=counts) == [os.fsencode(name) for name in images]
    assert (counts.found, counts.ignored) == (
        len(images),
        len(others) + 3,
    )  # a folder passed over counts once


def test_names_that_are_not_utf_8_survive_as_bytes(tmp_path: Path) -> None:
    names = [b"bad_\xff\xfe.jpg", b"new\nline.jpg", b"sjis_\x83e.jpg", "初音.jpg".encode()]
    touch(tmp_path, *names)
    assert paths(tmp_path) == sorted(names)


def test_links_are_rows_inside_the_root_and_ignored_out_of_it(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root2"  # a prefix of its name is not inside it
    touch(root, "real/a.jpg", "in_link.jpg")
    touch(outside, "private.png")
    (root / "inside.jpg").symlink_to("real/a.jpg")
    (root / "outside.png").symlink_to(outside / "private.png")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "folder").symlink_to("real")
    (root / "folder.jpg").symlink_to("real")
    (root / "loop").symlink_to(".")
    counts = WalkCounts()
    assert paths(root, counts=counts) == [b"device.png", b"in_link.jpg", b"inside.jpg", b"real/a.jpg"]
    assert (counts.found, counts.ignored, counts.links) == (4, 0, 4)


def test_a_corpus_behind_a_link_has_its_links_inside(tmp_path: Path) -> None:
    touch(tmp_path / "real", "a.jpg")
    (tmp_path / "real" / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert paths(tmp_path / "link") == [b"a.jpg", b"b.jpg"]


def test_what_is_no_plain_file_is_found_unopened_and_fails_later(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "sock.png"))
    found = {f.key.path: f.size for f in walk(Segment(root="/r", location=tmp_path), counts=WalkCounts())}
    assert found == {b"pipe.jpg": 0, b"dangling.jpg": 0, b"self.jpg": 0, b"sock.png": 0}


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    counts = WalkCounts()
    assert paths(tmp_path, counts=counts, prefix=b"gone") == []
    assert counts.unreadable == [os.fsencode(tmp_path / "gone")]


def test_a_folder_without_permission_is_named_and_the_walk_goes_on(closed_to_us: Path) -> None:
    touch(closed_to_us, "closed/x.jpg", "open/y.jpg")
    (closed_to_us / "closed").chmod(0)
    counts = WalkCounts()
    assert paths(closed_to_us, counts=counts) == [b"open/y.jpg"]
    assert counts.unreadable == [os.fsencode(closed_to_us / "closed")]
    (closed_to_us / "closed").chmod(0o700)


def test_a_prefix_walks_a_part_and_excluded_folders_are_left_to_others(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "a/b2/4.jpg", "z.jpg")
    assert paths(tmp_path, prefix=b"a/b") == [b"a/b/2.jpg", b"a/b/c/3.jpg"]
    counts = WalkCounts()
    assert paths(tmp_path, exclude=(b"a/b",), counts=counts) == [b"a/1.jpg", b"a/b2/4.jpg", b"z.jpg"]
    assert counts.ignored == 0


def test_a_walk_is_a_stream(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    walked = walk(Segment(root="/r", location=tmp_path), counts=WalkCounts())
    assert next(walked).key.path == b"a/1.jpg"
    touch(tmp_path, "b/3.jpg")  # b has not been listed yet
    assert [found.key.path for found in walked] == [b"b/2.jpg", b"b/3.jpg"]


def test_a_deep_tree_is_walked_to_its_end(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 200) + "/deep.jpg"
    touch(tmp_path, deep)
    assert paths(tmp_path) == [deep.encode()]


def test_unfinished_downloads_are_ignored_with_the_image_they_will_be(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.jpg.aria2", "b.png", "b.png.part", "c.jpg", "c.jpg.tmp", "d.jpg.crdownload")
    touch(tmp_path, "e.jpg.download/e.jpg", "f.download/f.jpg", "a/a.jpg")
    counts = WalkCounts()
    assert paths(tmp_path, counts=counts) == [b"a/a.jpg", b"c.jpg", b"f.download/f.jpg"]
    assert counts.ignored == 7
    assert counts.passed == {os.fsencode(tmp_path / name) for name in ("a.jpg", "b.png")}


def test_links_are_followed_if_asked_for_and_loops_end(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "a/1.jpg")
    touch(outside, "2.jpg", "deep/3.jpg")
    (root / "out.jpg").symlink_to(outside / "2.jpg")
    (root / "out").symlink_to(outside)
    (root / "a" / "up").symlink_to("..")
    (outside / "back").symlink_to(root / "a")
    (outside / "deep" / "up").symlink_to("..")
    counts = WalkCounts()
    segment = Segment(root="/r", location=root, options=WalkOptions(follow_links=True))
    found = [one.key.path for one in walk(segment, counts=counts)]
    assert found == [b"a/1.jpg", b"out.jpg", b"out/2.jpg", b"out/back/1.jpg", b"out/deep/3.jpg"]
    assert counts.links == 3
    for path in found:
        assert read(root, ImageKey(root="/r", path=path), follow_links=True).data == b"x"
